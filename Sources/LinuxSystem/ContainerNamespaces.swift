import CLinux
import Glibc

/// The user and mount namespaces of a container, sent by a process that lives there.
///
/// Its pid would do for setns(2) only where we may look into it; what serves a container keeps itself closed
/// to everybody (PR_SET_DUMPABLE), because the container's processes are its neighbours.
package struct ContainerNamespaces {
    private let user: Int32
    private let mount: Int32

    /// Those of this process.
    package static func own() -> ContainerNamespaces? {
        let user = opened("/proc/self/ns/user")
        let mount = opened("/proc/self/ns/mnt")
        if user >= 0, mount >= 0 { return ContainerNamespaces(user: user, mount: mount) }
        if user >= 0 { close(user) }
        if mount >= 0 { close(mount) }
        return nil
    }

    private static func opened(_ path: StaticString) -> Int32 {
        open(UnsafeRawPointer(path.utf8Start).assumingMemoryBound(to: CChar.self), O_RDONLY | O_CLOEXEC)
    }

    /// Answers the connection behind `socket` with them, when it is the same user's.
    package func send(to socket: Int32) -> Bool {
        var process: pid_t = 0
        var user: uid_t = 0
        var group: gid_t = 0
        guard linux_peer_credentials(socket, &process, &user, &group) == 0, user == geteuid() else { return false }
        var byte: UInt8 = 0x2B
        let both = UnsafeMutablePointer<Int32>.allocate(capacity: 2)
        defer { both.deallocate() }
        both[0] = self.user
        both[1] = mount
        return linux_send_descriptors(socket, &byte, 1, both, 2) == 1
    }

    /// Waits for them; nil with errno set when the other side is another user's, or has hung up (ECONNRESET).
    package static func receive(from socket: Int32) -> ContainerNamespaces? {
        var process: pid_t = 0
        var user: uid_t = 0
        var group: gid_t = 0
        guard linux_peer_credentials(socket, &process, &user, &group) == 0 else { return nil }
        guard user == geteuid() else {
            errno = EPERM
            return nil
        }
        let got = UnsafeMutablePointer<Int32>.allocate(capacity: 4)
        defer { got.deallocate() }
        var byte: UInt8 = 0
        var count: Int32 = 0
        var n = linux_receive_descriptors(socket, &byte, 1, got, &count)
        while n < 0, errno == EINTR { n = linux_receive_descriptors(socket, &byte, 1, got, &count) }
        guard n == 1, count == 2 else {
            var index: Int32 = 0
            while index < count {
                close(got[Int(index)])
                index += 1
            }
            if n >= 0 { errno = ECONNRESET }
            return nil
        }
        return ContainerNamespaces(user: got[0], mount: got[1])
    }

    /// Enters both; the root directory becomes the container's.
    package func enter() -> Bool {
        // Until execve(2) this process is trireme in sight of the container's: /proc/PID/exe and
        // its descriptors must not be theirs. Executing the application sets it back.
        _ = linux_prctl(ProcessControl.setDumpable, 0, 0, 0, 0)
        return linux_setns(user, CloneFlags.newUser) == 0 && linux_setns(mount, CloneFlags.newMount) == 0
    }

    package func closeBoth() {
        close(user)
        close(mount)
    }
}
