import Glibc
import JobModel
import JobWire
import LinuxSystem
import Processes

extension Agent {
    /// Above this many ranks the reading of their accounts would be felt.
    private static let sampledRanks = 512

    /// Tells the leader what the ranks have used so far. A congested leader is spared.
    func sampleUsage() {
        guard !leader.isCongested, ranks.count <= Self.sampledRanks else { return }
        let children = ranks.isEmpty ? [:] : ProcessTree.children()
        for (rank, pid) in ranks { leader.send(.rankUsage(rank: rank, UsageMeter.usage(of: pid, among: children))) }
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

extension Agent {
    /// Changes the container's limits while it runs.
    func update(_ words: [[UInt8]]) {
        var limits = CgroupLimits()
        for word in words {
            let parts = String(decoding: word, as: UTF8.self).split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2, limits.take(parts[0], parts[1]) else { return answer(EINVAL, "no such limit") }
        }
        guard let heldGroup else {
            return answer(
                EOPNOTSUPP, "its container has no control group of its own: the job was started without limits")
        }
        do throws(CgroupRefusal) {
            try heldGroup.change(limits)
            if let memory = limits.memory { memoryLimit = memory }
            answer(0, "")
        } catch { answer(EOPNOTSUPP, "\(error.option): \(error.reason)") }
    }

    private func answer(_ code: Int32, _ text: String) {
        leader.send(.updated(code: Int(code), text: Array(text.utf8)))
    }

    /// What control groups counted holds for all processes together, also those nobody waited for.
    func reportNodeUsage() {
        guard let heldGroup else { return }
        var usage = ResourceUsage()
        usage.peakMemory = heldGroup.peakMemory() ?? 0
        usage.cpuMicroseconds = heldGroup.processorTime() ?? 0
        if usage != ResourceUsage() { leader.send(.nodeUsage(usage)) }
    }
}
