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

    /// Those of a process that lets its user look into it; `paths` are its /proc/PID/ns/user and /proc/PID/ns/mnt.
    package static func at(_ paths: (user: UnsafePointer<CChar>, mount: UnsafePointer<CChar>)) -> ContainerNamespaces? {
        let user = open(paths.user, O_RDONLY | O_CLOEXEC)
        guard user >= 0 else { return nil }
        let mount = open(paths.mount, O_RDONLY | O_CLOEXEC)
        guard mount >= 0 else {
            close(user)
            return nil
        }
        return ContainerNamespaces(user: user, mount: mount)
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

    // MARK: What the kernel says of them (ioctl_nsfs(2))

    private enum Question {
        static let owningUser: UInt = 0xB701  // NS_GET_USERNS
        static let parent: UInt = 0xB702  // NS_GET_PARENT
        static let ownerUID: UInt = 0xB704  // NS_GET_OWNER_UID
        /// linux/magic.h: no request goes to a descriptor of another kind.
        static let magic = 0x6E73_6673
    }

    /// Whether the user namespace was made by this user directly below this process's own: not in a container,
    /// whose processes make theirs below the container's.
    package var isChildOfOwn: Bool {
        let own = Self.opened("/proc/self/ns/user")
        guard own >= 0 else { return false }
        defer { close(own) }
        var owner: uid_t = 0
        guard Self.isNamespace(user), linux_ioctl_pointer(user, Question.ownerUID, &owner) == 0, owner == geteuid()
        else { return false }
        return Self.answer(user, Question.parent, is: own)
    }

    /// Whether the mount namespace belongs to the user namespace: who rules the one rules the other.
    package var belongTogether: Bool {
        Self.isNamespace(user) && Self.isNamespace(mount) && Self.answer(mount, Question.owningUser, is: user)
    }

    /// The mount namespace's, which no other has while a descriptor of it is open.
    package var mountNumber: UInt64? { Self.isNamespace(mount) ? Self.status(mount).map { UInt64($0.st_ino) } : nil }

    private static func isNamespace(_ descriptor: Int32) -> Bool {
        linux_filesystem_magic(descriptor) == Question.magic
    }

    private static func answer(_ descriptor: Int32, _ question: UInt, is expected: Int32) -> Bool {
        let answer = linux_ioctl_int(descriptor, question, 0)
        guard answer >= 0 else { return false }
        defer { close(answer) }
        guard let a = status(answer), let b = status(expected) else { return false }
        return a.st_dev == b.st_dev && a.st_ino == b.st_ino
    }

    private static func status(_ descriptor: Int32) -> stat? {
        var status = stat()
        return fstat(descriptor, &status) == 0 ? status : nil
    }

    // MARK: Entering

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
