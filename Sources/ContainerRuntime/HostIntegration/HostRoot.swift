import CLinux
import Glibc
import ImageFormats
import LinuxSystem

/// The tree in which the host's drivers, libraries and device nodes are looked for: `/`, or the
/// directory that a driver container or a test has them in (`TRIREME_HOST_ROOT`).
///
/// Symbolic links are followed as if the directory were `/`.
package final class HostRoot {
    /// Without a trailing slash; empty for `/`.
    package let prefix: String
    private let tree: MergedTree
    private var facts: [String: ElfFacts?] = [:]

    package init(_ path: String = "/") throws(SyscallError) {
        var prefix = path
        while prefix.hasSuffix("/") { prefix.removeLast() }
        self.prefix = prefix
        tree = try MergedTree([path])
    }

    /// Absolute path of `path` for the kernel.
    package func outside(_ path: String) -> String { prefix + path }

    package func exists(_ path: String) -> Bool { tree.find(path) != nil }
    package func isDirectory(_ path: String) -> Bool { tree.find(path)?.isDirectory == true }
    package func names(in directory: String) -> [String] { tree.names(in: directory) }
    /// Where `path` really lies, links followed; nil when it is not there.
    package func realPath(_ path: String) -> String? { tree.find(path).map { "/" + $0.path } }
    package func bytes(of path: String, limit: Int = 4 << 20) -> [UInt8]? { tree.contents(of: path, limit: limit) }
    package func text(of path: String) -> String? { bytes(of: path).map { String(decoding: $0, as: UTF8.self) } }

    package func elf(_ path: String) -> ElfFacts? {
        if let known = facts[path] { return known }
        let read = ElfFacts(path, in: tree)
        facts[path] = read
        return read
    }
}

extension ElfFacts {
    /// `count` bytes of an open file from `offset` on, none where a header asks for what cannot be.
    static func bytes(of file: Int32, _ offset: Int, _ count: Int) -> [UInt8] {
        guard offset >= 0, count > 0, count <= 1 << 20 else { return [] }
        var bytes = [UInt8](repeating: 0, count: count)
        let n = bytes.withUnsafeMutableBytes { pread(file, $0.baseAddress, count, offset) }
        return Array(bytes[..<max(0, n)])
    }

    /// Of a file in an image or on the host; nil when it is none or no ELF file.
    package init?(_ path: String, in tree: MergedTree) {
        guard let file = tree.open(path) else { return nil }
        let raw = file.raw
        self.init { ElfFacts.bytes(of: raw, $0, $1) }
    }
}
