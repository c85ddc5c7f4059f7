import CLinux
import Glibc
import LinuxSystem

// From what a request names to a detached tree of mounts, ready to be attached. Runs while the
// host's root is still the root.

extension MountRequest {
    /// How many components the destination has.
    var depth: Int {
        var depth = 0
        var at = 0
        while destination[at] != 0 {
            if destination[at] == slash, destination[at + 1] != 0 { depth += 1 }
            at += 1
        }
        return depth
    }

    /// A copy of the source's mounts; false when the source is optional and not there.
    mutating func openBind() throws(LaunchFailure) -> Bool {
        let recursive: UInt32 = isWithoutSubmounts ? 0 : MountTree.recursive
        tree = linux_open_tree(AT_FDCWD, source, MountTree.openClone | MountTree.openCloseOnExec | recursive)
        if tree < 0 {
            if isOptional, errno == ENOENT || errno == EACCES || errno == ENOTDIR { return false }
            throw LaunchFailure(.openSource, source, detail: isWithoutSubmounts ? c("bind") : destination)
        }
        var status = stat()
        guard fstat(tree, &status) == 0 else { throw LaunchFailure(.openSource, source) }
        isDirectory = status.st_mode & S_IFMT == S_IFDIR
        let attributes = self.attributes
        if attributes != 0,
            linux_mount_setattr(tree, c(""), PathFlags.emptyPath | recursive, attributes, 0, 0) != 0
        {
            throw LaunchFailure(.openSource, source)
        }
        return true
    }

    /// What a user brings in, and the caller's own directories, gain nobody a privilege: set-id bits and,
    /// outside of /dev, device nodes mean nothing there. What the source's mounts already forbid stays forbidden.
    private var attributes: UInt64 {
        var attributes: UInt64 = 0
        // The kernel's own file systems have no such files, and a single file is no directory to find one in.
        if origin == .user || origin == .standard && isDirectory && !isKernels {
            attributes |= MountAttribute.noSetuid
            if !isInside(source, c("/dev")) { attributes |= MountAttribute.noDevices }
        }
        if isReadOnly { attributes |= MountAttribute.readOnly }
        if isNotExecutable { attributes |= MountAttribute.noExec }
        return attributes
    }

    private var isKernels: Bool {
        isInside(source, c("/proc")) || isInside(source, c("/sys")) || isInside(source, c("/dev"))
    }

    /// An empty tmpfs with the options in `source`.
    mutating func openTemporary() throws(LaunchFailure) {
        let context = linux_fsopen(c("tmpfs"), MountTree.fsopenCloseOnExec)
        guard context >= 0 else { throw LaunchFailure(.openSource, "tmpfs", detail: destination) }
        defer { close(context) }
        // A default first; what `source` says of it wins.
        if linux_fsconfig(context, MountTree.configSetString, c("mode"), c("0755"), 0) != 0
            || linux_fsconfig(context, MountTree.configSetString, c("source"), c("trireme"), 0) != 0
        {
            throw LaunchFailure(.openSource, "tmpfs", detail: destination)
        }
        try configure(context)
        guard linux_fsconfig(context, MountTree.configCreate, nil, nil, 0) == 0 else {
            throw LaunchFailure(.openSource, "tmpfs", detail: destination)
        }
        var attributes = MountAttribute.noSetuid | MountAttribute.noDevices
        if isReadOnly { attributes |= MountAttribute.readOnly }
        if isNotExecutable { attributes |= MountAttribute.noExec }
        tree = linux_fsmount(context, MountTree.fsmountCloseOnExec, UInt32(attributes))
        guard tree >= 0 else { throw LaunchFailure(.openSource, "tmpfs", detail: destination) }
        isDirectory = true
    }

    private func configure(_ context: Int32) throws(LaunchFailure) {
        var at = 0
        while source[at] != 0 {
            var key = ByteBuffer(capacity: 32)
            while source[at] != 0, source[at] != equals, source[at] != comma {
                key.append(source[at])
                at += 1
            }
            var value = ByteBuffer(capacity: 32)
            if source[at] == equals {
                at += 1
                while source[at] != 0, source[at] != comma {
                    value.append(source[at])
                    at += 1
                }
            }
            if source[at] == comma { at += 1 }
            guard linux_fsconfig(context, MountTree.configSetString, key.cString, value.cString, 0) == 0 else {
                throw LaunchFailure(.openSource, source, detail: c("tmpfs"))
            }
        }
    }

    /// Directories stacked read-only, topmost first: an image's layers as data.
    ///
    /// Mounted for a moment over /sys, where the root will be made: fsconfig(2) takes no option longer
    /// than 255 bytes, and its one-by-one form needs Linux 6.5.
    mutating func openStack() throws(LaunchFailure) {
        isDirectory = true
        isReadOnly = true
        var options = ByteBuffer(capacity: strlen(source) + 32)
        options.append("userxattr,lowerdir=")
        options.append(source)
        guard options.count < 4096 else { throw LaunchFailure(.openSource, source, detail: destination, errno: E2BIG) }
        let flags = MountFlags.noSetuid | MountFlags.noDevices | MountFlags.readOnly
        guard linux_mount(c("trireme"), c("/sys"), c("overlay"), flags, options.cString) == 0 else {
            throw LaunchFailure(.openSource, source, detail: destination)
        }
        tree = linux_open_tree(AT_FDCWD, c("/sys"), MountTree.openClone | MountTree.openCloseOnExec)
        let code = errno
        guard linux_umount2(c("/sys"), MountTree.detach) == 0, tree >= 0 else {
            throw LaunchFailure(.openSource, source, detail: destination, errno: code)
        }
    }
}
