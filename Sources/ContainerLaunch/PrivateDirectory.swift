import CLinux
import Glibc
import LinuxSystem

/// A directory of the caller's own on this node, where nobody else can make, replace, list or enter anything.
///
/// `/run/user/UID/trireme` where the system has made that (file-hierarchy(7)), else `trireme-UID` below a
/// directory for temporary files. That name is anybody's to take there: when it is taken by somebody else, a
/// random name is, and found again by its owner.
package struct PrivateDirectory {
    /// Open, for the calls that take names below it.
    package let descriptor: Int32
    package let path: CString

    private static let randomLetters = 12

    /// For what ends with the processes of this node.
    package static func forRunning(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) -> PrivateDirectory? {
        var run = ByteBuffer(capacity: 40)
        run.append("/run/user/")
        run.append(decimal: UInt64(geteuid()))
        if let directory = opened(run.cString), isPrivate(directory) {
            defer { close(directory) }
            if let made = made(c("trireme"), in: directory, run.cString) { return made }
        }
        return temporary(c("/tmp")) ?? temporary(temporarySpace(host))
    }

    /// TRIREME_TMPDIR, TMPDIR or /tmp.
    static func temporarySpace(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) -> CString {
        for name: StaticString in ["TRIREME_TMPDIR", "TMPDIR"] {
            if let entry = ContainerEnvironment.find(c(name), name.utf8CodeUnitCount, in: host),
                entry[name.utf8CodeUnitCount + 1] != 0
            {
                return entry + name.utf8CodeUnitCount + 1
            }
        }
        return c("/tmp")
    }

    /// The caller's own below `parent`; nil with errno set when there can be none.
    package static func temporary(_ parent: CString) -> PrivateDirectory? {
        guard let space = opened(parent) else { return nil }
        defer { close(space) }
        guard holdsNames(space) else {
            errno = EPERM
            return nil
        }
        var name = ByteBuffer(capacity: 48)
        name.append("trireme-")
        name.append(decimal: UInt64(geteuid()))
        if let usual = made(name.cString, in: space, parent) { return usual }
        // Somebody else's, a link, or no directory. One of a random name may be there from before.
        name.append(CChar(0x2E))
        if let found = found(name, in: space, parent) { return found }
        appendRandom(to: &name)
        return made(name.cString, in: space, parent)
    }

    private static func opened(_ path: CString) -> Int32? {
        let directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        return directory >= 0 ? directory : nil
    }

    private static func isPrivate(_ directory: Int32) -> Bool {
        var status = stat()
        return fstat(directory, &status) == 0 && status.st_uid == geteuid() && status.st_mode & 0o077 == 0
    }

    /// Whether a name that was made in `directory` stays its maker's: it is sticky, or nobody else may write there
    /// but a group that the caller has let into a directory of the caller's own.
    private static func holdsNames(_ directory: Int32) -> Bool {
        var status = stat()
        guard fstat(directory, &status) == 0 else { return false }
        if status.st_mode & 0o1000 != 0 || status.st_mode & 0o022 == 0 { return true }
        return status.st_uid == geteuid() && status.st_mode & 0o002 == 0
    }

    private static func made(_ name: CString, in parent: Int32, _ parentPath: CString) -> PrivateDirectory? {
        if mkdirat(parent, name, 0o700) != 0, errno != EEXIST { return nil }
        let directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard directory >= 0 else { return nil }
        guard isPrivate(directory) else {
            close(directory)
            errno = EPERM
            return nil
        }
        var path = ByteBuffer(capacity: strlen(parentPath) + strlen(name) + 2)
        path.append(parentPath)
        path.append(slash)
        path.append(name)
        return PrivateDirectory(descriptor: directory, path: path.cString)
    }

    /// The first by name of the caller's own below `parent` that begin with `start`: two that were made at
    /// once are one from then on.
    private static func found(_ start: ByteBuffer, in parent: Int32, _ parentPath: CString) -> PrivateDirectory? {
        let copy = openat(parent, c("."), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0, let list = fdopendir(copy) else { return nil }
        defer { closedir(list) }
        var best: CString?
        while let entry = readdir(list) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self)
            }
            var status = stat()
            guard strncmp(name, start.bytes, start.count) == 0,
                fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_mode & S_IFMT == S_IFDIR,
                status.st_uid == geteuid(), status.st_mode & 0o077 == 0
            else { continue }
            if let best, strcmp(best, name) <= 0 { continue }
            best = copied(UnsafeRawBufferPointer(start: name, count: strlen(name)))
        }
        return best.flatMap { made($0, in: parent, parentPath) }
    }

    private static func appendRandom(to name: inout ByteBuffer) {
        let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: randomLetters)
        let source = open(c("/dev/urandom"), O_RDONLY | O_CLOEXEC)
        defer { if source >= 0 { close(source) } }
        guard source >= 0, read(source, bytes, randomLetters) == randomLetters else { return }
        var index = 0
        while index < randomLetters {
            name.append(CChar(0x61 + bytes[index] % 26))
            index += 1
        }
    }
}
