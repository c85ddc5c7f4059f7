import CLinux
import Glibc

/// Why a limit cannot be enforced with control groups here.
package struct CgroupRefusal: Error, Equatable, Sendable {
    /// The option as it is typed.
    package var option: String
    package var reason: String
}

/// The control group of one container: a directory in each hierarchy that limits something of it.
///
/// Bound to the container's life by its keeper: `remove` kills what is left in it and takes the
/// directories away. One that a killed keeper left behind is empty by then or soon, and the next
/// container started beside it removes it (`sweep`).
package struct ControlGroup: Equatable, Sendable {
    package struct Directory: Equatable, Sendable {
        package var path: String
        /// Where its hierarchy is mounted.
        package var point: String
        package var isUnified: Bool
        /// Of version 2: the delegated group whose controllers were switched on for this one and
        /// whose only process, the keeper, stands in a leaf of it meanwhile.
        var vacated: Vacated?
    }

    struct Vacated: Equatable, Sendable {
        var group: String
        var leaf: String
        var controllers: [String]
    }

    package private(set) var directories: [Directory] = []
    /// The memory limit, bytes.
    package private(set) var memoryLimit: UInt64?

    /// Groups of ours; the keeper's pid follows.
    static let namePrefix = "trireme-"

    // MARK: Making

    /// Makes a group with `limits` below the caller's own. The caller stays where it is
    /// (of version 2: in a leaf beside the new group where the kernel demands that).
    ///
    /// - Throws: the first limit that cannot be enforced, and why. Nothing is left behind then.
    package static func make(_ limits: CgroupLimits, in tree: CgroupTree = .current()) throws(CgroupRefusal)
        -> ControlGroup
    {
        var group = ControlGroup()
        group.memoryLimit = limits.memory
        do throws(CgroupRefusal) {
            let demands = limits.demands()
            let unified = demands.filter { tree.legacy($0.controller) == nil && !Self.isLegacyOnly($0, tree) }
            for demand in demands where !unified.contains(demand) { try group.addLegacy(demand, tree) }
            if !unified.isEmpty { try group.addUnified(unified, tree) }
        } catch {
            group.remove()
            throw error
        }
        return group
    }

    /// Whether version 2 is all there is and no group for `limits` can be made from where the caller
    /// stands: a scope of the user's systemd is then a place where it can.
    package static func needsScope(_ limits: CgroupLimits, in tree: CgroupTree = .current()) -> Bool {
        var limits = limits
        limits.processors = nil
        let controllers = limits.demands().map { $0.controller }
        guard !controllers.isEmpty, tree.mode == .v2, let hierarchy = tree.unified, let own = hierarchy.directory else {
            return false
        }
        do throws(CgroupRefusal) {
            _ = try UnifiedPlace.find(controllers, own: own, point: hierarchy.point, option: "")
            return false
        } catch { return true }
    }

    /// Version 1 knows the io controller as blkio.
    private static func isLegacyOnly(_ demand: CgroupLimits.Demand, _ tree: CgroupTree) -> Bool {
        demand.controller == "io" && tree.legacy("blkio") != nil
    }

    /// With the pid namespace, which tells apart the keepers of a virtual cluster's nodes: their pids are alike.
    private var name: String {
        Self.namePrefix + String(getpid()) + "-" + Self.space
    }

    /// The pid namespace this process is in, by its number.
    private static var space: String {
        var status = stat()
        return stat("/proc/self/ns/pid", &status) == 0 ? String(status.st_ino) : "0"
    }

    private mutating func addLegacy(_ demand: CgroupLimits.Demand, _ tree: CgroupTree) throws(CgroupRefusal) {
        func refused(_ reason: String) -> CgroupRefusal { CgroupRefusal(option: demand.option, reason: reason) }
        guard let settings = demand.legacy else {
            throw refused("control groups of version 1 cannot limit writes that go through the page cache")
        }
        guard let hierarchy = tree.legacy(demand.controller), let own = hierarchy.directory else {
            throw refused("this process's own group of the controller '\(demand.controller)' is not visible here")
        }
        let path = own + "/" + name
        if !directories.contains(where: { $0.path == path }) {
            Self.sweep(own)
            guard mkdir(path, 0o755) == 0 else {
                throw refused(
                    "no group can be made in \(own) (control groups of version 1): \(SyscallError("mkdir").reason)")
            }
            directories.append(Directory(path: path, point: hierarchy.point, isUnified: false))
            if hierarchy.controllers.contains("cpuset") {
                // cpusets(7): both sets must be filled in before the group takes a process.
                for file in ["cpuset.mems", "cpuset.cpus"] {
                    let inherited = CgroupFile.text(own + "/" + file) ?? ""
                    try? CgroupFile.write(path + "/" + file, inherited)
                }
            }
        }
        try Self.write(settings, to: path, demand.option)
    }

    private mutating func addUnified(_ demands: [CgroupLimits.Demand], _ tree: CgroupTree) throws(CgroupRefusal) {
        if let idle = demands.first(where: { $0.unified.isEmpty }) {
            throw CgroupRefusal(
                option: idle.option,
                reason: "no disk here whose speed the kernel could limit (a network file system is none)")
        }
        let option = demands[0].option
        func refused(_ reason: String) -> CgroupRefusal { CgroupRefusal(option: option, reason: reason) }
        guard let hierarchy = tree.unified else {
            throw refused(
                tree.mode == .none
                    ? "no control groups are mounted" : "no hierarchy has the controller '\(demands[0].controller)'")
        }
        guard let own = hierarchy.directory else {
            throw refused("this process's own control group is not visible here")
        }
        let controllers = demands.reduce(into: [String]()) {
            if !$0.contains($1.controller) { $0.append($1.controller) }
        }
        let place = try UnifiedPlace.find(controllers, own: own, point: hierarchy.point, option: option)
        let path = place.parent + "/" + name
        Self.sweep(place.parent)
        var vacated: Vacated?
        if place.mustVacate {
            vacated = try Self.vacate(place.parent, for: controllers, option: option)
        }
        guard mkdir(path, 0o755) == 0 else {
            let reason = SyscallError("mkdir").reason
            if let vacated { Self.returnTo(vacated) }
            throw refused("no group can be made in \(place.parent): \(reason)")
        }
        directories.append(Directory(path: path, point: hierarchy.point, isUnified: true, vacated: vacated))
        if !place.missing.isEmpty, vacated == nil {
            do throws(SyscallError) { try Self.enable(place.missing, in: place.parent) } catch {
                throw refused("the controllers cannot be switched on: \(error.sentence)")
            }
        }
        for demand in demands { try Self.write(demand.unified, to: path, demand.option) }
    }

    private static func write(_ settings: [CgroupLimits.Setting], to path: String, _ option: String)
        throws(CgroupRefusal)
    {
        for setting in settings {
            do throws(SyscallError) { try CgroupFile.write(path + "/" + setting.file, setting.value) } catch {
                if setting.isOptional, error.errno == ENOENT { continue }
                throw CgroupRefusal(option: option, reason: error.sentence)
            }
        }
    }

    // MARK: Version 2: no processes beside controlled groups

    static func enable(_ controllers: [String], in group: String) throws(SyscallError) {
        let path = group + "/cgroup.subtree_control"
        try CgroupFile.write(path, controllers.map { "+" + $0 }.joined(separator: " "))
    }

    /// Moves the caller into a leaf of `group`, which it is alone in, and switches the controllers on
    /// (cgroup-v2.rst, "No Internal Process Constraint").
    private static func vacate(_ group: String, for controllers: [String], option: String) throws(CgroupRefusal)
        -> Vacated
    {
        let vacated = Vacated(
            group: group, leaf: group + "/" + namePrefix + String(getpid()) + ".keeper", controllers: controllers)
        guard mkdir(vacated.leaf, 0o755) == 0 || errno == EEXIST else {
            throw CgroupRefusal(
                option: option, reason: "no group can be made in \(group): \(SyscallError("mkdir").reason)")
        }
        do throws(SyscallError) {
            try CgroupFile.write(vacated.leaf + "/cgroup.procs", "0")
            try enable(controllers, in: group)
        } catch {
            returnTo(vacated)
            throw CgroupRefusal(option: option, reason: "the controllers cannot be switched on: \(error.sentence)")
        }
        return vacated
    }

    /// Undoes `vacate`; where others use the controllers by now, everything stays.
    private static func returnTo(_ vacated: Vacated) {
        let off = vacated.controllers.map { "-" + $0 }.joined(separator: " ")
        try? CgroupFile.write(vacated.group + "/cgroup.subtree_control", off)
        try? CgroupFile.write(vacated.group + "/cgroup.procs", "0")
        rmdir(vacated.leaf)
    }

    // MARK: Living

    /// Moves the caller into the group; what it starts from now on is in it.
    package func enter() throws(SyscallError) {
        for directory in directories { try CgroupFile.write(directory.path + "/cgroup.procs", "0") }
    }

    /// Moves the caller into the groups of ours that the process `pid` stands in: who joins a container
    /// comes under its limits.
    package static func join(of pid: pid_t, in tree: CgroupTree = .current()) throws(SyscallError) {
        for line in CgroupTree.lines(of: "/proc/\(pid)/cgroup") {
            // By components: a search of text in text would link the library of regular expressions into the launcher.
            guard let entry = CgroupTree.membership(line),
                entry.path.split(separator: "/").contains(where: { $0.hasPrefix(namePrefix) })
            else { continue }
            let hierarchy = tree.hierarchies.first {
                entry.controllers.isEmpty ? $0.isUnified : !$0.isUnified && $0.controllers == entry.controllers
            }
            guard let path = hierarchy?.directory(of: entry.path) else {
                throw SyscallError("open", entry.path, errno: ENOENT)
            }
            try CgroupFile.write(path + "/cgroup.procs", "0")
        }
    }

    // MARK: By another process

    /// The group in words that `init(keeping:)` of another process reads.
    package var note: [UInt8] {
        Array(directories.map { ($0.isUnified ? "2 " : "1 ") + $0.path + "\n" }.joined().utf8)
    }

    /// The group of `note`, to be removed by a process that did not make it; nil when there is none.
    package init?(keeping note: [UInt8]) {
        for line in String(decoding: note, as: UTF8.self).split(separator: "\n") where line.count > 2 {
            directories.append(Directory(path: String(line.dropFirst(2)), point: "", isUnified: line.hasPrefix("2 ")))
        }
        if directories.isEmpty { return nil }
    }

    private init() {}

    /// How many processes the kernel killed for going over the memory limit.
    package func outOfMemoryKills() -> UInt64 {
        for directory in directories {
            let file = directory.isUnified ? "memory.events" : "memory.oom_control"
            if let kills = CgroupFile.number(directory.path + "/" + file, key: "oom_kill") { return kills }
        }
        return 0
    }

    /// The most memory that was ever used, bytes; nil where the kernel does not count it.
    package func peakMemory() -> UInt64? {
        for directory in directories {
            let file = directory.isUnified ? "memory.peak" : "memory.max_usage_in_bytes"
            if let bytes = CgroupFile.number(directory.path + "/" + file) { return bytes }
        }
        return nil
    }

    // MARK: The end

    /// Kills what is left in the group and removes it; gives up after 5 s (a process that cannot die).
    package func remove() {
        for round in 0..<1000 {
            var isGone = true
            for directory in directories where rmdir(directory.path) != 0 && errno != ENOENT {
                isGone = false
                Self.kill(directory)
            }
            if isGone { break }
            usleep(round < 20 ? 1000 : 5000)
        }
        for directory in directories {
            if let vacated = directory.vacated { Self.returnTo(vacated) }
        }
    }

    private static func kill(_ directory: Directory) {
        // Linux 5.14 kills all of a v2 group at once; a process that forks meanwhile dies too.
        if directory.isUnified, (try? CgroupFile.write(directory.path + "/cgroup.kill", "1")) != nil { return }
        for word in CgroupFile.words(directory.path + "/cgroup.procs") {
            // 0 is a process of another pid namespace, and the caller itself must stay.
            if let pid = pid_t(word), pid > 0, pid != getpid() { Glibc.kill(pid, SIGKILL) }
        }
        // A container inside may have made groups of its own.
        for name in CgroupFile.names(in: directory.path, prefix: namePrefix) {
            var below = directory
            below.path += "/" + name
            if rmdir(below.path) != 0 { kill(below) }
        }
    }

    /// Removes the empty groups of ours whose keeper is gone, beside the caller's own.
    /// - Parameter keeping: they stay, and are only named.
    /// - Returns: their paths.
    package static func removeLeftovers(keeping: Bool, in tree: CgroupTree = .current()) -> [String] {
        Set(tree.hierarchies.compactMap { $0.directory }).sorted().flatMap { sweep($0, keeping: keeping) }
    }

    /// Removes groups of ours in `parent` whose keeper is gone; those with processes stay.
    @discardableResult
    static func sweep(_ parent: String, keeping: Bool = false) -> [String] {
        var gone: [String] = []
        for name in CgroupFile.names(in: parent, prefix: namePrefix) {
            let words = name.dropFirst(namePrefix.count).split(separator: "-")
            guard let digits = words.first, let pid = pid_t(digits), pid > 0 else { continue }
            // Of a pid in another namespace nothing is known here.
            let isForeign = words.count > 1 && words[1] != space
            guard isForeign || Glibc.kill(pid, 0) != 0 && errno == ESRCH else { continue }
            // A keeper in another pid namespace looks gone too; its group is filled within moments.
            var status = stat()
            let path = parent + "/" + name
            guard stat(path, &status) == 0, time(nil) - status.st_ctim.tv_sec > 10 else { continue }
            if keeping || rmdir(path) == 0 { gone.append(path) }
        }
        return gone
    }

    /// The names of groups of ours that lie directly below the caller's own, in any hierarchy.
    package static func leftovers(in tree: CgroupTree = .current()) -> [String] {
        tree.hierarchies.compactMap { $0.directory }.flatMap { directory in
            CgroupFile.names(in: directory, prefix: namePrefix).map { directory + "/" + $0 }
        }
    }
}
