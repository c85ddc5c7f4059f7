import Glibc

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
        var groups = HostFacts.ControlGroups()
        let entries = own.compactMap { line -> (controllers: [String], path: String)? in
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
            return fields.count == 3 ? (fields[1].split(separator: ",").map(String.init), fields[2]) : nil
        }
        var hasUnified = false
        var hasControllers = false
        for mount in mounts.compactMap(GroupMount.init) {
            // The v2 entry is the one without controllers; a v1 entry names those of its mount.
            let path = entries.first {
                mount.isUnified
                    ? $0.controllers.isEmpty
                    : !$0.controllers.isEmpty && $0.controllers.allSatisfy(mount.options.contains)
            }
            let directory = path.flatMap { mount.directory(of: $0.path) }
            if mount.isUnified {
                hasUnified = true
                guard let directory else { continue }
                groups.ownDirectory = directory
                groups.isDelegated = ["", "/cgroup.procs", "/cgroup.subtree_control"].allSatisfy {
                    canWrite(directory + $0)
                }
            } else if let path, path.controllers.allSatisfy({ !$0.hasPrefix("name=") }) {
                hasControllers = true
                if let directory, canWrite(directory) { groups.writableControllers += path.controllers }
            }
        }
        groups.mode = hasControllers ? (hasUnified ? .hybrid : .v1) : (hasUnified ? .v2 : .none)
        groups.writableControllers.sort()
        return groups
    }

    /// One line of /proc/self/mountinfo about a control group hierarchy.
    private struct GroupMount {
        var root: String
        var point: String
        var isUnified: Bool
        var options: [String]

        /// nil for any other file system.
        init?(_ line: String) {
            let fields = line.split(separator: " ").map(String.init)
            guard let dash = fields.firstIndex(of: "-"), fields.count > dash + 3, fields.count > 4 else { return nil }
            guard fields[dash + 1] == "cgroup" || fields[dash + 1] == "cgroup2" else { return nil }
            root = fields[3]
            point = fields[4]
            isUnified = fields[dash + 1] == "cgroup2"
            options = fields[dash + 3].split(separator: ",").map(String.init)
        }

        /// Where the group `path` is visible here; nil when this mount shows another part of the tree.
        func directory(of path: String) -> String? {
            if root == "/" { return path == "/" ? point : point + path }
            guard path == root || path.hasPrefix(root + "/") else { return nil }
            return point + path.dropFirst(root.count)
        }
    }
}
