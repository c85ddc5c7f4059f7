import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

// What a container does not get of its host, beyond its own root: descriptors, names, networks,
// parts of /proc and /sys.

extension ContainerEntry {
    var namespaces: Int32 { Int32(bitPattern: facts.unshare) }
    var isIsolated: Bool { options.contains(.isolated) }

    /// Whether /proc/sys, /sys and what else root may write must be taken away: a new uid 0 of the
    /// kernel passes their permission bits without any capability (proc_sys_permission, sysfs modes).
    private func needsMasks(_ identity: Identity) -> Bool { isIsolated || identity.callerUID == 0 }

    /// Closes what the caller left open and the application must not have.
    ///
    /// An open directory is a way around the root (`openat(7, "etc")`), so none passes. Pipes, sockets
    /// and files do pass in the hpc profile: MPI launchers hand them over by number (PMI_FD).
    func closeDescriptors() {
        if let kept = facts.keptDescriptors {
            _ = linux_close_range(3 + kept, UInt32.max, 0)
        }
        var status = stat()
        // Linux 6.2 tells the number of descriptors here (proc_pid_fd(5)); before, it is 0.
        if stat(c("/proc/self/fd"), &status) == 0, status.st_size > 0, status.st_size <= 3,
            fcntl(0, F_GETFD) >= 0, fcntl(1, F_GETFD) >= 0, fcntl(2, F_GETFD) >= 0
        {
            return
        }
        let listing = open(c("/proc/self/fd"), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard listing >= 0 else { return }
        defer { close(listing) }
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 8)
        while true {
            let length = linux_getdents64(listing, buffer, 4096)
            if length <= 0 { return }
            var at = 0
            while at < length {
                // struct linux_dirent64: ino, off, u16 reclen at 16, name at 19 (getdents64(2)).
                let size = Int(buffer.loadUnaligned(fromByteOffset: at + 16, as: UInt16.self))
                let name = (buffer + at + 19).assumingMemoryBound(to: CChar.self)
                at += size
                let number = atoi(name)
                guard name[0] != 0x2E, number > 2, number != listing else { continue }
                if fstat(number, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { close(number) }
            }
        }
    }

    /// What the new namespaces start with: a host name, and a loopback device that is up.
    func furnishNamespaces() throws(LaunchFailure) {
        if let name = facts.hostName, sethostname(name, strlen(name)) != 0 {
            throw LaunchFailure(.createNamespaces, name)
        }
        guard namespaces & CloneFlags.newNetwork != 0 else { return }
        let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw LaunchFailure(.createNamespaces, "lo") }
        defer { close(socket) }
        // struct ifreq: the name in 16 bytes, then the flags; IFF_UP is 1, SIOCSIFFLAGS 0x8914 (netdevice(7)).
        var request: (UInt64, UInt64, UInt64, UInt64, UInt64) = (0x6F6C, 0, 1, 0, 0)
        guard linux_ioctl_pointer(socket, 0x8914, &request) == 0 else {
            throw LaunchFailure(.createNamespaces, "lo")
        }
    }

    /// Inside the new root, with its mounts: no set-id bit counts anywhere, and what of /proc and /sys
    /// tells or changes the machine is covered.
    func mask(_ identity: Identity) throws(LaunchFailure) {
        guard linux_mount_setattr(AT_FDCWD, c("/"), MountTree.recursive, MountAttribute.noSetuid, 0, 0) == 0 else {
            throw LaunchFailure(.maskSystem, "/")
        }
        guard needsMasks(identity) else { return }
        for path in MaskedPath.readOnly {
            guard linux_mount(path, path, nil, MountFlags.bind | MountFlags.recursive, nil) == 0 else {
                if errno == ENOENT || errno == EACCES { continue }
                throw LaunchFailure(.maskSystem, path)
            }
            guard linux_mount_setattr(AT_FDCWD, path, MountTree.recursive, MountAttribute.readOnly, 0, 0) == 0 else {
                throw LaunchFailure(.maskSystem, path)
            }
        }
        for path in MaskedPath.hidden { try hide(path) }
    }

    private func hide(_ path: CString) throws(LaunchFailure) {
        var status = stat()
        guard stat(path, &status) == 0 else { return }
        let done =
            status.st_mode & S_IFMT == S_IFDIR
            ? linux_mount(
                c("trireme"), path, c("tmpfs"),
                MountFlags.readOnly | MountFlags.noSetuid | MountFlags.noDevices | MountFlags.noExec, c("mode=0555"))
            : linux_mount(c("/dev/null"), path, nil, MountFlags.bind, nil)
        // The mask's mode and owner would be those of the host's /dev/null.
        guard done == 0, linux_mount_setattr(AT_FDCWD, path, 0, MountAttribute.readOnly, 0, 0) == 0 else {
            throw LaunchFailure(.maskSystem, path)
        }
    }
}

/// Docker's lists of masked and read-only paths (its default OCI specification), and all of /sys.
private struct MaskedPath: Sequence, IteratorProtocol {
    private let number: (Int) -> CString?
    private var index = 0

    static var readOnly: MaskedPath {
        MaskedPath { index in
            switch index {
            case 0: c("/sys")
            case 1: c("/proc/sys")
            case 2: c("/proc/sysrq-trigger")
            case 3: c("/proc/irq")
            case 4: c("/proc/bus")
            case 5: c("/proc/fs")
            default: nil
            }
        }
    }
    static var hidden: MaskedPath {
        MaskedPath { index in
            switch index {
            case 0: c("/proc/kcore")
            case 1: c("/proc/keys")
            case 2: c("/proc/timer_list")
            case 3: c("/proc/latency_stats")
            case 4: c("/proc/sched_debug")
            case 5: c("/proc/acpi")
            case 6: c("/proc/asound")
            case 7: c("/proc/scsi")
            case 8: c("/proc/interrupts")
            case 9: c("/sys/firmware")
            case 10: c("/sys/devices/virtual/powercap")
            default: nil
            }
        }
    }

    private init(_ number: @escaping (Int) -> CString?) { self.number = number }
    mutating func next() -> CString? {
        defer { index += 1 }
        return number(index)
    }
}

// MARK: Mounts

extension MountList {
    /// The kernel's file systems of the container.
    /// - Parameter ownProcesses: /proc shows the container's own pid namespace.
    mutating func appendKernelFileSystems(_ options: LaunchPlan.Options, _ namespaces: Int32) {
        if namespaces & CloneFlags.newPID != 0 {
            append(MountRequest(kind: .fileSystem, source: c("proc"), destination: c("/proc")))
        } else {
            append(MountRequest(source: c("/proc"), destination: c("/proc")))
        }
        append(MountRequest(source: c("/sys"), destination: c("/sys")))
        if options.contains(.minimalDevices) {
            appendMinimalDevices(namespaces)
            return
        }
        append(MountRequest(source: c("/dev"), destination: c("/dev")))
        // Shared memory and queues of POSIX are files: a namespace of its own without own directories is none.
        if namespaces & CloneFlags.newIPC != 0 { appendOwnMemory(inHostDevices: true) }
    }

    /// - Parameter inHostDevices: the mount points are the host's, which may lack them.
    private mutating func appendOwnMemory(inHostDevices: Bool) {
        if !inHostDevices || access(c("/dev/shm"), F_OK) == 0 {
            append(MountRequest(kind: .temporary, source: c("mode=1777"), destination: c("/dev/shm")))
        }
        if !inHostDevices || access(c("/dev/mqueue"), F_OK) == 0 {
            append(MountRequest(kind: .fileSystem, source: c("mqueue"), destination: c("/dev/mqueue")))
        }
    }

    private mutating func appendMinimalDevices(_ namespaces: Int32) {
        append(MountRequest(kind: .temporary, source: c("mode=0755"), destination: c("/dev")))
        appendDevice(c("/dev/null"))
        appendDevice(c("/dev/zero"))
        appendDevice(c("/dev/full"))
        appendDevice(c("/dev/random"))
        appendDevice(c("/dev/urandom"))
        appendDevice(c("/dev/tty"))
        append(MountRequest(kind: .fileSystem, source: c("devpts"), destination: c("/dev/pts")))
        if namespaces & CloneFlags.newIPC != 0 {
            appendOwnMemory(inHostDevices: false)
        } else {
            append(MountRequest(source: c("/dev/shm"), destination: c("/dev/shm"), isOptional: true))
            append(MountRequest(source: c("/dev/mqueue"), destination: c("/dev/mqueue"), isOptional: true))
        }
        append(MountRequest(kind: .link, source: c("pts/ptmx"), destination: c("/dev/ptmx")))
        append(MountRequest(kind: .link, source: c("/proc/self/fd"), destination: c("/dev/fd")))
        append(MountRequest(kind: .link, source: c("/proc/self/fd/0"), destination: c("/dev/stdin")))
        append(MountRequest(kind: .link, source: c("/proc/self/fd/1"), destination: c("/dev/stdout")))
        append(MountRequest(kind: .link, source: c("/proc/self/fd/2"), destination: c("/dev/stderr")))
    }

    private mutating func appendDevice(_ path: CString) {
        append(.hostsOwn(path, at: path))
    }
}

extension MountRequest {
    /// A file or device node of the host's. Only root could write it or change its mode, and root's container
    /// is not the place to: devices work on a read-only mount (open(2) asks the mount for other files alone).
    static func hostsOwn(_ source: CString, at destination: CString) -> MountRequest {
        var request = MountRequest(source: source, destination: destination, isOptional: true)
        request.isReadOnly = geteuid() == 0
        return request
    }

    /// A new instance of a kernel file system; `source` is its type.
    ///
    /// Made while the host's /proc is still in sight: the kernel lets an unprivileged process mount
    /// another one only then (mount_too_revealing), and only if nothing of it is covered.
    mutating func openFileSystem() throws(LaunchFailure) {
        let context = linux_fsopen(source, MountTree.fsopenCloseOnExec)
        guard context >= 0 else { throw LaunchFailure(.mountSystem, source) }
        defer { close(context) }
        if isEqual(source, "devpts") {
            // gid 5 (tty) is not mapped: terminals belong to the caller's group.
            guard linux_fsconfig(context, MountTree.configSetString, c("ptmxmode"), c("0666"), 0) == 0,
                linux_fsconfig(context, MountTree.configSetString, c("mode"), c("0620"), 0) == 0
            else { throw LaunchFailure(.mountSystem, source) }
        }
        guard linux_fsconfig(context, MountTree.configCreate, nil, nil, 0) == 0 else {
            throw LaunchFailure(.mountSystem, source)
        }
        let attributes =
            MountAttribute.noSetuid | MountAttribute.noExec
            | (isEqual(source, "devpts") ? 0 : MountAttribute.noDevices)
        tree = linux_fsmount(context, MountTree.fsmountCloseOnExec, UInt32(attributes))
        guard tree >= 0 else { throw LaunchFailure(.mountSystem, source) }
        isDirectory = true
    }
}
