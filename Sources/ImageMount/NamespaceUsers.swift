import CLinux
import Glibc

/// Whether any other process lives in this process's user namespace, or in one below it, or has the image
/// mounted as data elsewhere.
///
/// It only decides how long the server stays to be joined. Were it wrong, the mount would still
/// serve the containers that have it: the kernel ends it, not this.
struct NamespaceUsers {
    private let own: (device: dev_t, inode: ino_t)
    /// Found there at the last look: most often it still is.
    private var last: pid_t = 0
    /// The image's device number as `/proc/PID/mountinfo` has it.
    private let shown: String
    /// Mount namespaces by their inode numbers, and whether the image is mounted there: a launch is connected
    /// until it is, so that the answer stays.
    private var known: [ino_t: Bool] = [:]
    private static let knownLimit = 4096

    /// ioctl_ns(2)
    private static let parentRequest: UInt = 0xB702
    private static let nesting = 8

    init(showing device: dev_t) {
        own = NamespaceUsers.identity("/proc/self/ns/user") ?? (0, 0)
        // makedev(3)
        let major = (device >> 8) & 0xFFF | (device >> 32) & ~0xFFF
        let minor = device & 0xFF | (device >> 12) & ~0xFF
        shown = " \(major):\(minor) "
    }

    mutating func exist() -> Bool {
        if last > 0, uses(last) { return true }
        last = 0
        guard let directory = opendir("/proc") else { return false }
        defer { closedir(directory) }
        let me = getpid()
        while let entry = readdir(directory) {
            let pid = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { atoi($0) }
            }
            if pid > 0, pid != me, uses(pid) {
                last = pid
                return true
            }
        }
        return false
    }

    private mutating func uses(_ pid: pid_t) -> Bool { isInside(pid) || shows(pid) }

    private mutating func shows(_ pid: pid_t) -> Bool {
        guard let space = NamespaceUsers.identity("/proc/\(pid)/ns/mnt")?.inode else { return false }
        if let answer = known[space] { return answer }
        if known.count >= NamespaceUsers.knownLimit { known = [:] }
        let answer = mounts(of: pid).contains { $0.contains(shown) }
        known[space] = answer
        return answer
    }

    private func mounts(of pid: pid_t) -> [String] {
        guard let file = fopen("/proc/\(pid)/mountinfo", "re") else { return [] }
        defer { fclose(file) }
        var lines: [String] = []
        var line: UnsafeMutablePointer<CChar>?
        var capacity = 0
        while getline(&line, &capacity, file) > 0, let line { lines.append(String(cString: line)) }
        free(line)
        return lines
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
