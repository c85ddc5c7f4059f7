import CLinux
import Glibc
import LinuxSystem

/// The process behind a connected socket, as the kernel's own tables tell it: nothing here is its own word.
///
/// What serves a container is closed to everybody (PR_SET_DUMPABLE), so its /proc/PID/exe and ns are unreadable for
/// its own user, too, and ptrace(2)'s check stands before the namespaces of a pidfd. What stays readable, and can be
/// changed by no process to its own advantage, is what a container's processes have given up for good.
struct PeerProcess {
    /// 0 where the caller's /proc does not show it.
    let number: pid_t
    /// -1 before Linux 5.3.
    private let descriptor: Int32

    /// nil with errno set; EPERM for another user's.
    init?(behind socket: Int32) {
        var process: pid_t = 0
        var user: uid_t = 0
        var group: gid_t = 0
        guard linux_peer_credentials(socket, &process, &user, &group) == 0 else { return nil }
        guard user == geteuid() else {
            errno = EPERM
            return nil
        }
        number = process
        let peer = linux_peer_pidfd(socket)
        descriptor = peer < 0 && process > 0 ? linux_pidfd_open(process, 0) : peer
    }

    func leave() { if descriptor >= 0 { close(descriptor) } }

    /// Whether it is in a container that this process is not in: there is a `no_new_privs` (prctl(2)) or a filter of
    /// system calls more upon it, which no further namespace and no execve(2) takes away again.
    ///
    /// Where /proc does not show it (hidepid), that is not known and not said.
    var isConfined: Bool {
        guard let theirs = status else { return false }
        guard number(after: "\nNoNewPrivs:", in: theirs) > 0 else { return false }
        guard linux_prctl(ProcessControl.getNoNewPrivileges, 0, 0, 0, 0) == 1,
            let own = smallFile(c("/proc/self/status"))
        else { return true }
        return number(after: "\nSeccomp_filters:", in: theirs) > number(after: "\nSeccomp_filters:", in: own)
    }

    /// Whether it may be the program at `path`: false when /proc/PID/exe can be read (by root; of a process that has
    /// not closed itself) and is another file. One that was replaced since is known by its name on the same device.
    func mayRun(_ path: CString) -> Bool {
        guard number > 0 else { return true }
        var program = ByteBuffer(capacity: 40)
        program.append("/proc/")
        program.append(decimal: UInt64(number))
        program.append("/exe")
        var theirs = stat()
        var expected = stat()
        guard stat(program.cString, &theirs) == 0, isThere else { return true }
        guard stat(path, &expected) == 0, theirs.st_dev == expected.st_dev else { return false }
        if theirs.st_ino == expected.st_ino { return true }
        let name = UnsafeMutablePointer<CChar>.allocate(capacity: 4097)
        let length = readlink(program.cString, name, 4096)
        guard length > 0 else { return false }
        name[length] = 0
        return isEqual(name, joined(path, " (deleted)"))
    }

    /// /proc/PID/status, when it was this process's, whose number no other had by then.
    private var status: CString? {
        guard number > 0 else { return nil }
        var path = ByteBuffer(capacity: 40)
        path.append("/proc/")
        path.append(decimal: UInt64(number))
        path.append("/status")
        guard let text = smallFile(path.cString), isThere else { return nil }
        return text
    }

    /// Not ended: its pidfd is not readable (pidfd_open(2)).
    private var isThere: Bool {
        guard descriptor >= 0 else { return true }
        var slot = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&slot, 1, 0) == 0
    }

    private func number(after field: StaticString, in status: CString) -> Int {
        guard let found = strstr(status, c(field)) else { return 0 }
        return atol(found + field.utf8CodeUnitCount)
    }
}

/// The beginning of a file of the proc file system, nil when it cannot be read.
func smallFile(_ path: CString) -> CString? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    let text = UnsafeMutablePointer<CChar>.allocate(capacity: 16384)
    let length = read(file, text, 16383)
    guard length > 0 else { return nil }
    text[length] = 0
    return CString(text)
}
