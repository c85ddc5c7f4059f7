import CLinux
import Glibc
import JobWire
import LinuxSystem
import Processes

/// The PMIx server of a node's ranks: the program trireme-pmix beside them in the container, which serves
/// them through the image's own libpmix (Sources/PMIxServer). Here is its link to the job: what a fence
/// gathers and what single ranks published goes through the agents to the other nodes.
final class PMIxManagement {
    enum Effect: Equatable {
        /// Ranks may start.
        case ready
        /// A rank has connected to it.
        case connected
        case fence([UInt8])
        case wanted(ticket: Int, rank: Int)
        case modex(ticket: Int, status: Int, bytes: [UInt8])
        /// It ended; no rank can start, or go on for long.
        case failed(reason: String)
    }

    /// Where the container shows the program.
    static let program = ContainerPreparation.directory + "/pmix"

    /// Ranks that wait until it is ready.
    var pending: [(channel: UInt32, launch: Launch, input: InputPipe)] = []
    private(set) var isReady = false
    /// To the program; -1 once it has ended.
    private(set) var socket: Int32
    /// What it says on standard error; -1 at its end.
    private(set) var complaints: Int32
    private var said: [UInt8] = []
    private var decoder = FrameDecoder()
    private var environments: [Int: [[UInt8]]] = [:]

    private enum Kind {
        static let environment = UInt16(UInt8(ascii: "E"))
        static let ready = UInt16(UInt8(ascii: "R"))
        static let connected = UInt16(UInt8(ascii: "C"))
        static let fence = UInt16(UInt8(ascii: "F"))
        static let wanted = UInt16(UInt8(ascii: "D"))
        static let modex = UInt16(UInt8(ascii: "d"))
        static let abort = UInt16(UInt8(ascii: "A"))
    }

    private static let saidBytes = 4096

    /// - Parameters:
    ///   - library: libpmix, a path in the image.
    ///   - container: what the program is started in; nil where the agent itself is in the container.
    init(
        _ job: JobAssignment, library: String, environment: [[UInt8]], container: RankContainer?
    ) throws(SyscallError) {
        var ends: [Int32] = [-1, -1]
        try checked("socketpair") {
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
        }
        let said = try PipeEnds()
        let null = open("/dev/null", O_WRONLY | O_CLOEXEC)
        defer { for end in [ends[1], said.write, null] { close(end) } }
        (socket, complaints) = (ends[0], said.read)
        _ = linux_fcntl_int(complaints, F_SETFL, Int(O_NONBLOCK))
        // Nodes without ranks, always the last, are nothing to it.
        let counts = job.ranksPerNode.prefix { $0 > 0 }
        let words = [
            Self.program, library, "trireme.\(job.jobID)", "\(job.nodeIndex)",
            job.nodeNames.prefix(counts.count).joined(separator: ","),
            counts.map { "\($0)" }.joined(separator: ","), ContainerPreparation.directory,
        ]
        _ = try ChildProcess.start(
            words.map { Array($0.utf8) }, in: container, own: [], environment: environment,
            streams: .init(input: ends[1], output: null, error: said.write))
    }

    deinit {
        if socket >= 0 { close(socket) }
        if complaints >= 0 { close(complaints) }
    }

    /// What the library wants `rank` to know, and what keeps its MPI from what does not fit containers.
    func environment(of rank: Int) -> [[UInt8]] {
        (environments[rank] ?? []) + [
            // Open MPI 4 asks for PMIx only under a launcher it knows: under IBM's JSM, which likewise starts
            // ranks with PMIx and nothing else, a port of its own says so. Without it every rank runs alone.
            Array("JSM_JSRUN_PORT=0".utf8),
            // Bound by core, ranks of virtual nodes all land on processor 0.
            Array("OMPI_MCA_hwloc_base_binding_policy=none".utf8),
            // Session files in the container's private memory: nothing is left in /tmp by a kill.
            Array("OMPI_MCA_orte_tmpdir_base=\(ContainerPreparation.directory)".utf8),
        ]
    }

    // MARK: What it says

    func readComplaints() {
        var bytes = [UInt8](repeating: 0, count: 4096)
        while complaints >= 0 {
            let count = read(complaints, &bytes, bytes.count)
            if count > 0 {
                said = Array((said + bytes[..<count]).suffix(Self.saidBytes))
            } else if count == 0 {
                close(complaints)
                complaints = -1
            } else if errno != EINTR {
                return
            }
        }
    }

    /// Call when the socket has something.
    func receive() -> [Effect] {
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(socket, &bytes, bytes.count)
        if count < 0, errno == EINTR { return [] }
        guard count > 0 else { return [ended()] }
        bytes.withUnsafeBytes { decoder.add(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        var effects: [Effect] = []
        do throws(WireFailure) {
            while let frame = try decoder.next() { if let effect = take(frame) { effects.append(effect) } }
        } catch { effects.append(ended()) }
        return effects
    }

    private func take(_ frame: Frame) -> Effect? {
        let ticket = Int(frame.channel)
        switch frame.kind {
        case Kind.environment:
            environments[ticket] = frame.payload.split(separator: 0).map(Array.init)
            return nil
        case Kind.ready:
            isReady = true
            return .ready
        case Kind.connected: return .connected
        case Kind.fence: return .fence(frame.payload)
        case Kind.wanted:
            return Self.number(frame.payload).map { .wanted(ticket: ticket, rank: $0) }
        case Kind.modex:
            return Self.number(frame.payload).map {
                .modex(ticket: ticket, status: $0, bytes: Array(frame.payload.dropFirst(4)))
            }
        // The rank exits with that code by itself, and a failing rank ends the job.
        default: return nil
        }
    }

    private func ended() -> Effect {
        // What it said last may arrive after its end of the socket closed.
        var slot = pollfd(fd: complaints, events: Int16(POLLIN), revents: 0)
        if complaints >= 0 { poll(&slot, 1, 1000) }
        readComplaints()
        close(socket)
        socket = -1
        let last = String(decoding: said, as: UTF8.self).split(separator: "\n").last.map(String.init)
        return .failed(reason: last ?? "the PMIx server of the image's library ended without a word")
    }

    // MARK: What it is told

    /// Every node's contribution, in the order of the nodes.
    func fenceDone(_ contributions: [[UInt8]]) { send(Kind.fence, 0, contributions.flatMap { $0 }) }

    func wanted(ticket: Int, rank: Int) { send(Kind.wanted, ticket, Self.bytes(rank)) }

    func modex(ticket: Int, status: Int, bytes: [UInt8]) { send(Kind.modex, ticket, Self.bytes(status) + bytes) }

    private func send(_ kind: UInt16, _ ticket: Int, _ content: [UInt8]) {
        guard socket >= 0 else { return }
        var bytes: [UInt8] = []
        Frame(kind: kind, channel: UInt32(truncatingIfNeeded: ticket), payload: content).append(to: &bytes)
        RemoteShell.writeAll(socket, bytes)
    }

    private static func bytes(_ number: Int) -> [UInt8] {
        withUnsafeBytes(of: Int32(truncatingIfNeeded: number).littleEndian) { Array($0) }
    }
    private static func number(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        return Int(bytes.withUnsafeBytes { Int32(littleEndian: $0.loadUnaligned(as: Int32.self)) })
    }
}

extension Agent {
    /// False when the rank has to wait; it is started when the server is ready.
    func prepareWireUp(_ channel: UInt32, _ launch: Launch) -> Bool {
        guard case .pmix(let library) = launch.wireUp, let job else { return true }
        if pmix == nil {
            do throws(SyscallError) {
                pmix = try PMIxManagement(job, library: library, environment: environment, container: containers?.plan)
            } catch {
                let hint = error.errno == ENOENT ? " (the image has no /lib64/ld-linux-x86-64.so.2 or the like?)" : ""
                leader.send(
                    .rankRefused(
                        rank: launch.rank, errno: 0, reason: "the PMIx server cannot run: \(error.sentence)\(hint)"))
                return false
            }
        }
        if pmix?.isReady == true { return true }
        pmix?.pending.append((channel, launch, InputPipe()))
        return false
    }

    func hearPMIx() {
        for effect in pmix?.receive() ?? [] {
            switch effect {
            case .ready:
                let waiting = pmix?.pending ?? []
                pmix?.pending = []
                for (channel, launch, input) in waiting { start(channel, launch, input: input) }
            case .connected: tellWired()
            case .fence(let bytes): leader.send(.fence([bytes]))
            case .wanted(let ticket, let rank): leader.send(.modexWanted(ticket: ticket, rank: rank))
            case .modex(let ticket, let status, let bytes):
                leader.send(.modex(ticket: ticket, status: status, bytes: bytes))
            case .failed(let reason):
                let waiting = pmix?.pending ?? []
                pmix?.pending = []
                for (_, launch, _) in waiting { leader.send(.rankRefused(rank: launch.rank, errno: 0, reason: reason)) }
            }
        }
    }
}
