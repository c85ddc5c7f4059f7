import Glibc

/// A control group held by its directories: its limits can be changed and its accounts read from where their
/// paths are not visible any more, inside the container.
package final class HeldControlGroup {
    private var directories: [(descriptor: OwnedDescriptorBox, isUnified: Bool)] = []

    private final class OwnedDescriptorBox {
        let raw: Int32
        init(_ raw: Int32) { self.raw = raw }
        deinit { close(raw) }
    }

    /// Call where the group's paths are visible.
    package init(_ group: ControlGroup) {
        for directory in group.directories {
            let raw = open(directory.path, O_DIRECTORY | O_CLOEXEC)
            if raw >= 0 { directories.append((OwnedDescriptorBox(raw), directory.isUnified)) }
        }
    }

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
        for (directory, isUnified) in directories {
            guard var settings = isUnified ? demand.unified : demand.legacy, let first = settings.first,
                faccessat(directory.raw, first.file, F_OK, 0) == 0
            else { continue }
            do throws(SyscallError) { try write(settings, directory.raw) } catch {
                // Version 1: memory may not pass memory and swap, so raising both begins with the second.
                guard error.errno == EINVAL, settings.count > 1 else { throw refusal(demand, error) }
                settings.reverse()
                do throws(SyscallError) { try write(settings, directory.raw) } catch { throw refusal(demand, error) }
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

    private func write(_ settings: [CgroupLimits.Setting], _ directory: Int32) throws(SyscallError) {
        for setting in settings {
            let raw = openat(directory, setting.file, O_WRONLY | O_CLOEXEC)
            if raw < 0, errno == ENOENT, setting.isOptional { continue }
            guard raw >= 0 else { throw SyscallError("open", setting.file) }
            let file = OwnedDescriptor(owning: raw)
            do throws(SyscallError) { try file.writeAll(setting.value) } catch {
                throw SyscallError("write", "\(setting.value) to \(setting.file)", errno: error.errno)
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

    private func text(_ file: String) -> String? {
        for (directory, _) in directories {
            let raw = openat(directory.raw, file, O_RDONLY | O_CLOEXEC)
            guard raw >= 0 else { continue }
            let opened = OwnedDescriptor(owning: raw)
            if let bytes = try? opened.readAll(limit: 64 << 10) { return String(decoding: bytes, as: UTF8.self) }
        }
        return nil
    }
}
