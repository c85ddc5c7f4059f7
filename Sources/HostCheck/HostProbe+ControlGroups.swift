import Glibc

extension HostProbe {
    /// Control groups from /proc/self/mountinfo (proc(5)) and /proc/self/cgroup (cgroups(7)).
    func controlGroups() -> HostFacts.ControlGroups {
        var groups = HostFacts.ControlGroups()
        let own = Self.lines(of: "/proc/self/cgroup").map {
            $0.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        }
        var hasUnified = false
        var hasControllers = false
        for line in Self.lines(of: "/proc/self/mountinfo") {
            guard let mount = GroupMount(line) else { continue }
            if mount.isUnified {
                hasUnified = true
                guard let entry = own.first(where: { $0.count == 3 && $0[0] == "0" }),
                    let directory = mount.directory(of: entry[2])
                else { continue }
                groups.ownDirectory = directory
                groups.isDelegated =
                    access(directory, W_OK) == 0 && access(directory + "/cgroup.procs", W_OK) == 0
                    && access(directory + "/cgroup.subtree_control", W_OK) == 0
            } else {
                for entry in own where entry.count == 3 {
                    let controllers = entry[1].split(separator: ",").map(String.init)
                    guard !controllers.isEmpty, controllers.allSatisfy({ mount.options.contains($0) }) else { continue }
                    if !entry[1].hasPrefix("name=") { hasControllers = true }
                    guard let directory = mount.directory(of: entry[2]), access(directory, W_OK) == 0 else { continue }
                    groups.writableControllers += controllers.filter { !$0.hasPrefix("name=") }
                }
            }
        }
        groups.mode = hasControllers ? (hasUnified ? .hybrid : .v1) : (hasUnified ? .v2 : .none)
        groups.writableControllers.sort()
        if let runtime = environment("XDG_RUNTIME_DIR") {
            groups.hasUserManager = access(runtime + "/systemd/private", W_OK) == 0
        }
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
