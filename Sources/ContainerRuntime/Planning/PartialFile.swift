import CLinux
import Glibc
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
    /// Its name, where it has one.
    private let partial: String?

    private static let mark = ".partial-"
    /// O_TMPFILE, which C makes of two others.
    private static let unnamed: Int32 = 0o20000000 | O_DIRECTORY

    package init(for path: String) throws(SyscallError) {
        self.path = path
        PartialFile.removeDead(of: path)
        let (directory, _) = PartialFile.split(path)
        if let file = try? OwnedDescriptor.open(directory, O_RDWR | PartialFile.unnamed, mode: 0o644) {
            self.file = file
            partial = nil
            return
        }
        let partial = "\(path)\(PartialFile.mark)\(getpid())"
        file = try OwnedDescriptor.open(partial, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644)
        _ = flock(file.raw, LOCK_EX | LOCK_NB)
        self.partial = partial
    }

    /// Gives it its name, unless somebody else has made that meanwhile.
    package func finish() throws(SyscallError) {
        if let partial {
            // RENAME_NOREPLACE
            try checked("rename", path) { Int32(linux_renameat2(AT_FDCWD, partial, AT_FDCWD, path, 1)) }
        } else {
            try checked("link", path) {
                linkat(AT_FDCWD, "/proc/self/fd/\(file.raw)", AT_FDCWD, path, AT_SYMLINK_FOLLOW)
            }
        }
    }

    package func remove() { if let partial { unlink(partial) } }

    private static func split(_ path: String) -> (directory: String, name: String) {
        let cut = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
        return (cut == path.startIndex ? "." : String(path[..<cut]), String(path[cut...]))
    }

    /// Removes what writers of `path` that were killed left beside it.
    static func removeDead(of path: String) {
        let (directory, name) = split(path)
        for partial in dead(in: directory, named: name) { unlink(partial) }
    }

    /// Files in `directory` whose writers were killed; `named`: of that name only.
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

    /// A plain file of this user's that nobody holds.
    private static func isDead(_ path: String) -> Bool {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) else { return false }
        var status = stat()
        guard fstat(file.raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_uid == geteuid() else {
            return false
        }
        return flock(file.raw, LOCK_EX | LOCK_NB) == 0
    }
}
