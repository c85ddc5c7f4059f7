import Glibc
import JobModel
import LinuxSystem

extension Agent {
    /// Above this many ranks a walk through /proc for each would be felt.
    private static let sampledRanks = 512

    /// Tells the leader what the ranks have used so far. A congested leader is spared.
    func sampleUsage() {
        guard !leader.isCongested, ranks.count <= Self.sampledRanks else { return }
        for (rank, pid) in ranks { leader.send(.rankUsage(rank: rank, UsageMeter.usage(of: pid))) }
    }

    /// Stops or continues every rank with all below it, until none is left that was started meanwhile.
    /// Launchers go on: they only wait.
    func suspend(_ isOn: Bool) {
        isSuspended = isOn
        let number = isOn ? SIGSTOP : SIGCONT
        for pid in ranks.values {
            var told: Set<pid_t> = []
            while true {
                let fresh = ([pid] + ProcessTree.descendants(of: pid)).filter { told.insert($0).inserted }
                if fresh.isEmpty { break }
                for process in fresh { kill(process, number) }
            }
        }
    }
}
