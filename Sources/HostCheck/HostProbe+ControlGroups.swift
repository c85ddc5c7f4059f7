import Glibc
import LinuxSystem

extension HostProbe {
    func controlGroups() -> HostFacts.ControlGroups {
        var groups = Self.controlGroups(
            mounts: Self.lines(of: "/proc/self/mountinfo"), own: Self.lines(of: "/proc/self/cgroup"),
            canWrite: { access($0, W_OK) == 0 })
        if let own = groups.ownDirectory {
            groups.controllers = (Self.firstLine(of: own + "/cgroup.controllers") ?? "").split(separator: " ")
                .map(String.init)
        }
        if let runtime = environment("XDG_RUNTIME_DIR") {
            groups.hasUserManager = access(runtime + "/systemd/private", W_OK) == 0
        }
        return groups
    }

    /// Control groups from the lines of /proc/self/mountinfo (proc(5)) and /proc/self/cgroup (cgroups(7)).
    static func controlGroups(
        mounts: [String], own: [String], canWrite: (String) -> Bool
    ) -> HostFacts.ControlGroups {
        let tree = CgroupTree(mounts: mounts, own: own)
        var groups = HostFacts.ControlGroups()
        for hierarchy in tree.hierarchies {
            guard let directory = hierarchy.directory else { continue }
            if hierarchy.isUnified {
                groups.ownDirectory = directory
                groups.isDelegated = ["", "/cgroup.procs", "/cgroup.subtree_control"].allSatisfy {
                    canWrite(directory + $0)
                }
            } else if hierarchy.controllers.allSatisfy({ !$0.hasPrefix("name=") }), canWrite(directory) {
                groups.writableControllers += hierarchy.controllers
            }
        }
        switch tree.mode {
        case .none: groups.mode = .none
        case .v1: groups.mode = .v1
        case .v2: groups.mode = .v2
        case .hybrid: groups.mode = .hybrid
        }
        groups.writableControllers.sort()
        return groups
    }
}
