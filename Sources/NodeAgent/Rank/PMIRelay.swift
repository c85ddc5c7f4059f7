import CLinux
import Glibc
import LinuxSystem
import Processes

/// Stands between an MPICH rank and its launcher on the PMI-1 wire, to undo one deadlock.
///
/// MPICH up to 4.1 closes its UCX connections in MPI_Finalize and then waits in a PMI barrier. Over
/// TCP, closing needs an answer from the other side (UCX 1.13 flushes with an empty put), which a rank
/// that already sits in the barrier never gives: several ranks on several nodes hang more often than
/// not, in containers or without. MPICH 4.2 does without the barrier. Here a rank that waits in a
/// barrier while a peer's bytes lie unread in its sockets is let go early; the barrier itself goes on
/// with the launcher, and whatever the rank says next is held until it is over. So a rank let go
/// wrongly still sees every key the barrier was for.
final class PMIRelay {
    /// -1 when there is nothing more to read.
    private(set) var rankSide: Int32
    private(set) var launcherSide: Int32
    private var rankEnd: Int32
    private var engine = PMIRelayEngine()
    private var waitingSince: Int?
    private var sawUnread = false

    /// A barrier that takes longer is looked at, this often.
    private static let patienceMilliseconds = 100
    private static let intervalMilliseconds = 50

    /// Takes over PMI_FD of `environment`; nil when the launcher speaks no PMI over a descriptor.
    init?(environment: inout [[UInt8]]) {
        guard let text = EnvironmentBlock.value("PMI_FD", in: environment), let descriptor = Int32(text),
            linux_fcntl_int(descriptor, F_GETFD, 0) >= 0
        else { return nil }
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { return nil }
        launcherSide = descriptor
        (rankSide, rankEnd) = (ends[0], ends[1])
        for descriptor in [launcherSide, rankSide] { _ = linux_fcntl_int(descriptor, F_SETFD, Int(FD_CLOEXEC)) }
        environment = EnvironmentBlock.merged(environment, [EnvironmentBlock.entry("PMI_FD", rankEnd)])
    }

    /// Once the rank has its end.
    func closeRankSide() {
        close(rankEnd)
        rankEnd = -1
    }

    /// How long poll(2) may wait.
    var timeoutMilliseconds: Int32 { engine.isWaiting ? Int32(Self.intervalMilliseconds) : -1 }

    func readRank() {
        guard let bytes = read(rankSide) else { return }
        send(engine.fromRank(bytes), to: launcherSide)
        if engine.isWaiting, waitingSince == nil { waitingSince = MonotonicTime.now() }
    }

    func readLauncher() {
        guard let bytes = read(launcherSide) else { return }
        let (rank, launcher) = engine.fromLauncher(bytes)
        send(rank, to: rankSide)
        send(launcher, to: launcherSide)
        if !engine.isWaiting { waitingSince = nil }
    }

    private func read(_ descriptor: Int32) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 16 << 10)
        let n = Glibc.read(descriptor, &bytes, bytes.count)
        if n > 0 { return Array(bytes[..<n]) }
        if n == 0, descriptor == rankSide {
            // The launcher sees the end when the shim ends: half a close confuses Slurm's pmi2 plugin.
            rankSide = -1
        } else if n == 0 {
            close(rankSide)
            (rankSide, launcherSide) = (-1, -1)
        }
        return nil
    }

    private func send(_ bytes: [UInt8], to descriptor: Int32) {
        if !bytes.isEmpty, descriptor >= 0 { RemoteShell.writeAll(descriptor, bytes) }
    }

    func considerRelease(of rank: pid_t) {
        guard engine.isWaiting, let waitingSince,
            MonotonicTime.now() - waitingSince >= Self.patienceMilliseconds
        else {
            sawUnread = false
            return
        }
        let unread = UnreadSockets.exist(in: [rank] + ProcessTree.descendants(of: rank))
        // Twice in a row: bytes that merely arrived are not bytes that nobody reads.
        if unread, sawUnread { send(engine.release(), to: rankSide) }
        sawUnread = unread
    }
}

/// Bytes that arrived by TCP for some processes and were not read (proc(5), /proc/PID/net/tcp).
enum UnreadSockets {
    static func exist(in processes: [pid_t]) -> Bool {
        guard let first = processes.first else { return false }
        var waiting: Set<Substring> = []
        for table in ["tcp", "tcp6"] {
            guard let file = try? OwnedDescriptor.open("/proc/\(first)/net/\(table)", O_RDONLY),
                let bytes = try? file.readAll(limit: 16 << 20)
            else { continue }
            for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n").dropFirst() {
                let fields = line.split(separator: " ")
                // Fields: number, local, remote, state, tx:rx, …, inode (the tenth). State 01 is established.
                guard fields.count > 9, fields[3] == "01", !fields[4].hasSuffix(":00000000") else { continue }
                waiting.insert(fields[9])
            }
        }
        return !waiting.isEmpty && processes.contains { holds(waiting, $0) }
    }

    private static func holds(_ inodes: Set<Substring>, _ process: pid_t) -> Bool {
        guard let directory = opendir("/proc/\(process)/fd") else { return false }
        defer { closedir(directory) }
        var target = [UInt8](repeating: 0, count: 64)
        while let entry = readdir(directory) {
            let n = withUnsafeBytes(of: &entry.pointee.d_name) { name in
                target.withUnsafeMutableBytes { buffer in
                    readlinkat(
                        dirfd(directory), name.baseAddress!.assumingMemoryBound(to: CChar.self),
                        buffer.baseAddress!.assumingMemoryBound(to: CChar.self), buffer.count)
                }
            }
            guard n > 9 else { continue }
            let text = String(decoding: target[..<n], as: UTF8.self)
            if text.hasPrefix("socket:["), inodes.contains(text.dropFirst(8).dropLast()) { return true }
        }
        return false
    }
}
