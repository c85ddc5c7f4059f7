import Glibc

/// Where in a version 2 hierarchy a container's group can be made.
struct UnifiedPlace: Equatable {
    var parent: String
    /// Controllers that must be switched on in `parent` first.
    var missing: [String]
    /// The caller is the only process in `parent` and must leave it for that.
    var mustVacate: Bool

    /// The deepest group, from the caller's own upwards, that the caller may divide.
    ///
    /// The own group serves when the caller is alone in it (a systemd scope of its own). Otherwise a
    /// group above it, without processes, that was delegated as well: beside the own group then, and
    /// only when no group between the two limits anything, for a limit must not be a way out of one.
    static func find(_ controllers: [String], own: String, point: String, option: String) throws(CgroupRefusal)
        -> UnifiedPlace
    {
        var reasons: [String] = []
        var candidate = own
        while true {
            switch judge(candidate, controllers, isOwn: candidate == own, point: point) {
            case .usable(let place): return place
            case .refused(let reason): reasons.append("\(candidate) \(reason)")
            }
            guard candidate != point, candidate.hasPrefix(point), let slash = candidate.lastIndex(of: "/") else {
                break
            }
            if let limit = limit(of: candidate) {
                reasons.append("\(candidate) limits \(limit) itself, and a group beside it would escape that")
                break
            }
            candidate = String(candidate[..<slash])
            // Above the first group of somebody else there is nothing of the caller's.
            if access(candidate, W_OK) != 0, reasons.count > 1 { break }
        }
        throw CgroupRefusal(option: option, reason: reasons.joined(separator: "; "))
    }

    private enum Judgement {
        case usable(UnifiedPlace)
        case refused(String)
    }

    private static func judge(_ group: String, _ controllers: [String], isOwn: Bool, point: String) -> Judgement {
        // Both are what delegation means (cgroup-v2.rst, "Model of Delegation").
        guard access(group, W_OK) == 0, access(group + "/cgroup.procs", W_OK) == 0 else {
            let why = SyscallError("access").reason
            return .refused(errno == EROFS ? "is read-only here" : "is not delegated to this user (\(why))")
        }
        let switchedOn = CgroupFile.words(group + "/cgroup.subtree_control")
        let missing = controllers.filter { !switchedOn.contains($0) }
        if missing.isEmpty { return .usable(UnifiedPlace(parent: group, missing: [], mustVacate: false)) }
        let available = CgroupFile.words(group + "/cgroup.controllers")
        if let absent = missing.first(where: { !available.contains($0) }) {
            return .refused("does not have the controller '\(absent)'")
        }
        guard access(group + "/cgroup.subtree_control", W_OK) == 0 else {
            return .refused("is delegated without cgroup.subtree_control")
        }
        let processes = CgroupFile.words(group + "/cgroup.procs")
        // Only the root of the tree may have both.
        if processes.isEmpty || (group == point && access(group + "/cgroup.type", F_OK) != 0) {
            return .usable(UnifiedPlace(parent: group, missing: missing, mustVacate: false))
        }
        if isOwn, processes == [String(getpid())] {
            return .usable(UnifiedPlace(parent: group, missing: missing, mustVacate: true))
        }
        return .refused("holds \(processes.count) processes, and its controllers are not switched on")
    }

    /// What `group` itself limits, by the name of its file; nil for nothing.
    private static func limit(of group: String) -> String? {
        for file in ["memory.max", "cpu.max", "memory.high"] {
            if let text = CgroupFile.text(group + "/" + file), !text.hasPrefix("max") { return file }
        }
        if let text = CgroupFile.text(group + "/cpuset.cpus"), !text.isEmpty { return "cpuset.cpus" }
        return nil
    }
}
