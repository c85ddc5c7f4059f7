import Diagnostics
import Glibc
import LinuxSystem
import VirtualCluster

/// Says that a job of a virtual cluster waits for its allocation, and for how long.
///
/// The batch system's command (salloc, qrsh) is a child of ours; the job has begun when a process other than that one
/// carries our mark in its environment. That holds for every system and asks none of them.
final class QueueWatch {
    static let variable = "TRIREME_QUEUE_MARK"
    /// Most allocations are there sooner, and nobody is told anything.
    private static let patienceMilliseconds = 2_000
    private static let repeatMilliseconds = 60_000
    /// Between fork(2) and execve(2) a process has another's environment, so that one look is not enough.
    private static let looksPerProcess = 4

    /// `NAME=VALUE`.
    private let mark: [UInt8]
    private let cluster: ClusterRecord
    private let begin = MonotonicTime.now()
    private let isQuiet: Bool
    private var saidAt: Int?
    private var isOver = false
    private var looks: [pid_t: Int] = [:]

    init(mark: String, cluster: ClusterRecord, isQuiet: Bool) {
        self.mark = Array(mark.utf8)
        self.isQuiet = isQuiet
        self.cluster = cluster
    }

    /// False once the job has begun.
    func look(_ command: pid_t) -> Bool {
        if isOver { return false }
        if hasBegun(command) {
            isOver = true
            return false
        }
        let now = MonotonicTime.now()
        guard !isQuiet, now - begin >= Self.patienceMilliseconds,
            now - (saidAt ?? -Self.repeatMilliseconds) >= Self.repeatMilliseconds
        else { return true }
        let queue = cluster.scheduler == .slurm ? "squeue" : "qstat"
        Output.standard.line(
            "trireme: queued: waiting for nodes of cluster '\(cluster.name)'"
                + (saidAt == nil ? "" : ", \((now - begin) / 1000) s by now")
                + " (trireme cluster exec \(cluster.name) -- \(queue))", to: .progress)
        saidAt = now
        return true
    }

    private func hasBegun(_ command: pid_t) -> Bool {
        let living = ClusterRegistry.files(in: "/proc").compactMap { pid_t($0) }
        let present = Set(living)
        looks = looks.filter { present.contains($0.key) }
        for pid in living where pid != command && pid != getpid() && looks[pid, default: 0] < Self.looksPerProcess {
            looks[pid, default: 0] += 1
            guard let block = try? OwnedDescriptor.open("/proc/\(pid)/environ", O_RDONLY).readAll(limit: 4 << 20) else {
                continue
            }
            if block.split(separator: 0).contains(where: { $0.elementsEqual(mark) }) { return true }
        }
        return false
    }
}

/// Where a command in a cluster stands.
enum ClusterDirectory {
    /// The caller's working directory; said when the nodes do not have it, for then the command starts at home.
    static func current(in entry: ClusterEntry, isQuiet: Bool = false) -> String {
        let path = getcwd(nil, 0)
        defer { free(path) }
        guard let directory = path.map({ String(cString: $0) }) else { return entry.record.home }
        if !isQuiet, !entry.shows(directory) {
            let name = entry.record.name
            Output.standard.line(
                "trireme: the nodes of cluster '\(name)' do not show \(directory): the command starts in "
                    + "\(entry.start(from: directory))\n  hint: trireme cluster create … --bind \(directory) shows it there",
                to: .progress)
        }
        return directory
    }
}
