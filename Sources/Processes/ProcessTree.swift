import CLinux
import Glibc
import LinuxSystem

/// The processes below one process, by /proc (proc(5), field 4 of `stat` is the parent).
package enum ProcessTree {
    /// - Parameter children: as `children()` has them, for who asks about several processes.
    package static func descendants(of root: pid_t, among children: [pid_t: [pid_t]]? = nil) -> [pid_t] {
        let children = children ?? self.children()
        var found: [pid_t] = []
        var queue = [root]
        while let next = queue.popLast() {
            let below = children[next] ?? []
            found += below
            queue += below
        }
        return found
    }

    /// The children of every process.
    package static func children() -> [pid_t: [pid_t]] {
        var children: [pid_t: [pid_t]] = [:]
        guard let directory = opendir("/proc") else { return [:] }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            guard let pid = number(entry), let parent = parent(of: pid) else { continue }
            children[parent, default: []].append(pid)
        }
        return children
    }

    private static func number(_ entry: UnsafeMutablePointer<dirent>) -> pid_t? {
        var value: pid_t = 0
        return withUnsafeBytes(of: &entry.pointee.d_name) { name -> pid_t? in
            var index = 0
            while index < name.count, name[index] != 0 {
                guard (48...57).contains(name[index]), index < 9 else { return nil }
                value = value * 10 + pid_t(name[index] - 48)
                index += 1
            }
            return index == 0 ? nil : value
        }
    }

    private static func parent(of pid: pid_t) -> pid_t? {
        guard let file = try? OwnedDescriptor.open("/proc/\(pid)/stat", O_RDONLY) else { return nil }
        var buffer = [UInt8](repeating: 0, count: 512)
        let n = buffer.withUnsafeMutableBytes { (try? file.read(into: $0)) ?? 0 }
        // The name in parentheses may itself hold blanks and parentheses: count from its last one.
        guard let close = buffer[..<n].lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = buffer[(close + 1)..<n].split(separator: UInt8(ascii: " "))
        guard fields.count > 1 else { return nil }
        return pid_t(String(decoding: fields[1], as: UTF8.self))
    }

    /// Sends `number` to every descendant of `root`; returns how many there were.
    @discardableResult
    package static func signal(_ number: Int32, below root: pid_t) -> Int {
        let found = descendants(of: root)
        for pid in found { kill(pid, number) }
        return found.count
    }
}
