import CLinux
import Glibc
import LinuxSystem

/// Directory operations below an open root that symbolic links cannot lead out of (openat2(2)).
package enum DirectoryTree {
    package static let openFlags = UInt64(O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    private static let resolve = ResolveFlags.inRoot | ResolveFlags.noMagicLinks

    /// Opens `path` below `root`, links followed as if `root` were `/`. -1 with errno on failure.
    package static func open(_ path: [UInt8], below root: Int32, flags: UInt64 = openFlags) -> Int32 {
        if path.isEmpty { return withName([46]) { linux_openat2(root, $0, flags, 0, resolve) } }
        return withName(path) { linux_openat2(root, $0, flags, 0, resolve) }
    }

    /// Removes `name` in `parent` with everything below it, never through a symbolic link. However deep it
    /// is, two descriptors do; the tree must be nobody else's to rename meanwhile.
    package static func remove(_ name: [UInt8], in parent: Int32) throws(SyscallError) {
        if try unlinked(name, in: parent) { return }
        var path = [name]
        var pending: [[[UInt8]]] = []
        var current = try enter(name, in: parent)
        defer { close(current) }
        pending.append(try names(in: current))
        while true {
            if let child = pending[pending.count - 1].popLast() {
                if try unlinked(child, in: current) { continue }
                let below = try enter(child, in: current)
                close(current)
                current = below
                path.append(child)
                pending.append(try names(in: current))
                continue
            }
            pending.removeLast()
            let empty = path.removeLast()
            guard !path.isEmpty else {
                try checked("rmdir", ArchiveFault.printable(empty)) {
                    withName(empty) { unlinkat(parent, $0, AT_REMOVEDIR) }
                }
                return
            }
            let above = try enter(Array("..".utf8), in: current)
            close(current)
            current = above
            try checked("rmdir", ArchiveFault.printable(empty)) {
                withName(empty) { unlinkat(above, $0, AT_REMOVEDIR) }
            }
        }
    }

    /// Removes `name` unless it is a directory, which is false.
    private static func unlinked(_ name: [UInt8], in parent: Int32) throws(SyscallError) -> Bool {
        if withName(name, { unlinkat(parent, $0, 0) }) == 0 || errno == ENOENT { return true }
        guard errno == EISDIR || errno == EPERM || errno == EBUSY else {
            throw SyscallError("unlink", ArchiveFault.printable(name))
        }
        return false
    }

    private static func enter(_ name: [UInt8], in parent: Int32) throws(SyscallError) -> Int32 {
        let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
        var raw = withName(name) { openat(parent, $0, flags) }
        if raw < 0, errno == EACCES, withName(name, { fchmodat(parent, $0, 0o700, 0) }) == 0 {
            raw = withName(name) { openat(parent, $0, flags) }
        }
        guard raw >= 0 else { throw SyscallError("open", ArchiveFault.printable(name)) }
        return raw
    }

    /// The names in an open directory, without `.` and `..`; its read position is moved.
    package static func names(in directory: Int32) throws(SyscallError) -> [[UInt8]] {
        lseek(directory, 0, SEEK_SET)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 << 10, alignment: 8)
        defer { buffer.deallocate() }
        var result: [[UInt8]] = []
        while true {
            let n = Int(try checked("getdents64") { linux_getdents64(directory, buffer.baseAddress, buffer.count) })
            if n == 0 { return result }
            var at = 0
            while at < n {
                // struct linux_dirent64: u64 ino, i64 off, u16 reclen, u8 type, name
                let length = Int(buffer.loadUnaligned(fromByteOffset: at + 16, as: UInt16.self))
                let name = buffer[(at + 19)..<(at + length)].prefix { $0 != 0 }
                if !name.elementsEqual(".".utf8), !name.elementsEqual("..".utf8) { result.append(Array(name)) }
                at += length
            }
        }
    }

    /// lstat of `name` in `parent`; nil when it does not exist (or not as a path: ENOTDIR).
    package static func status(_ name: [UInt8], in parent: Int32) throws(SyscallError) -> stat? {
        var status = stat()
        if withName(name, { fstatat(parent, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 { return status }
        if errno == ENOENT || errno == ENOTDIR { return nil }
        throw SyscallError("stat", ArchiveFault.printable(name))
    }

    /// `bytes` as a C string for the time of `body`.
    @inline(__always)
    package static func withName<R>(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) -> R) -> R {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: bytes.count + 1) { buffer in
            bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(buffer).copyMemory(from: $0) }
            buffer[bytes.count] = 0
            return body(UnsafePointer(buffer.baseAddress!))
        }
    }
}

extension stat {
    package var isDirectory: Bool { st_mode & S_IFMT == S_IFDIR }
    package var isFile: Bool { st_mode & S_IFMT == S_IFREG }
    package var isLink: Bool { st_mode & S_IFMT == S_IFLNK }
    /// How overlayfs writes "gone": a character device 0:0.
    package var isWhiteout: Bool { st_mode & S_IFMT == S_IFCHR && st_rdev == 0 }
}
