import ArgumentParser
import Diagnostics
import Glibc
import LaunchPlan
import LinuxSystem
import Quantities

/// Limits: how much of the machine the container may take.
///
/// Here values are read; whether a limit can be enforced is decided on the node that runs the
/// container (`ContainerLimits`), for in a job that is another machine.
struct LimitOptions: ContainerOptionGroup {
    static let longNames = [
        "--cpus", "--cpuset", "--cpuset-cpus", "--memory", "--mem", "--memory-soft", "--mem-soft",
        "--memory-reservation", "--memory-swap", "--pids-limit",
        "--ulimit", "--io-bw", "--net-bw", "--shm-size", "--limits",
    ]

    enum Rigour: String, ExpressibleByArgument, CaseIterable {
        case enforce
        case bestEffort = "best-effort"
    }

    @Option(help: "Processor time, in processors: 1.5.") var cpus: String?
    @Option(name: [.long, .customLong("cpuset-cpus")], help: "Processors by number: 0-3,8.") var cpuset: String?
    @Option(name: [.customShort("m"), .long], help: "Bytes of memory: 512m, 2g.") var memory: String?
    @Option(help: "The same in Slurm's spelling; without a unit, mebibytes.") var mem: String?
    @Option(
        name: [.long, .customLong("mem-soft"), .customLong("memory-reservation")],
        help: "Bytes beyond which memory is reclaimed first.")
    var memorySoft: String?
    @Option(help: "Bytes of memory and swap together (default: no swap beyond --memory).") var memorySwap: String?
    @Option(help: "Most processes and threads.") var pidsLimit: String?
    @Option(help: "NAME=SOFT[:HARD], or 'host' for the caller's (the default).") var ulimit: [String] = []
    @Option(help: "Bytes per second read, and written, on each disk: 10m.") var ioBw: String?
    @Option(help: "Always refused: see the reference.") var netBw: String?
    @Option(help: "Bytes of a /dev/shm of the container's own.") var shmSize: String?
    @Option(help: "enforce: a limit that cannot hold is an error; best-effort: a warning.") var limits: Rigour =
        .enforce

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        if limits == .bestEffort { plan.options.insert(.relaxedLimits) }
        try applyMemory(to: &plan)
        if let cpus { plan.limits.append("cpus=\(try Self.thousandths(cpus))") }
        if let pidsLimit {
            plan.limits.append("pids-limit=\(try Self.count("--pids-limit", pidsLimit, in: 1...4_194_304))")
        }
        if let cpuset {
            guard let list = ProcessorList(cpuset) else {
                throw Self.wrong("--cpuset", cpuset, "not a list of processors", "write --cpuset 0-3,8")
            }
            plan.limits.append("cpuset=\(list)")
        }
        if let ioBw {
            plan.limits.append("io-bw=\(try Self.bytes("--io-bw", ioBw, least: 4096))")
        }
        if let netBw { try applyNetwork(netBw) }
        if let shmSize { plan.sharedMemory = try Self.bytes("--shm-size", shmSize, least: 4096) }
        try applyProcessLimits(to: &plan)
    }

    private func applyMemory(to plan: inout LaunchPlan) throws(Diagnostic) {
        // docker's least: below it the kernel kills before the program's first instruction.
        let least: UInt64 = 6 << 20
        var limit: UInt64?
        if let memory { limit = try Self.bytes("--memory", memory, least: least) }
        if let mem {
            let bytes = try Self.bytes("--mem", mem, least: least, unit: 1 << 20)
            guard limit == nil || limit == bytes else {
                throw Self.wrong("--mem", mem, "--memory \(memory ?? "") says otherwise", "give one of the two")
            }
            limit = bytes
        }
        if let limit { plan.limits.append("memory=\(limit)") }
        if let memorySoft {
            let bytes = try Self.bytes("--memory-soft", memorySoft, least: least)
            guard bytes <= limit ?? bytes else {
                throw Self.wrong("--memory-soft", memorySoft, "above the limit itself", "make it smaller than --memory")
            }
            plan.limits.append("memory-soft=\(bytes)")
        }
        if let memorySwap {
            guard let limit else {
                throw Self.wrong("--memory-swap", memorySwap, "is the sum of memory and swap", "give --memory too")
            }
            plan.limits.append("memory-swap=\(try Self.bytes("--memory-swap", memorySwap, least: limit))")
        }
    }

    /// There is no way to hold it, so the answer is always the reason.
    private func applyNetwork(_ typed: String) throws(Diagnostic) {
        _ = try Self.bytes("--net-bw", typed, least: 1)
        let reason =
            "the container shares the host's network, whose queues only root may shape (tc(8)); a fabric bypasses them"
        if limits == .bestEffort {
            Output.standard.diagnose(
                Diagnostic(DiagnosticCode("limit-refused"), "warning: --net-bw", reasons: ["does not hold", reason]))
            return
        }
        throw Diagnostic(
            DiagnosticCode("limit-refused"), "--net-bw \(typed)",
            reasons: ["this limit cannot be enforced here", reason],
            remedies: ["leave it out, or take --limits best-effort", "trireme explain limit-refused"])
    }

    private func applyProcessLimits(to plan: inout LaunchPlan) throws(Diagnostic) {
        for typed in ulimit where typed != "host" {
            let parts = typed.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard let number = ResourceLimitName.number(of: parts[0]) else {
                throw Self.wrong(
                    "--ulimit", typed, "no such limit", "one of: " + ResourceLimitName.all.joined(separator: ", "))
            }
            let values = parts.count == 2 ? parts[1].split(separator: ":", omittingEmptySubsequences: false) : []
            guard (1...2).contains(values.count), let soft = Self.resourceValue(values[0]),
                let hard = Self.resourceValue(values[values.count - 1])
            else {
                throw Self.wrong("--ulimit", typed, "not NAME=SOFT[:HARD]", "write --ulimit nofile=1024:4096; -1: none")
            }
            guard soft <= hard else {
                throw Self.wrong("--ulimit", typed, "the soft limit is above the hard one", "write SOFT:HARD")
            }
            plan.resourceLimits.append("\(number) \(soft) \(hard)")
        }
    }

    private static func resourceValue(_ text: some StringProtocol) -> UInt64? {
        if text == "-1" || text == "unlimited" { return UInt64.max }
        return text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? UInt64(text) : nil
    }

    // MARK: Values

    private static func wrong(_ option: String, _ typed: String, _ reason: String, _ remedy: String) -> Diagnostic {
        Diagnostic(DiagnosticCode("limit-value"), "\(option) \(typed)", reasons: [reason], remedies: [remedy])
    }

    /// `512m`, `2g`, `2GiB`, `1.5g`: powers of 1024, as docker and Slurm count.
    static func bytes(_ option: String, _ typed: String, least: UInt64, unit: UInt64 = 1) throws(Diagnostic) -> UInt64 {
        let remedy = "write a number and k, m, g or t: \(option) 512m"
        guard let size = TypedSize.bytes(typed, bareUnit: Int64(unit)) else {
            throw wrong(option, typed, "not a size, or too large", remedy)
        }
        let bytes = UInt64(size)
        guard bytes >= least else {
            throw wrong(option, typed, "too small: the least is \(least) bytes", remedy)
        }
        return bytes
    }

    /// Processors in thousandths: 0.01 is the least the kernel can hold (1 ms of each 100 ms).
    static func thousandths(_ typed: String) throws(Diagnostic) -> UInt64 {
        let parts = typed.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), parts.contains(where: { !$0.isEmpty }),
            parts.allSatisfy({ $0.utf8.allSatisfy(isDigit) && $0.count <= 6 }), let number = Double("0" + typed)
        else { throw wrong("--cpus", typed, "not a number of processors", "write --cpus 1.5") }
        let value = UInt64((number * 1000).rounded())
        guard value >= 10, value <= 8192 * 1000 else {
            throw wrong("--cpus", typed, "out of range", "0.01 is the least, this machine's processors the most")
        }
        return value
    }

    static func count(_ option: String, _ typed: String, in range: ClosedRange<UInt64>) throws(Diagnostic)
        -> UInt64
    {
        guard typed.utf8.allSatisfy(isDigit), let number = UInt64(typed), range.contains(number) else {
            throw wrong(
                option, typed, "not a number from \(range.lowerBound) to \(range.upperBound)",
                "leave it out for the session's own limit")
        }
        return number
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
}
