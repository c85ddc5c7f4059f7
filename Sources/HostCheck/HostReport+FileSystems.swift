// File systems: overlays, FUSE, the store, temporary space, shared memory.
extension HostReport {
    static func overlay(_ facts: HostFacts) -> Finding {
        let name = "overlay"
        guard facts.userNamespace == .worked else { return needsUserNamespaces(name) }
        if facts.overlayLower == .worked { return .ok(name, "mounted two layers read-only in a user namespace") }
        let (cause, fix): (String, String)
        switch facts.overlayLower.errno {
        case 19:  // ENODEV
            (cause, fix) = ("the kernel has no overlay file system loaded", "as administrator: modprobe overlay")
        case 22:  // EINVAL
            (cause, fix) = (
                "this kernel's overlay does not know 'userxattr', which is of Linux 5.11",
                "boot a kernel of 5.11 or later"
            )
        default:
            (cause, fix) = (
                "overlays in user namespaces are refused: a kernel before 5.11, a filter or a security module",
                "boot a kernel of 5.11 or later; inside a container allow mount(2) in the outer profile"
            )
        }
        return .fail(name, facts.overlayLower.sentence, cause: cause, fix: fix)
    }

    static func overlayUpper(_ facts: HostFacts) -> Finding {
        let name = "overlay-upper"
        guard facts.userNamespace == .worked else { return needsUserNamespaces(name) }
        guard facts.overlayLower == .worked else {
            return .skip(name, "not tried", cause: "needs overlay, which failed")
        }
        if facts.overlayUpper == .worked { return .ok(name, "wrote into an overlay with its upper layer on tmpfs") }
        return .warn(
            name, facts.overlayUpper.sentence,
            cause: "--writable-tmpfs, --overlay and clusters need a writable overlay",
            fix: "boot a kernel of 6.6 or later, whose tmpfs has user attributes")
    }

    static func fuse(_ facts: HostFacts) -> Finding {
        if facts.fuse == .worked { return .ok("fuse", "/dev/fuse opened") }
        let cause = "single-file images cannot be mounted from their file; images in the store do not need it"
        let fix =
            switch facts.fuse.errno {
            case 13, 1: "as administrator: chmod 0666 /dev/fuse (udev: KERNEL==\"fuse\", MODE=\"0666\")"
            case 2: "as administrator: modprobe fuse; inside a container pass the device (docker: --device /dev/fuse)"
            default: "as administrator: modprobe fuse"
            }
        return .warn("fuse", facts.fuse.sentence, cause: cause, fix: fix)
    }

    static func store(_ facts: HostFacts) -> Finding {
        let store = facts.store
        let kind = FileSystemKind(magic: store.magic)
        let place = store.existing == store.path ? store.path : "\(store.path) (to be made below \(store.existing))"
        let elsewhere = "export TRIREME_STORE=/DIRECTORY/YOU/CAN/WRITE on a local disk"
        switch store.writable {
        case .worked: break
        case .noAnswer:
            return .fail(
                "store", "\(place): \(store.writable.sentence)", cause: "the file server does not answer",
                fix: elsewhere)
        case .failed(_, 28), .failed(_, 122):  // ENOSPC, EDQUOT
            return .fail(
                "store", "\(place): \(store.writable.sentence)", cause: "the file system or your quota is full",
                fix: "free some space there, or \(elsewhere)")
        default:
            return .fail(
                "store", "\(place): \(store.writable.sentence)", cause: "images cannot be kept there", fix: elsewhere)
        }
        if store.isNoExec {
            return .fail(
                "store", "\(place) on \(kind.name), mounted noexec",
                cause: "programs of images could not be executed from there",
                fix: "export TRIREME_STORE=/DIRECTORY on a file system without noexec")
        }
        switch kind.reach {
        case .local: return .ok("store", "\(place) on \(kind.name), writable")
        case .network:
            return .warn(
                "store", "\(place) on \(kind.name), writable",
                cause: "every start reads many small files, each a round trip to the server for each node",
                fix: "export TRIREME_STORE=/LOCAL/DISK/$USER on nodes that have one")
        case .memory:
            return .warn(
                "store", "\(place) on \(kind.name), writable",
                cause: "images there use memory and are gone after a restart", fix: elsewhere)
        }
    }

    static func storeSpace(_ facts: HostFacts) -> Finding {
        let store = facts.store
        if case .noAnswer = store.writable {
            return .skip("store-space", "not measured", cause: "needs store, which failed")
        }
        let fact = "\(inWords(bytes: store.freeBytes)) free at \(store.existing)"
        let fix = "free some space there, or export TRIREME_STORE=/DIRECTORY with more"
        if store.freeFiles < 100_000 {
            return .warn(
                "store-space", "\(store.freeFiles) files free at \(store.existing)",
                cause: "an unpacked image of an application has 10000 to 100000 files", fix: fix)
        }
        if store.freeBytes < 64 << 20 {
            return .fail("store-space", fact, cause: "not even a small image fits", fix: fix)
        }
        if store.freeBytes < 4 << 30 {
            return .warn("store-space", fact, cause: "images of HPC applications have 1 to 10 GiB", fix: fix)
        }
        return .ok("store-space", fact)
    }

    static func storeXattr(_ facts: HostFacts) -> Finding {
        let name = "store-xattr"
        guard facts.store.writable == .worked else { return needsStore(name) }
        if facts.storeXattr == .worked { return .ok(name, "wrote user.overlay.opaque") }
        return .fail(
            name, facts.storeXattr.sentence,
            cause: "layers that replace a directory are marked with this attribute, which "
                + "\(FileSystemKind(magic: facts.store.magic).name) does not keep here",
            fix: "export TRIREME_STORE=/DIRECTORY on ext4, XFS or another file system with user attributes "
                + "(NFS: 4.2 on both sides)")
    }

    static func storeWhiteout(_ facts: HostFacts) -> Finding {
        let name = "store-whiteout"
        guard facts.store.writable == .worked else { return needsStore(name) }
        if facts.storeWhiteout == .worked { return .ok(name, "made a whiteout (character device 0:0)") }
        return .fail(
            name, facts.storeWhiteout.sentence,
            cause: "layers that remove a file mark it with a whiteout, which "
                + "\(FileSystemKind(magic: facts.store.magic).name) or this kernel refuses to ordinary users",
            fix: "export TRIREME_STORE=/DIRECTORY on a local disk (kernel 5.8 or later)")
    }

    static func storeOverlay(_ facts: HostFacts) -> Finding {
        let name = "store-overlay"
        guard facts.store.writable == .worked else { return needsStore(name) }
        guard facts.userNamespace == .worked else { return needsUserNamespaces(name) }
        guard facts.overlayLower == .worked else {
            return .skip(name, "not tried", cause: "needs overlay, which failed")
        }
        if facts.storeOverlay == .worked { return .ok(name, "mounted a directory of the store as a layer") }
        return .fail(
            name, facts.storeOverlay.sentence,
            cause: "\(FileSystemKind(magic: facts.store.magic).name) cannot be a layer of an overlay",
            fix: "export TRIREME_STORE=/DIRECTORY on a local disk")
    }

    private static func needsStore(_ name: String) -> Finding {
        .skip(name, "not tried", cause: "needs store, which failed")
    }

    static func temporary(_ facts: HostFacts) -> Finding {
        let directory = facts.temporary
        let fact = "\(directory.path): \(inWords(bytes: directory.freeBytes)) free"
        let elsewhere = "export TRIREME_TMPDIR=/DIRECTORY/YOU/CAN/WRITE"
        if directory.existing != directory.path {
            return .fail(
                "temporary", "\(directory.path): no such directory", cause: "it is used while images are unpacked",
                fix: "mkdir -p \(directory.path)")
        }
        if directory.writable != .worked {
            return .fail(
                "temporary", "\(directory.path): \(directory.writable.sentence)",
                cause: "it is used while images are unpacked and for sockets of jobs", fix: elsewhere)
        }
        if directory.isNoExec {
            return .warn(
                "temporary", "\(fact), mounted noexec",
                cause: "programs that build or unpack code in the temporary directory fail in containers, too",
                fix: "export TRIREME_TMPDIR=/DIRECTORY on a file system without noexec")
        }
        if directory.freeBytes < 1 << 30 {
            return .warn("temporary", fact, cause: "unpacking an image can take more", fix: elsewhere)
        }
        return .ok("temporary", "\(fact), \(FileSystemKind(magic: directory.magic).name)")
    }

    static func sharedMemory(_ facts: HostFacts) -> Finding {
        let directory = facts.sharedMemory
        if directory.existing != directory.path || directory.writable != .worked {
            return .warn(
                "shared-memory",
                directory.existing == directory.path
                    ? "\(directory.path): \(directory.writable.sentence)" : "\(directory.path): no such directory",
                cause: "MPI ranks of a node exchange messages through it, else over the network",
                fix: "as administrator: mount -t tmpfs -o mode=1777 tmpfs /dev/shm")
        }
        let fact =
            "\(directory.path): \(inWords(bytes: directory.totalBytes)), \(inWords(bytes: directory.freeBytes)) free"
        if directory.freeBytes < 256 << 20 {
            return .warn(
                "shared-memory", fact,
                cause: "MPI needs some MiB per rank there and ends with a bus error when it is full",
                fix: directory.totalBytes < 256 << 20
                    ? "as administrator: mount -o remount,size=50% /dev/shm (docker: --shm-size 2g, or --ipc host)"
                    : "remove files left behind in /dev/shm (ls -l /dev/shm)")
        }
        return .ok("shared-memory", fact)
    }
}
