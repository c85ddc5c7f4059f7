import CLinux
import Glibc

/// Whether any other process lives in this process's user namespace, or in one below it.
///
/// It only decides how long the server stays to be joined. Were it wrong, the mount would still
/// serve the containers that have it: the kernel ends it, not this.
struct NamespaceUsers {
    private let own: (device: dev_t, inode: ino_t)
    /// Found there at the last look: most often it still is.
    private var last: pid_t = 0

    /// ioctl_ns(2)
    private static let parentRequest: UInt = 0xB702
    private static let nesting = 8

    init() { own = NamespaceUsers.identity("/proc/self/ns/user") ?? (0, 0) }

    mutating func exist() -> Bool {
        if last > 0, isInside(last) { return true }
        last = 0
        guard let directory = opendir("/proc") else { return false }
        defer { closedir(directory) }
        let me = getpid()
        while let entry = readdir(directory) {
            let pid = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { atoi($0) }
            }
            if pid > 0, pid != me, isInside(pid) {
                last = pid
                return true
            }
        }
        return false
    }

    private func isInside(_ pid: pid_t) -> Bool {
        var path = "/proc/\(pid)/ns/user"
        guard let found = NamespaceUsers.identity(path) else { return false }
        if found == own { return true }
        var descriptor = open(path, O_RDONLY | O_CLOEXEC)
        for _ in 0..<NamespaceUsers.nesting where descriptor >= 0 {
            // EPERM: the parent is not ours and not below ours.
            let parent = linux_ioctl_int(descriptor, NamespaceUsers.parentRequest, 0)
            close(descriptor)
            guard parent >= 0 else { return false }
            path = "/proc/self/fd/\(parent)"
            if let above = NamespaceUsers.identity(path), above == own {
                close(parent)
                return true
            }
            descriptor = parent
        }
        if descriptor >= 0 { close(descriptor) }
        return false
    }

    private static func identity(_ path: String) -> (device: dev_t, inode: ino_t)? {
        var status = stat()
        return stat(path, &status) == 0 ? (status.st_dev, status.st_ino) : nil
    }
}
