/// What control groups are asked to limit for one container.
package struct CgroupLimits: Equatable, Sendable {
    /// Bytes; the kernel kills in the group what goes beyond.
    package var memory: UInt64?
    /// Bytes beyond which the group is reclaimed from and slowed down first.
    package var softMemory: UInt64?
    /// Bytes of memory and swap together; nil means no swap beyond `memory`.
    package var memoryAndSwap: UInt64?
    /// Thousandths of a processor.
    package var milliProcessors: UInt64?
    /// Processes and threads.
    package var processes: UInt64?
    /// Processors by number.
    package var processors: ProcessorList?
    /// Bytes per second, reading and writing each, on each block device.
    package var inputOutput: UInt64?

    package init() {}

    package var isEmpty: Bool { self == CgroupLimits() }

    /// A limit by the name of its option and its value (bytes, thousandths, a count or a list).
    /// - Returns: false for a name or value that is none.
    package mutating func take(_ name: String, _ value: String) -> Bool {
        if name == "cpuset" {
            guard let list = ProcessorList(value) else { return false }
            processors = list
            return true
        }
        guard let number = UInt64(value) else { return false }
        switch name {
        case "memory": memory = number
        case "memory-soft": softMemory = number
        case "memory-swap": memoryAndSwap = number
        case "cpus": milliProcessors = number
        case "pids-limit": processes = number
        case "io-bw": inputOutput = number
        default: return false
        }
        return true
    }

    /// Forgets what an option asked.
    package mutating func drop(_ option: String) {
        switch option {
        case "--memory": (memory, memoryAndSwap) = (nil, nil)
        case "--memory-soft": softMemory = nil
        case "--cpus": milliProcessors = nil
        case "--pids-limit": processes = nil
        case "--io-bw": inputOutput = nil
        default: self = CgroupLimits()
        }
    }

    /// A value for a file of a group. An optional file may be missing (a kernel built without swap accounting).
    struct Setting: Equatable {
        var file: String
        var value: String
        var isOptional = false
    }

    /// What one option asks of one controller.
    struct Demand: Equatable {
        /// The option as it is typed, for refusals.
        var option: String
        var controller: String
        /// Of version 1 (cgroup-v1/*.rst); nil when version 1 cannot enforce it.
        var legacy: [Setting]?
        /// Of version 2 (cgroup-v2.rst).
        var unified: [Setting]
    }

    /// Length of the period in which processor time is counted, microseconds: the kernel's default.
    private static let period: UInt64 = 100_000

    func demands() -> [Demand] {
        var all: [Demand] = []
        if let memory {
            let total = max(memoryAndSwap ?? memory, memory)
            all.append(
                Demand(
                    option: "--memory", controller: "memory",
                    legacy: [
                        Setting(file: "memory.limit_in_bytes", value: "\(memory)"),
                        Setting(file: "memory.memsw.limit_in_bytes", value: "\(total)", isOptional: true),
                    ],
                    unified: [
                        Setting(file: "memory.max", value: "\(memory)"),
                        Setting(file: "memory.swap.max", value: "\(total - memory)", isOptional: true),
                    ]))
        }
        if let softMemory {
            all.append(
                Demand(
                    option: "--memory-soft", controller: "memory",
                    legacy: [Setting(file: "memory.soft_limit_in_bytes", value: "\(softMemory)")],
                    unified: [Setting(file: "memory.high", value: "\(softMemory)")]))
        }
        if let milliProcessors {
            let quota = milliProcessors * (Self.period / 1000)
            all.append(
                Demand(
                    option: "--cpus", controller: "cpu",
                    legacy: [
                        Setting(file: "cpu.cfs_period_us", value: "\(Self.period)"),
                        Setting(file: "cpu.cfs_quota_us", value: "\(quota)"),
                    ],
                    unified: [Setting(file: "cpu.max", value: "\(quota) \(Self.period)")]))
        }
        if let processes {
            let setting = Setting(file: "pids.max", value: "\(processes)")
            all.append(
                Demand(option: "--pids-limit", controller: "pids", legacy: [setting], unified: [setting]))
        }
        if let inputOutput {
            let line = "rbps=\(inputOutput) wbps=\(inputOutput)"
            all.append(
                Demand(
                    option: "--io-bw", controller: "io", legacy: nil,
                    unified: BlockDevice.numbers().map { Setting(file: "io.max", value: "\($0) \(line)") }))
        }
        if let processors {
            // The sets of memory nodes must be filled in before a v1 cpuset takes a process (cpusets(7)).
            all.append(
                Demand(
                    option: "--cpuset", controller: "cpuset",
                    legacy: [Setting(file: "cpuset.cpus", value: processors.description)],
                    unified: [Setting(file: "cpuset.cpus", value: processors.description)]))
        }
        return all
    }
}
