import CLinux
import Glibc
import JobNetwork
import LinuxSystem

/// The file system of one node: an overlay of the shared image layers with a
/// tmpfs of its own on top, kernel file systems, private /tmp, /run and /dev/shm,
/// and the host directories bound in. Done by the node's init in its new mount,
/// network, pid, ipc and uts namespaces, before anything else runs there.
struct NodeRoot {
    var specification: ClusterSpecification
    var node: ClusterNode
    /// The cluster's tmpfs, holding `common` and one directory per node. A path: a
    /// descriptor of the supervisor's would be of its mount namespace, not of this one.
    var spacePath: String

    private static let devices = ["null", "zero", "full", "random", "urandom", "tty"]
    private static let controlGroups = "/sys/fs/cgroup"
    private static let plain = MountFlags.noSetuid | MountFlags.noDevices

    /// Ends with this process's root in the node. The old root is gone.
    func enter() throws(SyscallFailure) {
        // The trees are taken while the host's paths still mean the host's files;
        // looking them up after the pivot would follow the image's symbolic links.
        var devices: [Int32] = []
        for name in Self.devices { devices.append(try tree("/dev/" + name, isRecursive: false)) }
        var binds: [Int32] = []
        for bind in specification.binds { binds.append(try tree(bind.source, isRecursive: true)) }

        // Control groups that this machine delegates to its user serve in the nodes, too; a machine without any is none
        // the worse.
        let groups = try? tree(Self.controlGroups, isRecursive: true)

        let path = spacePath
        let door = try tree(path + "/network", isRecursive: false)
        let space = try step("open \(path)") { open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        defer { close(space) }
        try overlay(space)

        try step("enter the node's root") { chdir("\(descriptorPath(space))/\(node.name)/root") }
        try step("pivot_root") { linux_pivot_root(".", ".") }
        try kernelFileSystems()
        if let groups {
            _ = linux_move_mount(groups, "", AT_FDCWD, Self.controlGroups, MountTree.moveFromEmptyPath)
            close(groups)
        }
        for (name, tree) in zip(Self.devices, devices) { try attach(tree, "/dev/" + name, isFile: true) }
        try temporaryFileSystems()
        try makeDirectories("/run/trireme")
        try attach(door, TunnelDoor.path, isFile: true)
        try step("write \(ClusterRecord.surroundingPath)") { () throws(SyscallError) in
            try OwnedDescriptor.open(ClusterRecord.surroundingPath, O_CREAT | O_WRONLY | O_EXCL, mode: 0o444)
                .writeAll(specification.name + "\n")
        }
        for (bind, tree) in zip(specification.binds, binds) {
            try makeDirectories(bind.destination)
            try attach(tree, bind.destination, isFile: false)
            hideSpace(below: bind)
        }
        // A new proc needs a fully visible old one in this namespace (mount_too_revealing),
        // so the old root goes only now. pivot_root(2): "." is the old root, stacked on the new.
        try step("detach the host's root") { linux_umount2(".", MountTree.detach) }
        try step("enter /") { chdir("/") }
    }

    private func overlay(_ space: Int32) throws(SyscallFailure) {
        // Relative to the store, a layer's path stays short: mount(2) takes one page of options.
        try step("enter \(specification.layersDirectory)") { chdir(specification.layersDirectory) }
        let own = "\(descriptorPath(space))/\(node.name)"
        let lower = (["\(descriptorPath(space))/common"] + specification.layers).joined(separator: ":")
        let options = "lowerdir=\(lower),upperdir=\(own)/upper,workdir=\(own)/work,userxattr"
        try step("mount the node's overlay") { linux_mount("overlay", own + "/root", "overlay", 0, options) }
    }

    /// A bound home directory brings the cluster's tmpfs along: no node's business.
    private func hideSpace(below bind: ClusterSpecification.Bind) {
        if spacePath.hasPrefix(bind.source + "/") {
            _ = linux_umount2(bind.destination + spacePath.dropFirst(bind.source.count), MountTree.detach)
        }
    }

    private func descriptorPath(_ descriptor: Int32) -> String { "/proc/self/fd/\(descriptor)" }

    private func tree(_ path: String, isRecursive: Bool) throws(SyscallFailure) -> Int32 {
        let flags = MountTree.openClone | MountTree.openCloseOnExec | (isRecursive ? MountTree.recursive : 0)
        return try step("take \(path)") { linux_open_tree(AT_FDCWD, path, flags) }
    }

    private func attach(_ tree: Int32, _ path: String, isFile: Bool) throws(SyscallFailure) {
        if isFile {
            let file = try step("create \(path)") { Glibc.open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0o666) }
            close(file)
        }
        try step("bind \(path)") { linux_move_mount(tree, "", AT_FDCWD, path, MountTree.moveFromEmptyPath) }
        close(tree)
    }

    private func kernelFileSystems() throws(SyscallFailure) {
        let quiet = Self.plain | MountFlags.noExec
        try mount("proc", "/proc", quiet, "")
        try mount("sysfs", "/sys", quiet | MountFlags.readOnly, "")
        try mount("tmpfs", "/dev", MountFlags.noSetuid, "mode=0755,size=64k")
        try mount("devpts", "/dev/pts", MountFlags.noSetuid | MountFlags.noExec, "newinstance,ptmxmode=0666,mode=620")
        try mount("tmpfs", "/dev/shm", Self.plain, "mode=1777")
        try mount("mqueue", "/dev/mqueue", quiet, "")
        let links = [
            ("pts/ptmx", "/dev/ptmx"), ("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"),
            ("/proc/self/fd/1", "/dev/stdout"), ("/proc/self/fd/2", "/dev/stderr"),
        ]
        for (target, path) in links { try step("create \(path)") { symlink(target, path) } }
    }

    private func temporaryFileSystems() throws(SyscallFailure) {
        try mount("tmpfs", "/run", Self.plain, "mode=0755")
        try mount("tmpfs", "/tmp", Self.plain, "mode=1777")
        for path in ["/run/munge", "/run/slurm", "/run/lock"] + HTCondorConfiguration.runDirectories {
            try makeDirectories(path)
        }
    }

    private func mount(_ type: String, _ path: String, _ flags: UInt, _ options: String) throws(SyscallFailure) {
        try makeDirectories(path)
        try step("mount \(path)") { linux_mount(type, path, type, flags, options) }
    }

    private func makeDirectories(_ path: String) throws(SyscallFailure) { try Self.makeDirectories(path) }

    /// mkdir -p, mode 0755 below `base`.
    static func makeDirectories(_ path: String, below base: String = "") throws(SyscallFailure) {
        var current = base
        for part in path.split(separator: "/") {
            current += "/" + part
            try step("create directory \(path)") {
                let result = mkdir(current, 0o755)
                return result < 0 && errno == EEXIST ? 0 : result
            }
        }
    }
}

/// One named step: -1 becomes the failure.
@discardableResult
func step(_ name: @autoclosure () -> String, _ body: () -> Int32) throws(SyscallFailure) -> Int32 {
    while true {
        let result = body()
        if result >= 0 { return result }
        let code = errno
        if code != EINTR { throw SyscallFailure(step: name(), errno: code) }
    }
}

/// A step made of calls that throw `SyscallError`.
@discardableResult
func step<R: ~Copyable>(_ name: @autoclosure () -> String, _ body: () throws(SyscallError) -> R) throws(SyscallFailure)
    -> R
{
    do { return try body() } catch { throw SyscallFailure(step: name() + ": " + error.call.text, errno: error.errno) }
}
