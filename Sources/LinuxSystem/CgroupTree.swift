import Glibc

/// The control groups a process stands in, as far as its mounts show them.
///
/// Read from the lines of /proc/self/mountinfo (proc(5)) and /proc/self/cgroup (cgroups(7)); knows
/// version 1, version 2, both side by side, and none.
package struct CgroupTree: Equatable, Sendable {
    package enum Mode: String, Sendable { case none, v1, v2, hybrid }

    /// One mounted hierarchy.
    package struct Hierarchy: Equatable, Sendable {
        /// cgroup v2: one hierarchy for all controllers.
        package var isUnified: Bool
        /// Of version 1: the controllers of this mount; empty for version 2.
        package var controllers: [String]
        /// Where it is mounted.
        package var point: String
        /// The caller's own group; nil when this mount shows another part of the tree (a nested container).
        package var directory: String?
        /// The part of the hierarchy that the mount shows, by its path in the hierarchy.
        var root: String

        /// Where the group `path` (as /proc/PID/cgroup writes it) is visible here; nil when it is not.
        func directory(of path: String) -> String? {
            if root == "/" { return path == "/" ? point : point + path }
            guard path == root || path.hasPrefix(root + "/") else { return nil }
            return point + path.dropFirst(root.count)
        }
    }

    package var hierarchies: [Hierarchy]

    package init(mounts: [String], own: [String]) {
        let entries = own.compactMap(Self.membership)
        hierarchies = mounts.compactMap { line in
            guard let mount = Mount(line) else { return nil }
            // The v2 entry is the one without controllers; a v1 entry names those of its mount.
            let entry = entries.first {
                mount.isUnified
                    ? $0.controllers.isEmpty
                    : !$0.controllers.isEmpty && $0.controllers.allSatisfy(mount.options.contains)
            }
            var hierarchy = Hierarchy(
                isUnified: mount.isUnified, controllers: mount.isUnified ? [] : entry?.controllers ?? [],
                point: mount.point, directory: nil, root: mount.root)
            hierarchy.directory = entry.flatMap { hierarchy.directory(of: $0.path) }
            return hierarchy
        }
    }

    /// The caller's.
    package static func current() -> CgroupTree {
        CgroupTree(mounts: lines(of: "/proc/self/mountinfo"), own: lines(of: "/proc/self/cgroup"))
    }

    /// A line `ID:CONTROLLERS:PATH` of /proc/PID/cgroup.
    static func membership(_ line: String) -> (controllers: [String], path: String)? {
        let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        return fields.count == 3 ? (fields[1].split(separator: ",").map(String.init), fields[2]) : nil
    }

    static func lines(of path: String) -> [String] {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY), let bytes = try? file.readAll(limit: 8 << 20) else {
            return []
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    package var mode: Mode {
        let hasUnified = hierarchies.contains { $0.isUnified }
        // A named hierarchy (systemd's) holds processes but limits nothing.
        let hasControllers = hierarchies.contains { $0.controllers.contains { !$0.hasPrefix("name=") } }
        return hasControllers ? (hasUnified ? .hybrid : .v1) : (hasUnified ? .v2 : .none)
    }

    /// The v1 hierarchy of `controller`.
    package func legacy(_ controller: String) -> Hierarchy? {
        hierarchies.first { !$0.isUnified && $0.controllers.contains(controller) }
    }

    /// The v2 hierarchy.
    package var unified: Hierarchy? { hierarchies.first { $0.isUnified } }

    /// One line of /proc/self/mountinfo about a control group hierarchy.
    private struct Mount {
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
    }
}
