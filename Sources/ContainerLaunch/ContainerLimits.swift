import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

/// The limits of one launch: decided where they hold, on the node that runs the container.
///
/// Each is enforced, or the launch fails with the reason; with `--limits best-effort` the reason is
/// a warning. A launch without limits never comes here, so this part may use `String`.
struct ContainerLimits {
    /// The container's own control group; nil when nothing needs one.
    let group: ControlGroup?
    private var views: [(tree: Int32, point: CString)] = []
    private let resources: [ResourceLimit]
    private let sharedMemory: CString?

    /// nil when `plan` limits nothing.
    init?(_ plan: LaunchPlanReader, isRelaxed: Bool) throws(LaunchFailure) {
        var records: [LaunchPlanReader.Record] = []
        plan.forEach { record in
            switch record.tag {
            case .limit, .resourceLimit, .sharedMemory: records.append(record)
            default: break
            }
        }
        if records.isEmpty { return nil }
        var limits = CgroupLimits()
        var resources: [ResourceLimit] = []
        var shared: CString?
        for record in records {
            let text = String(cString: record.cString)
            switch record.tag {
            case .limit:
                let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                guard parts.count == 2, limits.take(parts[0], parts[1]) else {
                    throw LaunchFailure(.readPlan, record.cString, errno: EBADMSG)
                }
            case .resourceLimit:
                guard let limit = ResourceLimit(text) else {
                    throw LaunchFailure(.readPlan, record.cString, errno: EBADMSG)
                }
                resources.append(limit)
            default: shared = record.cString
            }
        }
        sharedMemory = shared
        self.resources = try Self.reachable(resources, isRelaxed)
        group = try Self.makeGroup(limits, isRelaxed)
    }

    // MARK: Control groups and processors

    private static func makeGroup(_ asked: CgroupLimits, _ isRelaxed: Bool) throws(LaunchFailure) -> ControlGroup? {
        var limits = asked
        let allowed = ProcessorList.allowed()
        if let wanted = limits.processors {
            let foreign = wanted.subtracting(allowed)
            if foreign.count > 0 {
                try refuse(
                    "--cpuset", "processor \(foreign) is not among those allowed here (\(allowed))", isRelaxed)
                limits.processors = nil
            }
        }
        if let wanted = limits.milliProcessors, wanted > UInt64(allowed.count) * 1000 {
            try refuse("--cpus", "this process may use \(allowed.count) processors (\(allowed))", isRelaxed)
            limits.milliProcessors = nil
        }
        // Also where a group holds it: a mask that names others would be a lie.
        try confine(limits.processors)
        while !limits.isEmpty {
            do throws(CgroupRefusal) { return try ControlGroup.make(limits) } catch {
                switch error.option {
                case "--cpuset":
                    // The affinity mask alone holds everything that does not change it itself.
                    limits.processors = nil
                case "--cpus":
                    try refuse(error.option, error.reason, isRelaxed)
                    let whole = Int((limits.milliProcessors ?? 0) + 999) / 1000
                    if asked.processors == nil { try confine(allowed.prefix(max(1, whole))) }
                    limits.milliProcessors = nil
                default:
                    try refuse(error.option, error.reason, isRelaxed)
                    limits.drop(error.option)
                }
            }
        }
        return nil
    }

    private static func confine(_ processors: ProcessorList?) throws(LaunchFailure) {
        guard let processors else { return }
        do throws(SyscallError) { try processors.confine() } catch {
            throw failure("--cpuset", error.sentence)
        }
    }

    private static func failure(_ option: String, _ reason: String) -> LaunchFailure {
        LaunchFailure(.applyLimits, kept(option), detail: kept(reason), errno: ENOTSUP)
    }

    /// Throws, or warns when limits are relaxed.
    private static func refuse(_ option: String, _ reason: String, _ isRelaxed: Bool) throws(LaunchFailure) {
        guard isRelaxed else { throw failure(option, reason) }
        LaunchDiagnosis.say("trireme: warning: \(option) does not hold: \(reason) [limit-refused]\n")
    }

    // MARK: Shown inside

    /// Takes hold of the group's directories while the host's root is still the root. They are a
    /// convenience of programs that size themselves (Java, Go): a kernel that refuses costs nothing else.
    mutating func openViews() {
        guard let group else { return }
        linux_unshare(CloneFlags.newCgroup)
        for directory in group.directories {
            let flags = MountTree.openClone | MountTree.openCloseOnExec
            let tree = linux_open_tree(AT_FDCWD, directory.path, flags)
            guard tree >= 0 else { continue }
            // Delegated to this user, the group's files would let the container lift its own limits.
            if linux_mount_setattr(tree, c(""), PathFlags.emptyPath, MountAttribute.readOnly, 0, 0) != 0 {
                close(tree)
                continue
            }
            views.append((tree, kept(directory.point)))
        }
    }

    /// Puts the group where programs look for it, and a /dev/shm of the asked size in its place.
    func showInside() throws(LaunchFailure) {
        for view in views {
            linux_move_mount(view.tree, c(""), AT_FDCWD, view.point, MountTree.moveFromEmptyPath)
            close(view.tree)
        }
        guard let sharedMemory else { return }
        var options = ByteBuffer()
        options.append("mode=1777,size=")
        options.append(sharedMemory)
        let flags = MountFlags.noSetuid | MountFlags.noDevices
        guard linux_mount(c("trireme"), c("/dev/shm"), c("tmpfs"), flags, options.cString) == 0 else {
            throw Self.failure("--shm-size", SyscallError("mount", "/dev/shm").sentence)
        }
    }

    // MARK: Limits of processes

    /// Raises hard limits while the caller still has its privileges; who has none is told the limit.
    private static func reachable(_ resources: [ResourceLimit], _ isRelaxed: Bool) throws(LaunchFailure)
        -> [ResourceLimit]
    {
        var kept: [ResourceLimit] = []
        for var limit in resources {
            var current = rlimit()
            guard getrlimit(limit.resource, &current) == 0 else { throw failure(limit.option, "unknown here") }
            if limit.hard > current.rlim_max {
                var raised = rlimit(rlim_cur: current.rlim_cur, rlim_max: limit.hard)
                if setrlimit(limit.resource, &raised) != 0 {
                    let most = ResourceLimit.text(current.rlim_max)
                    try refuse(limit.option, "the hard limit of this session is \(most)", isRelaxed)
                    limit.hard = current.rlim_max
                    limit.soft = min(limit.soft, limit.hard)
                }
            }
            kept.append(limit)
        }
        return kept
    }

    /// The last step: earlier ones could need what is limited.
    func setResourceLimits() throws(LaunchFailure) {
        for limit in resources {
            var value = rlimit(rlim_cur: limit.soft, rlim_max: limit.hard)
            guard setrlimit(limit.resource, &value) == 0 else {
                throw Self.failure(limit.option, SyscallError("setrlimit").sentence)
            }
        }
    }
}

/// One line `NUMBER SOFT HARD` of the plan.
private struct ResourceLimit {
    var number: UInt32
    var soft: rlim_t
    var hard: rlim_t

    init?(_ text: String) {
        let words = text.split(separator: " ")
        guard words.count == 3, let number = UInt32(words[0]), let soft = rlim_t(words[1]), let hard = rlim_t(words[2])
        else { return nil }
        (self.number, self.soft, self.hard) = (number, soft, hard)
    }

    var resource: Int32 { Int32(number) }
    var option: String { "--ulimit " + (ResourceLimitName.name(of: number) ?? "\(number)") }
    static func text(_ value: rlim_t) -> String { value == rlim_t.max ? "unlimited" : "\(value)" }
}

/// A copy that lives as long as the process.
private func kept(_ text: String) -> CString { Array(text.utf8).withUnsafeBytes { copied($0) } }
