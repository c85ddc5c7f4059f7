import CLinux
import Glibc

/// Files and directories of control groups: short texts, one write(2) each.
enum CgroupFile {
    /// Without the newline at its end; nil when it cannot be read.
    static func text(_ path: String) -> String? {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY), let bytes = try? file.readAll(limit: 1 << 20) else {
            return nil
        }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }

    static func words(_ path: String) -> [String] {
        (text(path) ?? "").split { $0 == " " || $0 == "\n" }.map(String.init)
    }

    static func number(_ path: String) -> UInt64? { text(path).flatMap { UInt64($0) } }

    /// The value of `key` in a file of lines `KEY VALUE` (memory.events).
    static func number(_ path: String, key: String) -> UInt64? {
        for line in (text(path) ?? "").split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == key { return UInt64(words[1]) }
        }
        return nil
    }

    static func write(_ path: String, _ value: String) throws(SyscallError) {
        let file = try OwnedDescriptor.open(path, O_WRONLY)
        do throws(SyscallError) { try file.writeAll(value) } catch {
            throw SyscallError("write", "\(value) to \(path)", errno: error.errno)
        }
    }

    /// Names in `directory` that start with `prefix`.
    static func names(in directory: String, prefix: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasPrefix(prefix) { names.append(name) }
        }
        return names
    }
}

/// Whole disks of this machine (sysfs, /sys/block).
enum BlockDevice {
    /// `MAJOR:MINOR` of each; not those that only pass on to another (loop, RAM disks).
    static func numbers() -> [String] {
        CgroupFile.names(in: "/sys/block", prefix: "").filter { !$0.hasPrefix(".") }
            .filter { !$0.hasPrefix("loop") && !$0.hasPrefix("ram") && !$0.hasPrefix("zram") }
            .sorted().compactMap { CgroupFile.text("/sys/block/\($0)/dev") }
    }
}
