import CLinux
import Glibc
import ImageFormats
import LinuxSystem

/// A directory of its user's alone, held open, and what is below it: no name leads out or through a link (openat2(2)),
/// nothing made can be entered, read or written by others, whatever the process's umask.
final class PrivateDirectory: Sendable {
    /// As it was named, for messages.
    let path: String
    /// Others could write to it until now: what it holds may be theirs.
    let wasOpenToOthers: Bool
    private let root: OwnedDescriptor

    private enum Mode {
        static let directory: mode_t = 0o700
        static let file: mode_t = 0o600
        static let others: mode_t = 0o077
        static let othersWrite: mode_t = 0o022
    }
    private static let resolve = ResolveFlags.beneath | ResolveFlags.noSymlinks | ResolveFlags.noMagicLinks

    struct Entry: Sendable {
        var bytes: Int64
        /// Seconds since 1970.
        var modified: Int
        var isDirectory: Bool
    }

    /// Opens the directory, made where it is missing; one that exists is taken from others.
    ///
    /// - Parameter makingParents: makes the directories above it.
    /// - Throws: EPERM when it is another user's.
    init(_ path: String, makingParents: (String) throws(SyscallError) -> Void) throws(SyscallError) {
        self.path = path
        if mkdir(path, Mode.directory) != 0, errno == ENOENT, let slash = path.lastIndex(of: "/"),
            slash != path.startIndex
        {
            try makingParents(String(path[..<slash]))
            _ = mkdir(path, Mode.directory)
        }
        let root = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        var status = stat()
        try checked("fstat", path) { fstat(root.raw, &status) }
        guard status.st_uid == geteuid() else { throw SyscallError("open", path, errno: EPERM) }
        wasOpenToOthers = status.st_mode & Mode.othersWrite != 0
        if status.st_mode & Mode.others != 0 { try checked("fchmod", path) { fchmod(root.raw, Mode.directory) } }
        self.root = root
    }

    private func subject(_ name: String) -> String { path + "/" + name }

    /// openat2(2) below it. A file that is made is its user's alone.
    func open(_ name: String, _ flags: Int32) throws(SyscallError) -> OwnedDescriptor {
        let (root, flags) = (root.raw, UInt64(UInt32(bitPattern: flags | O_CLOEXEC | O_NOFOLLOW)))
        let isMaking = flags & UInt64(O_CREAT) != 0
        return OwnedDescriptor(
            owning: try checked("open", subject(name)) {
                linux_openat2(root, name, flags, isMaking ? UInt64(Mode.file) : 0, Self.resolve)
            })
    }

    /// The directory `name` is in, and its last component.
    private func parent(_ name: String) throws(SyscallError) -> (directory: Int32, last: String, owner: Parent) {
        guard let slash = name.lastIndex(of: "/") else { return (root.raw, name, Parent(nil)) }
        let owner = Parent(try open(String(name[..<slash]), O_RDONLY | O_DIRECTORY).release())
        return (owner.raw ?? -1, String(name[name.index(after: slash)...]), owner)
    }

    /// Closes what `parent` opened.
    private final class Parent {
        let raw: Int32?
        init(_ raw: Int32?) { self.raw = raw }
        deinit { if let raw { close(raw) } }
    }

    /// Makes a directory that may be there; one that is there is taken from others.
    func makeDirectory(_ name: String) throws(SyscallError) {
        let (directory, last, owner) = try parent(name)
        defer { withExtendedLifetime(owner) {} }
        if mkdirat(directory, last, Mode.directory) == 0 { return }
        guard errno == EEXIST else { throw SyscallError("mkdir", subject(name)) }
        let made = try open(name, O_RDONLY | O_DIRECTORY)
        var status = stat()
        try checked("fstat", subject(name)) { fstat(made.raw, &status) }
        if status.st_mode & Mode.others != 0 {
            try checked("fchmod", subject(name)) { fchmod(made.raw, Mode.directory) }
        }
    }

    /// nil when there is none, or it is a link.
    func entry(_ name: String) -> Entry? {
        guard let (directory, last, owner) = try? parent(name) else { return nil }
        defer { withExtendedLifetime(owner) {} }
        var status = stat()
        guard fstatat(directory, last, &status, AT_SYMLINK_NOFOLLOW) == 0, status.isFile || status.isDirectory else {
            return nil
        }
        return Entry(
            bytes: Int64(status.st_size), modified: status.st_mtim.tv_sec, isDirectory: status.isDirectory)
    }

    /// Sorted; empty when there is no such directory. The directory itself is the empty name.
    func names(in name: String) -> [String] {
        guard let opened = try? open(name.isEmpty ? "." : name, O_RDONLY | O_DIRECTORY) else { return [] }
        let raw = opened.release()
        guard let stream = fdopendir(raw) else {
            close(raw)
            return []
        }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    func read(_ name: String, limit: Int) throws(SyscallError) -> [UInt8] {
        try open(name, O_RDONLY).readAll(limit: limit)
    }

    /// A new file; one that is there is an error.
    func write(_ bytes: [UInt8], to name: String) throws(SyscallError) {
        let file = try open(name, O_WRONLY | O_CREAT | O_EXCL)
        try bytes.withUnsafeBufferPointer { (bytes) throws(SyscallError) in
            try file.writeAll(UnsafeRawBufferPointer(bytes))
        }
    }

    /// False when there was none.
    @discardableResult
    func remove(_ name: String) -> Bool {
        guard let (directory, last, owner) = try? parent(name) else { return false }
        defer { withExtendedLifetime(owner) {} }
        return unlinkat(directory, last, 0) == 0
    }

    func rename(_ from: String, _ to: String) throws(SyscallError) {
        let (source, destination) = (try parent(from), try parent(to))
        defer { withExtendedLifetime((source.owner, destination.owner)) {} }
        try checked("rename", subject(to)) {
            renameat(source.directory, source.last, destination.directory, destination.last)
        }
    }

    /// A further name of a file anywhere, which is not followed when it is a link. link(2)
    func link(_ file: String, as name: String) -> Bool {
        guard let (directory, last, owner) = try? parent(name) else { return false }
        defer { withExtendedLifetime(owner) {} }
        return linkat(AT_FDCWD, file, directory, last, 0) == 0
    }
}
