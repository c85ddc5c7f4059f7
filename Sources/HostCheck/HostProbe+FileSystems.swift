import CLinux
import Glibc
import LinuxSystem
import SiteConfiguration

extension HostProbe {
    func measureFileSystems(_ facts: inout HostFacts) {
        facts.overlayLower = .inChild { () throws(SyscallError) in
            try Self.enterUserNamespace()
            try Self.makeOverlay(lower: nil, writable: false)
        }
        facts.overlayUpper = .inChild { () throws(SyscallError) in
            try Self.enterUserNamespace()
            try Self.makeOverlay(lower: nil, writable: true)
        }
        facts.fuse = .inChild { () throws(SyscallError) in
            _ = try OwnedDescriptor.open("/dev/fuse", O_RDWR)
        }
        facts.store = directory(locations.store)
        facts.temporary = directory(locations.temporary)
        facts.sharedMemory = directory("/dev/shm")
        guard facts.store.writable == .worked else { return }
        let store = facts.store.existing
        facts.storeXattr = .inChild { () throws(SyscallError) in
            try Self.withScratch(in: store) { scratch throws(SyscallError) in
                try checked("setxattr", "user.overlay.opaque") {
                    linux_lsetxattr(scratch, "user.overlay.opaque", "y", 1, 0)
                }
            }
        }
        facts.storeWhiteout = .inChild { () throws(SyscallError) in
            try Self.withScratch(in: store) { scratch throws(SyscallError) in
                let path = scratch + "/whiteout"
                try checked("mknod", "character device 0:0") {
                    linux_mknodat(AT_FDCWD, path, UInt32(S_IFCHR) | 0o600, 0, 0)
                }
                unlink(path)
            }
        }
        facts.storeOverlay = .inChild { () throws(SyscallError) in
            try Self.withScratch(in: store) { scratch throws(SyscallError) in
                // The namespace is the grandchild's: this process must still be able to clean up.
                let attempt = Attempt.inChild { () throws(SyscallError) in
                    try Self.enterUserNamespace()
                    try Self.makeOverlay(lower: scratch, writable: false)
                }
                if case .failed(_, let code) = attempt { throw SyscallError("mount", "overlay", errno: code) }
                if attempt != .worked { throw SyscallError("mount", "overlay", errno: ETIMEDOUT) }
            }
        }
    }

    /// Two tmpfs directories (or one and `lower`) as an overlay, the way images are put together.
    private static func makeOverlay(lower: String?, writable: Bool) throws(SyscallError) {
        // A mount point that exists everywhere; the mount namespace is this child's own.
        let base = "/proc"
        let keep = try lower.map { path throws(SyscallError) in try OwnedDescriptor.open(path, PathFlags.path) }
        try mount("tmpfs", on: base, type: "tmpfs")
        for name in ["a", "b", "upper", "work", "merged"] {
            let path = base + "/" + name
            try checked("mkdir", path) { mkdir(path, 0o755) }
        }
        if let keep {
            let magic = "/dev/fd/\(keep.raw)"
            // /proc is covered here; the directory is reached through its descriptor.
            let target = base + "/b"
            let tree = OwnedDescriptor(
                owning: try checked("open_tree", magic) {
                    linux_open_tree(keep.raw, "", MountTree.openClone | 0x1000 /* AT_EMPTY_PATH */)
                })
            try checked("move_mount", target) {
                linux_move_mount(tree.raw, "", AT_FDCWD, target, MountTree.moveFromEmptyPath)
            }
        }
        var options = "lowerdir=\(base)/a:\(base)/b,userxattr"
        if writable { options += ",upperdir=\(base)/upper,workdir=\(base)/work" }
        try mount("overlay", on: base + "/merged", type: "overlay", options: options)
        if writable {
            let path = "\(base)/merged/file"
            _ = try OwnedDescriptor.open(path, O_CREAT | O_WRONLY, mode: 0o600)
        }
    }

    private func directory(_ path: String) -> HostFacts.Directory {
        var directory = HostFacts.Directory()
        directory.path = path
        directory.existing = Self.nearestExisting(path)
        let existing = directory.existing
        directory.writable = .inChild { () throws(SyscallError) in
            try Self.withScratch(in: existing) { scratch throws(SyscallError) in
                let path = scratch + "/file"
                defer { unlink(path) }
                let file = try OwnedDescriptor.open(path, O_CREAT | O_EXCL | O_WRONLY, mode: 0o600)
                do throws(SyscallError) { try file.writeAll(String(repeating: ".", count: 64 << 10)) } catch {
                    throw SyscallError("write", path, errno: error.errno)
                }
            }
        }
        // The child has found out whether the file system answers at all; asked again only if so.
        if case .noAnswer = directory.writable { return directory }
        if let descriptor = try? OwnedDescriptor.open(existing, PathFlags.path) {
            directory.magic = UInt32(truncatingIfNeeded: linux_filesystem_magic(descriptor.raw))
        }
        var status = statvfs()
        if statvfs(existing, &status) == 0 {
            directory.totalBytes = UInt64(status.f_blocks) * UInt64(status.f_frsize)
            directory.freeBytes = UInt64(status.f_bavail) * UInt64(status.f_frsize)
            // File systems without a fixed number of inodes say 0 of 0.
            if status.f_files > 0 { directory.freeFiles = UInt64(status.f_favail) }
            directory.isNoExec = status.f_flag & 8 /* ST_NOEXEC */ != 0
        }
        return directory
    }

    /// `path` or the closest directory above it that exists.
    static func nearestExisting(_ path: String) -> String {
        var path = path
        while path.count > 1, access(path, F_OK) != 0, errno == ENOENT || errno == ENOTDIR {
            let end = path.lastIndex(of: "/") ?? path.startIndex
            path = end == path.startIndex ? "/" : String(path[..<end])
        }
        return path
    }

    /// Makes a directory below `parent`, hands it to `body` and removes it.
    private static func withScratch(
        in parent: String, _ body: (String) throws(SyscallError) -> Void
    ) throws(SyscallError) {
        let scratch = parent + "/.trireme-doctor-\(getpid())"
        try checked("mkdir", scratch) { mkdir(scratch, 0o700) }
        defer { rmdir(scratch) }
        try body(scratch)
    }
}
