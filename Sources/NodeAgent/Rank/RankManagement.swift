import CLinux
import Glibc
import JobModel
import JobWire
import LinuxSystem
import ProcessManagement
import Processes

/// The PMI sockets of a node's ranks: what they say goes to the wire engine, what it answers back to them.
///
/// MPICH's deadlock in MPI_Finalize (see `PMIRelay`) is undone here as in the shim: each rank's barriers
/// pass through a `PMIRelayEngine`.
final class RankManagement {
    private var server: PMIServer
    private(set) var lines: [Int: Line] = [:]

    final class Line {
        /// -1 when the rank closed it.
        fileprivate(set) var descriptor: Int32
        fileprivate var pid: pid_t = -1
        fileprivate var engine = PMIRelayEngine()
        fileprivate var waitingSince: Int?
        fileprivate var sawUnread = false

        init(_ descriptor: Int32) { self.descriptor = descriptor }
        deinit { shut() }
        fileprivate func shut() {
            if descriptor >= 0 { close(descriptor) }
            descriptor = -1
        }
    }

    /// Ranks that asked for the job's end, and the codes they want it to have.
    private(set) var aborted: [(rank: Int, code: Int)] = []

    /// A barrier that takes longer is looked at, this often.
    private static let patienceMilliseconds = 100
    static let intervalMilliseconds: Int32 = 50

    init(_ job: JobAssignment) {
        let first = job.ranksPerNode.prefix(job.nodeIndex).reduce(0, +)
        let here = job.ranksPerNode.indices.contains(job.nodeIndex) ? job.ranksPerNode[job.nodeIndex] : 0
        server = PMIServer(
            job: PMIJob(name: "kvs_\(job.jobID)", size: job.size, ranksPerNode: job.ranksPerNode),
            localRanks: Array(first..<(first + here)))
    }

    /// A socket for `rank` and what its environment says of it. The caller closes the returned end once the
    /// rank has it.
    func open(_ rank: Int, _ job: JobAssignment) -> (end: Int32, environment: [[UInt8]])? {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { return nil }
        _ = linux_fcntl_int(ends[0], F_SETFD, Int(FD_CLOEXEC))
        lines[rank] = Line(ends[0])
        let first = job.ranksPerNode.prefix(job.nodeIndex).reduce(0, +)
        return (
            ends[1],
            [
                EnvironmentBlock.entry("PMI_FD", ends[1]), EnvironmentBlock.entry("PMI_RANK", rank),
                EnvironmentBlock.entry("PMI_SIZE", job.size), EnvironmentBlock.entry("PMI_JOBID", job.jobID),
                EnvironmentBlock.entry("MPI_LOCALRANKID", rank - first),
                EnvironmentBlock.entry("MPI_LOCALNRANKS", job.ranksPerNode[job.nodeIndex]),
            ]
        )
    }

    func takeAborted() -> [(rank: Int, code: Int)] {
        defer { aborted = [] }
        return aborted
    }

    func started(_ rank: Int, _ pid: pid_t) { lines[rank]?.pid = pid }

    func ended(_ rank: Int) {
        lines[rank] = nil
        server.ended(rank)
    }

    var isWaiting: Bool { lines.values.contains { $0.engine.isWaiting } }

    /// A rank has said something.
    private(set) var hasHeard = false

    /// What a rank said. Returns the keys of the node when all its ranks wait.
    func read(_ rank: Int) -> [KeySpace.Entry]? {
        guard let line = lines[rank] else { return nil }
        var bytes = [UInt8](repeating: 0, count: 16 << 10)
        let count = Glibc.read(line.descriptor, &bytes, bytes.count)
        guard count > 0 else {
            if count == 0 || errno != EINTR { line.shut() }
            return nil
        }
        hasHeard = true
        let fence = say(line.engine.fromRank(Array(bytes[..<count])), rank)
        if line.engine.isWaiting, line.waitingSince == nil { line.waitingSince = MonotonicTime.now() }
        return fence
    }

    /// Every node's ranks wait; `entries` are the keys of all. Returns this node's next keys when a rank that
    /// was let go early already waits again and completes the next barrier.
    func fenceDone(_ entries: [KeySpace.Entry]) -> [KeySpace.Entry]? { act(server.fenceDone(entries)) }

    private func say(_ bytes: [UInt8], _ rank: Int) -> [KeySpace.Entry]? {
        bytes.isEmpty ? nil : act(server.receive(bytes, from: rank))
    }

    private func act(_ effects: [PMIServer.Effect]) -> [KeySpace.Entry]? {
        var fence: [KeySpace.Entry]?
        for effect in effects {
            switch effect {
            case .send(let rank, let bytes):
                guard let line = lines[rank] else { continue }
                let (forRank, held) = line.engine.fromLauncher(bytes)
                if !line.engine.isWaiting { line.waitingSince = nil }
                write(forRank, line)
                if let next = say(held, rank) { fence = next }
            case .fence(let entries): fence = entries
            // MPICH waits to be killed; with nobody doing so it would wait for ever.
            case .abort(let rank, let code, _): aborted.append((rank, code))
            case .refuse(let rank, _): lines[rank]?.shut()
            }
        }
        return fence
    }

    private func write(_ bytes: [UInt8], _ line: Line) {
        if !bytes.isEmpty, line.descriptor >= 0 { RemoteShell.writeAll(line.descriptor, bytes) }
    }

    /// Lets ranks go that wait in their last barrier while a peer's bytes lie unread in their sockets.
    func considerRelease() {
        let now = MonotonicTime.now()
        for line in lines.values {
            guard line.engine.isWaiting, let since = line.waitingSince, now - since >= Self.patienceMilliseconds else {
                line.sawUnread = false
                continue
            }
            let unread = UnreadSockets.exist(in: [line.pid] + ProcessTree.descendants(of: line.pid))
            // Twice in a row: bytes that merely arrived are not bytes that nobody reads.
            if unread, line.sawUnread { write(line.engine.release(), line) }
            line.sawUnread = unread
        }
    }
}

extension Agent {
    /// Ends the ranks that called MPI_Abort, each with its code.
    func endAborted() {
        for (rank, code) in management?.takeAborted() ?? [] {
            guard let process = processes.values.first(where: { $0.rank == rank }) else { continue }
            process.abortCode = code & 0xFF == 0 ? 1 : Int32(code & 0xFF)
            // Said before it is killed: its peers on other nodes fail by that, and would be blamed.
            drainOutputs(of: process)
            leader.send(.rankExited(rank: rank, .exited(process.abortCode ?? 1)))
            leader.flush()
            kill(-process.pid, SIGKILL)
        }
    }
}

extension KeySpace.Entry {
    /// Keys and values in turn, as the wire carries them.
    static func flattened(_ entries: [KeySpace.Entry]) -> [[UInt8]] { entries.flatMap { [$0.key, $0.value] } }
    static func paired(_ list: [[UInt8]]) -> [KeySpace.Entry] {
        stride(from: 0, to: list.count - 1, by: 2).map { KeySpace.Entry(key: list[$0], value: list[$0 + 1]) }
    }
}
