import Glibc

/// A control group held by its files: its limits can be changed and its accounts read from where their paths
/// are not visible any more, inside the container. Not by its directories: those a container's entry closes.
package final class HeldControlGroup {
    private var files: [String: Int32] = [:]

    private static let names = [
        "memory.max", "memory.swap.max", "memory.high", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
        "cpu.max", "cpu.cfs_period_us", "cpu.cfs_quota_us", "pids.max",
        "memory.current", "memory.usage_in_bytes", "memory.peak", "memory.max_usage_in_bytes", "memory.events",
        "memory.oom_control", "cpu.stat", "cpuacct.usage",
    ]

    /// Call where the group's paths are visible.
    package init(_ group: ControlGroup) {
        for directory in group.directories {
            for name in Self.names {
                var raw = open(directory.path + "/" + name, O_RDWR | O_CLOEXEC)
                if raw < 0 { raw = open(directory.path + "/" + name, O_RDONLY | O_CLOEXEC) }
                guard raw >= 0 else { continue }
                if let other = files[name] { close(other) }
                files[name] = raw
            }
        }
    }

    deinit { for file in files.values { close(file) } }

    // MARK: Limits

    /// Sets what `limits` names and leaves the rest.
    ///
    /// - Throws: the first limit that does not hold, and why; those before it hold by then.
    package func change(_ limits: CgroupLimits) throws(CgroupRefusal) {
        if let memory = limits.memory, let used = number("memory.current") ?? number("memory.usage_in_bytes"),
            used > memory
        {
            // Version 2 would kill until it fits.
            throw CgroupRefusal(option: "--memory", reason: "\(used) bytes are in use, more than the new limit")
        }
        for demand in limits.demands() { try change(demand) }
    }

    private func change(_ demand: CgroupLimits.Demand) throws(CgroupRefusal) {
        for choice in [demand.unified, demand.legacy ?? []] {
            var settings = choice
            guard let first = settings.first, files[first.file] != nil else { continue }
            do throws(SyscallError) { try write(settings) } catch {
                // Version 1: memory may not pass memory and swap, so raising both begins with the second.
                guard error.errno == EINVAL, settings.count > 1 else { throw refusal(demand, error) }
                settings.reverse()
                do throws(SyscallError) { try write(settings) } catch { throw refusal(demand, error) }
            }
            return
        }
        throw CgroupRefusal(
            option: demand.option,
            reason:
                "the container's control group has no '\(demand.controller)' controller: it was started without \(demand.option)"
        )
    }

    private func refusal(_ demand: CgroupLimits.Demand, _ error: SyscallError) -> CgroupRefusal {
        CgroupRefusal(option: demand.option, reason: error.sentence)
    }

    private func write(_ settings: [CgroupLimits.Setting]) throws(SyscallError) {
        for setting in settings {
            guard let file = files[setting.file] else {
                if setting.isOptional { continue }
                throw SyscallError("open", setting.file, errno: ENOENT)
            }
            let bytes = Array(setting.value.utf8)
            guard pwrite(file, bytes, bytes.count, 0) == bytes.count else {
                throw SyscallError("write", "\(setting.value) to \(setting.file)")
            }
        }
    }

    // MARK: Accounts

    /// The most memory its processes ever had together, bytes; nil where the group does not count it.
    package func peakMemory() -> UInt64? { number("memory.peak") ?? number("memory.max_usage_in_bytes") }

    /// Processor time of all its processes, dead ones too, microseconds.
    package func processorTime() -> UInt64? {
        if let nanoseconds = number("cpuacct.usage") { return nanoseconds / 1000 }
        for line in (text("cpu.stat") ?? "").split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == "usage_usec" { return UInt64(words[1]) }
        }
        return nil
    }

    private func number(_ file: String) -> UInt64? {
        text(file).flatMap { UInt64($0.split(separator: "\n").first ?? "") }
    }

    /// How many processes the kernel killed for going over the memory limit.
    package func outOfMemoryKills() -> UInt64 {
        let events = text("memory.events") ?? text("memory.oom_control") ?? ""
        for line in events.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == "oom_kill" { return UInt64(words[1]) ?? 0 }
        }
        return 0
    }

    private func text(_ name: String) -> String? {
        guard let file = files[name] else { return nil }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = pread(file, &bytes, bytes.count, 0)
        return count >= 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }
}
