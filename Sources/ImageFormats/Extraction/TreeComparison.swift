import CLinux
import Glibc
import LinuxSystem

/// Two directory trees held against each other, entry by entry: type, mode, size, modification time,
/// link target, content, the number of links and the attributes an extractor sets.
package struct TreeComparison {
    /// The first few differences, each a path and what is different.
    package private(set) var differences: [String] = []

    private enum Limit { static let differences = 5 }

    package init() {}

    /// - Parameters: the tree as it should be, and as it is.
    package mutating func compare(_ expected: String, _ found: String) throws(SyscallError) {
        let a = try OwnedDescriptor.open(expected, O_RDONLY | O_DIRECTORY)
        guard let b = try? OwnedDescriptor.open(found, O_RDONLY | O_DIRECTORY) else {
            differences.append("the directory is missing")
            return
        }
        try compare(a.raw, b.raw, "")
    }

    private var isFull: Bool { differences.count >= Limit.differences }

    private mutating func note(_ path: String, _ what: String) { if !isFull { differences.append("\(path): \(what)") } }

    private mutating func compare(_ a: Int32, _ b: Int32, _ path: String) throws(SyscallError) {
        let expected = try DirectoryTree.names(in: a).sorted { $0.lexicographicallyPrecedes($1) }
        let found = Set(try DirectoryTree.names(in: b))
        for name in found.subtracting(expected).sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            note(path + ArchiveFault.printable(name), "should not be there")
        }
        for name in expected {
            if isFull { return }
            let shown = path + ArchiveFault.printable(name)
            guard found.contains(name), let was = try DirectoryTree.status(name, in: a),
                let now = try DirectoryTree.status(name, in: b)
            else {
                note(shown, "is missing")
                continue
            }
            try compare(name, was, now, a, b, shown)
        }
    }

    private mutating func compare(
        _ name: [UInt8], _ was: stat, _ now: stat, _ a: Int32, _ b: Int32, _ path: String
    ) throws(SyscallError) {
        guard was.st_mode & S_IFMT == now.st_mode & S_IFMT else { return note(path, "is another kind of file") }
        // A whiteout is a mark: that it is there says all.
        if was.isWhiteout, now.isWhiteout { return }
        if was.st_mode != now.st_mode { note(path, "mode \(octal(now.st_mode)), should be \(octal(was.st_mode))") }
        if was.st_mtim.tv_sec != now.st_mtim.tv_sec { note(path, "its modification time changed") }
        if was.isLink, try target(name, in: a) != target(name, in: b) { return note(path, "its target changed") }
        guard was.isFile || was.isDirectory else { return }
        if was.isFile, was.st_size != now.st_size {
            return note(path, "\(now.st_size) bytes, should be \(was.st_size)")
        }
        if was.isFile, was.st_nlink != now.st_nlink { note(path, "\(now.st_nlink) links, should be \(was.st_nlink)") }
        let flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC
        let left = DirectoryTree.withName(name) { openat(a, $0, flags) }
        guard left >= 0 else { throw SyscallError("open", path) }
        defer { close(left) }
        let right = DirectoryTree.withName(name) { openat(b, $0, flags) }
        guard right >= 0 else { return note(path, SyscallError("open").sentence) }
        defer { close(right) }
        for attribute in [LayerExtractor.Attribute.opaque, LayerExtractor.Attribute.mode]
        where value(attribute, left) != value(attribute, right) {
            note(path, "attribute \(attribute) changed")
        }
        if was.isDirectory { return try compare(left, right, path + "/") }
        if try !hasEqualContent(left, right) { note(path, "its content changed") }
    }

    private func octal(_ mode: mode_t) -> String { String(mode & 0o7777, radix: 8) }

    private func target(_ name: [UInt8], in directory: Int32) throws(SyscallError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let n = try checked("readlink") {
            DirectoryTree.withName(name) { name in
                bytes.withUnsafeMutableBytes {
                    readlinkat(directory, name, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
                }
            }
        }
        return Array(bytes[..<n])
    }

    private func value(_ attribute: String, _ file: Int32) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 64)
        let n = linux_fgetxattr(file, attribute, &bytes, bytes.count)
        return n < 0 ? nil : Array(bytes[..<Int(n)])
    }

    private func hasEqualContent(_ a: Int32, _ b: Int32) throws(SyscallError) -> Bool {
        let size = 128 << 10
        let left = UnsafeMutableRawPointer.allocate(byteCount: size * 2, alignment: 64)
        defer { left.deallocate() }
        let right = left + size
        while true {
            let n = try checked("read") { read(a, left, size) }
            var filled = 0
            while filled < n {
                let m = try checked("read") { read(b, right + filled, n - filled) }
                if m == 0 { return false }
                filled += m
            }
            if n == 0 { return true }
            if memcmp(left, right, n) != 0 { return false }
        }
    }
}
