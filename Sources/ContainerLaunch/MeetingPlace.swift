import CLinux
import Glibc
import LinuxSystem

/// Sockets by which this user's processes on a node find each other, in a directory that is theirs alone.
///
/// Abstract names (unix(7)) lost: whoever shares the network namespace, an isolated container too, lists them
/// and takes one that becomes free. A socket's file stays when its process has ended, so who starts anew
/// holds the lock beside it.
package struct MeetingPlace {
    private let directory: PrivateDirectory

    /// At most, beside the directory in the 108 bytes of sun_path: `/proc/self/fd/NNNN/`.
    package static let nameBytes = 88
    /// Looked at for leftovers when a socket is made.
    private static let sweptEntries = 200

    package init?(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) {
        guard let directory = PrivateDirectory.forRunning(host) else { return nil }
        self.directory = directory
    }

    func leave() { close(directory.descriptor) }

    /// As `UnixSocket.connect`.
    package func connect(_ socket: Int32, to name: CString) -> Bool {
        UnixSocket.connect(socket, to: path(of: name))
    }

    /// Gives `socket` the name, over what an earlier process left; only with the name's lock held.
    package func bind(_ socket: Int32, to name: CString) -> Bool {
        sweep(but: name)
        unlinkat(directory.descriptor, name, 0)
        return UnixSocket.bind(socket, to: path(of: name))
    }

    /// The lock of `name`, held until it is closed; -1 with EWOULDBLOCK while another process holds it.
    package func lock(_ name: CString) -> Int32 {
        let path = lockName(name)
        while true {
            let file = openat(directory.descriptor, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard file >= 0 else { return -1 }
            guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
                let code = errno
                close(file)
                errno = code
                return -1
            }
            // Swept in between: the lock is on a file that nobody finds any more.
            var status = stat()
            if fstat(file, &status) == 0, status.st_nlink > 0 { return file }
            close(file)
        }
    }

    /// What the name's maker has noted, 0 for nothing.
    func note(_ name: CString) -> UInt64 {
        let file = openat(directory.descriptor, lockName(name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else { return 0 }
        defer { close(file) }
        var number: UInt64 = 0
        return read(file, &number, 8) == 8 ? number : 0
    }

    package static func write(note: UInt64, to lock: Int32) -> Bool {
        var note = note
        return pwrite(lock, &note, 8, 0) == 8
    }

    /// Removes a name that this process has made.
    package func remove(_ name: CString) {
        unlinkat(directory.descriptor, name, 0)
        unlinkat(directory.descriptor, lockName(name), 0)
    }

    private func lockName(_ name: CString) -> CString {
        var text = ByteBuffer(capacity: strlen(name) + 8)
        text.append(name)
        text.append(".lock")
        return text.cString
    }

    private func path(of name: CString) -> CString {
        var path = ByteBuffer(capacity: 128)
        path.append("/proc/self/fd/")
        path.append(decimal: UInt64(directory.descriptor))
        path.append(slash)
        path.append(name)
        return path.cString
    }

    /// Removes sockets that nobody listens on any more, with their locks.
    private func sweep(but current: CString) {
        let copy = openat(directory.descriptor, c("."), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0, let list = fdopendir(copy) else { return }
        defer { closedir(list) }
        var looked = 0
        while looked < Self.sweptEntries, let entry = readdir(list) {
            looked += 1
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self)
            }
            var status = stat()
            guard !isEqual(name, current), strlen(name) <= Self.nameBytes,
                fstatat(directory.descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0,
                status.st_mode & S_IFMT == S_IFSOCK
            else { continue }
            let held = lock(name)
            guard held >= 0 else { continue }
            defer { close(held) }
            let socket = UnixSocket.make(isBlocking: false)
            guard socket >= 0 else { continue }
            defer { close(socket) }
            if !connect(socket, to: name), errno == ECONNREFUSED { remove(name) }
        }
    }
}
