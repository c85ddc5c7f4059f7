import CLinux
import Glibc
import LinuxSystem
import Processes

/// `--bind-to core|socket`: which processors a rank may use, decided where it is started, so that it holds
/// whatever starts the ranks.
package enum RankBinding {
    /// Set for every rank of a job that binds.
    package static let policyVariable = "TRIREME_BIND_TO"
    package static let coresVariable = "TRIREME_CPUS_PER_TASK"

    /// The processors of rank `localRank` of `localSize`; nil when there are too few for each to have its own,
    /// since two ranks bound to one core are worse off than unbound ones.
    ///
    /// - Parameters:
    ///   - groups: the processors of each core, or of each socket, that this process may use.
    ///   - perRank: groups that a rank gets; sockets are shared by the ranks that fall on them.
    package static func processors(
        policy: String, localRank: Int, localSize: Int, perRank: Int, groups: [[Int]]
    ) -> [Int]? {
        guard !groups.isEmpty, localRank >= 0, localRank < localSize else { return nil }
        switch policy {
        case "core":
            let (needed, isTooMuch) = localSize.multipliedReportingOverflow(by: max(1, perRank))
            guard !isTooMuch, needed <= groups.count else { return nil }
            return groups[(localRank * max(1, perRank))..<((localRank + 1) * max(1, perRank))].flatMap { $0 }
        case "socket":
            let (product, isTooMuch) = localRank.multipliedReportingOverflow(by: groups.count)
            return isTooMuch ? nil : groups[product / localSize]
        default: return nil
        }
    }

    /// How many sockets the processors belong to that this process may use.
    package static func socketCount() -> Int {
        var mask = [UInt64](repeating: 0, count: 128)
        guard linux_sched_getaffinity(0, 1024, &mask) > 0 else { return 1 }
        let allowed: [Int] = (0..<8192).filter { mask[$0 / 64] >> UInt64($0 % 64) & 1 == 1 }
        return groups(allowed, "physical_package_id").count
    }

    /// Binds this process as the rank that `environment` describes; what it was before, nil when nothing changed.
    static func bind(_ environment: [[UInt8]]) -> [UInt64]? {
        func number(_ name: String) -> Int? { EnvironmentBlock.value(name, in: environment).flatMap(Int.init) }
        guard let policy = EnvironmentBlock.value(policyVariable, in: environment), policy != "none",
            let localRank = number("TRIREME_LOCAL_RANK"), let localSize = number("TRIREME_LOCAL_SIZE")
        else { return nil }
        var before = [UInt64](repeating: 0, count: 128)
        guard linux_sched_getaffinity(0, 1024, &before) > 0 else { return nil }
        let allowed: [Int] = (0..<8192).filter { before[$0 / 64] >> UInt64($0 % 64) & 1 == 1 }
        let chosen = processors(
            policy: policy, localRank: localRank, localSize: localSize, perRank: number(coresVariable) ?? 1,
            groups: groups(allowed, policy == "core" ? "thread_siblings_list" : "physical_package_id"))
        guard let chosen else { return nil }
        var mask = [UInt64](repeating: 0, count: 128)
        for processor in chosen { mask[processor / 64] |= 1 << UInt64(processor % 64) }
        return linux_sched_setaffinity(0, 1024, mask) == 0 ? before : nil
    }

    static func restore(_ mask: [UInt64]?) { if let mask { _ = linux_sched_setaffinity(0, 1024, mask) } }

    /// `allowed` by what the kernel says of each in `file` (Documentation/ABI/stable/sysfs-devices-system-cpu),
    /// in the order of their first processors. One that it says nothing of stands alone.
    private static func groups(_ allowed: [Int], _ file: String) -> [[Int]] {
        var order: [String] = []
        var members: [String: [Int]] = [:]
        for processor in allowed {
            let path = "/sys/devices/system/cpu/cpu\(processor)/topology/\(file)"
            var key = "\(processor) alone"
            if let handle = try? OwnedDescriptor.open(path, O_RDONLY), let bytes = try? handle.readAll(limit: 4096) {
                key = String(decoding: bytes, as: UTF8.self)
            }
            if members[key] == nil { order.append(key) }
            members[key, default: []].append(processor)
        }
        return order.compactMap { members[$0] }
    }
}
