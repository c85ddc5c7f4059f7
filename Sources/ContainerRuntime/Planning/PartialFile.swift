import CLinux
import Glibc
import ImageFormats
import LinuxSystem

/// A file that is being written and gets its name at the end: till then it has none (O_TMPFILE, open(2)), so that
/// nothing of it is left whenever its writer is killed.
///
/// Where a file system has no such files (NFS) it is `NAME.partial-PID`. Its writer holds a lock on that (flock(2)),
/// which ends with the writer, however that ends: a process id may be somebody else's by then. The next writer of
/// the name removes it, and `trireme clean` in its directory.
package final class PartialFile {
    package let file: OwnedDescriptor
    private let path: String
    private let replaces: Bool
    /// Its name, where it has one.
    private let partial: String?

    fileprivate static let mark = ".partial-"
    /// O_TMPFILE, which C makes of two others.
    private static let unnamed: Int32 = 0o20000000 | O_DIRECTORY

    /// - Parameter replaces: what is there of that name meanwhile goes; such a file has a name from the beginning.
    package init(for path: String, replaces: Bool = false) throws(SyscallError) {
        self.path = path
        self.replaces = replaces
        PartialFile.removeDead(of: path)
        let (directory, _) = PartialFile.split(path)
        if !replaces, let file = try? OwnedDescriptor.open(directory, O_RDWR | PartialFile.unnamed, mode: 0o644) {
            self.file = file
            partial = nil
            return
        }
        let partial = "\(path)\(PartialFile.mark)\(getpid())"
        file = try OwnedDescriptor.open(partial, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: replaces ? 0o666 : 0o644)
        _ = flock(file.raw, LOCK_EX | LOCK_NB)
        self.partial = partial
    }

    /// Gives it its name, unless somebody else has made that meanwhile and it `replaces` nothing.
    package func finish() throws(SyscallError) {
        if let partial {
            try checked("rename", path) {
                Int32(linux_renameat2(AT_FDCWD, partial, AT_FDCWD, path, replaces ? 0 : PartialFile.isNew))
            }
        } else {
            try checked("link", path) {
                linkat(AT_FDCWD, "/proc/self/fd/\(file.raw)", AT_FDCWD, path, AT_SYMLINK_FOLLOW)
            }
        }
    }

    package func remove() { if let partial { unlink(partial) } }

    /// RENAME_NOREPLACE
    fileprivate static let isNew: UInt32 = 1

    private static func split(_ path: String) -> (directory: String, name: String) {
        let cut = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
        return (cut == path.startIndex ? "." : String(path[..<cut]), String(path[cut...]))
    }

    /// Removes what writers of `path` that were killed left beside it.
    static func removeDead(of path: String) {
        let (directory, name) = split(path)
        for partial in dead(in: directory, named: name) where unlink(partial) != 0 && errno == EISDIR {
            PartialDirectory.remove(partial)
        }
    }

    /// Files and directories in `directory` whose writers were killed; `named`: of that name only.
    package static func dead(in directory: String, named name: String? = nil) -> [String] {
        guard let open = opendir(directory) else { return [] }
        defer { closedir(open) }
        var found: [String] = []
        while let entry = readdir(open) {
            let file = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            let path = directory.hasSuffix("/") ? directory + file : directory + "/" + file
            if isPartial(file, of: name), isDead(path) { found.append(path) }
        }
        return found.sorted()
    }

    private static func isPartial(_ file: String, of name: String?) -> Bool {
        // The last mark: a name may hold one itself.
        guard let digits = file.split(separator: "-").last, pid_t(digits) != nil else { return false }
        let stem = file.dropLast(digits.count)
        guard stem.hasSuffix(mark) else { return false }
        return name.map { stem.dropLast(mark.count) == $0 } ?? !stem.dropLast(mark.count).isEmpty
    }

    /// A plain file or a directory of this user's that nobody holds.
    private static func isDead(_ path: String) -> Bool {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) else { return false }
        var status = stat()
        guard fstat(file.raw, &status) == 0, status.isFile || status.isDirectory, status.st_uid == geteuid() else {
            return false
        }
        return flock(file.raw, LOCK_EX | LOCK_NB) == 0
    }
}

/// A directory that is being filled and gets its name at the end: `NAME.partial-PID` till then, locked and swept as a
/// `PartialFile` that has a name.
package final class PartialDirectory {
    package let directory: OwnedDescriptor
    private let path: String
    private let partial: String

    package init(for path: String) throws(SyscallError) {
        var path = path[...]
        while path.count > 1, path.last == "/" { path.removeLast() }
        self.path = String(path)
        PartialFile.removeDead(of: self.path)
        partial = "\(path)\(PartialFile.mark)\(getpid())"
        try checked("mkdir", partial) { [partial] in mkdir(partial, 0o755) }
        directory = try OwnedDescriptor.open(partial, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        _ = flock(directory.raw, LOCK_EX | LOCK_NB)
    }

    /// Gives it its name, unless somebody else has made that meanwhile.
    package func finish() throws(SyscallError) {
        try checked("rename", path) {
            Int32(linux_renameat2(AT_FDCWD, partial, AT_FDCWD, path, PartialFile.isNew))
        }
    }

    package func remove() { PartialDirectory.remove(partial) }

    /// Removes the directory at `path`, as far as this user can.
    fileprivate static func remove(_ path: String) {
        let cut = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
        let above = cut == path.startIndex ? "." : String(path[..<cut])
        guard let parent = try? OwnedDescriptor.open(above, O_RDONLY | O_DIRECTORY) else { return }
        try? DirectoryTree.remove(Array(path[cut...].utf8), in: parent.raw)
    }
}
