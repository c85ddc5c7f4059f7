import CLinux
import ContainerLaunch
import Glibc
import JobModel
import JobWire
import LinuxSystem

/// The agent's socket for ranks' shims and launchers' remote shells, in the container's own `/.trireme`: what
/// runs in another container, of the same user too, does not reach it. A job without a container has it in the
/// user's directory on the node.
///
/// Only processes of the job's own user are served; the kernel tells us who they are (SO_PEERCRED).
final class LocalService {
    private let socket: OwnedDescriptor
    private(set) var listener: RestingListener
    private(set) var clients: [UInt32: Client] = [:]
    private var nextID: UInt32 = 1

    final class Client {
        let connection: Connection
        /// The rank whose shim this is.
        var rank: Int?
        var hasReportedExit = false
        var asksForRemote = false
        init(_ connection: Connection) { self.connection = connection }
    }

    /// Above any sensible number of ranks on one node.
    private static let clientLimit = 4096

    /// Where it is inside a container.
    static let path = ContainerPreparation.directory + "/socket"

    /// Where a job without a container has it.
    private var place: MeetingPlace?
    private let outsideName: CString
    private var lock: OwnedDescriptor?

    /// Call inside the container, where there is one.
    init(key: String, hasContainer: Bool) throws(AgentFailure) {
        outsideName = AgentAddress.service(key)
        let socket = UnixSocket.make(isBlocking: false)
        guard socket >= 0 else { throw AgentFailure(step: "socket", subject: Self.path) }
        self.socket = OwnedDescriptor(owning: socket)
        listener = RestingListener(socket)
        if hasContainer {
            guard UnixSocket.bind(socket, to: Self.path) else { throw AgentFailure(step: "bind", subject: Self.path) }
        } else {
            try bindOutside(socket)
        }
        guard listen(socket, 1024) == 0 else { throw AgentFailure(step: "listen", subject: Self.path) }
    }

    private func bindOutside(_ socket: Int32) throws(AgentFailure) {
        guard let place = MeetingPlace(UnsafePointer(linux_environ())) else { throw .noPlaceForSockets }
        let held = place.lock(outsideName)
        guard held >= 0, place.bind(socket, to: outsideName) else {
            throw AgentFailure(step: "bind", subject: String(cString: outsideName))
        }
        self.place = place
        lock = OwnedDescriptor(owning: held)
    }

    deinit { place?.remove(outsideName) }

    func accept() {
        while true {
            let socket = listener.accept(isBlocking: false)
            if socket < 0 { return }
            let owned = OwnedDescriptor(owning: socket)
            var pid: pid_t = 0
            var uid: uid_t = 0
            var gid: gid_t = 0
            guard linux_peer_credentials(socket, &pid, &uid, &gid) == 0, uid == geteuid(),
                clients.count < Self.clientLimit
            else { continue }
            clients[nextID] = Client(Connection(owned))
            nextID += 1
        }
    }

    /// A client that asked for a remote command is known to the leader by its id here.
    func client(ofRequest id: UInt32) -> Client? { clients[id] }

    func remove(_ id: UInt32) { clients[id] = nil }

    func flushAll() { for client in clients.values { client.connection.flush() } }

    /// Lets the shims of failed ranks end.
    func releaseAll() {
        for client in clients.values where client.rank != nil { client.connection.send(.release) }
        flushAll()
    }
}

extension Agent {
    func receiveFromClient(_ id: UInt32) {
        guard let service, let client = service.clients[id] else { return }
        client.connection.flush()
        do throws(WireFailure) {
            for message in try client.connection.receive() { handle(message, from: client, id) }
        } catch { client.connection.close() }
        client.connection.flush()
        if client.connection.isClosed { drop(client, id) }
    }

    private func handle(_ message: WireMessage, from client: LocalService.Client, _ id: UInt32) {
        switch message {
        case .rankJoining(let rank):
            client.rank = rank
            welcome(client, rank)
        case .rankStarted(let rank, _, let pid):
            // kill(-1) and kill(0) would mean every process of the user, and ourselves.
            guard pid > 1 else { return client.connection.close() }
            ranks[rank] = pid_t(pid)
            leader.send(message)
        case .rankUsage: leader.send(message)
        case .rankExited(let rank, let status):
            drainRankOutputs(of: rank)
            reportMemoryKills(rank: rank, status)
            ranks[rank] = nil
            client.hasReportedExit = true
            leader.send(message)
        case .rankRefused(let rank, _, _):
            ranks[rank] = nil
            client.hasReportedExit = true
            leader.send(message)
        case .remote(_, let command):
            client.asksForRemote = true
            leader.send(.remote(channel: id, command))
        case .input(_, let bytes) where client.asksForRemote: leader.send(.input(channel: id, bytes: bytes))
        case .taken(_, let count) where client.asksForRemote: leader.send(.taken(channel: id, count: count))
        default: client.connection.close()
        }
    }

    /// Gives a rank its output pipes. The agent reads them itself: what a rank wrote is not lost
    /// when its launcher kills the shim, and does not mix with what the launcher says.
    private func welcome(_ client: LocalService.Client, _ rank: Int) {
        guard let job, rankOutputs.filter({ $0.rank == rank }).isEmpty,
            let streams = try? RankStreams(takesInput: rank == 0, terminal: rank == 0 ? terminal : nil)
        else { return client.connection.close() }
        var answer: [UInt8] = []
        WireMessage.node(environment: ContainerPreparation.nodeVariables(job), size: job.size, store: job.store)
            .frame.append(to: &answer)
        // The job's standard input is rank 0's, the others read nothing. Hydra would leave them a pipe that
        // never ends, and gives up when rank 0 reads slower than it sends.
        if rank == 0 {
            rankInput.attach(streams.input)
            flushInput(Self.rankInputChannel)
        }
        let descriptors = streams.theirs + (containers.map { [$0.file] } ?? [])
        let n = linux_send_descriptors(
            client.connection.descriptor.raw, answer, answer.count, descriptors, Int32(descriptors.count))
        streams.closeTheirs()
        if n != answer.count { client.connection.close() }
        for pipe in streams.outputs(job.labelsOutput ? LineLabeler(rank: rank) : nil) {
            rankOutputs.append(RankOutput(rank: rank, pipe: pipe))
        }
    }

    /// Takes what the clients still have to say; the last words of stopped ranks.
    func hearClientsOut() {
        for id in service?.clients.keys.sorted() ?? [] { receiveFromClient(id) }
    }

    private func drop(_ client: LocalService.Client, _ id: UInt32) {
        service?.remove(id)
        if let rank = client.rank, !client.hasReportedExit, ranks[rank] != nil {
            // The shim is gone and its rank with it (parent-death signal): somebody killed them.
            drainRankOutputs(of: rank)
            ranks[rank] = nil
            reportMemoryKills(rank: rank, .signaled(SIGKILL))
            leader.send(.rankExited(rank: rank, .signaled(SIGKILL)))
        }
        if client.asksForRemote { leader.send(.hangUp(channel: id)) }
    }
}
