import CLinux
import Glibc
import LinuxSystem

/// A stack of unpacked layers read as overlayfs would show it, without mounting anything: whiteouts,
/// opaque directories and symbolic links are followed, links within the stack's own root. A single-file
/// image is read in the same way.
package final class MergedTree {
    private let layers: [Int32]
    private let image: SquashReader?

    /// - Parameter directories: absolute, topmost first.
    package init(_ directories: [String]) throws(SyscallError) {
        var opened: [Int32] = []
        do throws(SyscallError) {
            for directory in directories {
                opened.append(try OwnedDescriptor.open(directory, O_RDONLY | O_DIRECTORY).release())
            }
        } catch {
            opened.forEach { close($0) }
            throw error
        }
        layers = opened
        image = nil
    }

    /// The tree in a single-file image; the reader's descriptor must stay open.
    package init(_ image: SquashReader) {
        layers = []
        self.image = image
    }

    deinit { layers.forEach { close($0) } }

    package struct Node: Sendable {
        /// Where it really lies, links followed, without a leading slash; empty for the root.
        package var path: String
        package var isDirectory: Bool
        package var isFile: Bool
        package var isLink: Bool
        /// `07777`
        package var mode: UInt32
        /// Bytes.
        package var size: Int64
        fileprivate var layer: Int32
        package var isExecutable: Bool { isFile && mode & 0o111 != 0 }
    }

    private enum Limit { static let links = 40 }

    /// The file at `path` (absolute or relative to the root); nil when there is none.
    /// `followingLast` false gives a symbolic link itself.
    package func find(_ path: String, followingLast: Bool = true) -> Node? {
        var pending = Array(Array(path.utf8).split(separator: UInt8(ascii: "/")).map(Array.init).reversed())
        var real: [[UInt8]] = []
        var links = 0
        var last = rootNode
        while let component = pending.popLast() {
            if component == [46] { continue }
            if component == [46, 46] {
                _ = real.popLast()
                continue
            }
            let joined = Array((real + [component]).joined(separator: [UInt8(ascii: "/")]))
            guard let found = look(joined) else { return nil }
            last = found
            if found.isLink, followingLast || !pending.isEmpty {
                links += 1
                guard links <= Limit.links, let target = linkTarget(found) else { return nil }
                if target.first == UInt8(ascii: "/") { real = [] }
                pending += target.split(separator: UInt8(ascii: "/")).map(Array.init).reversed()
                continue
            }
            guard found.isDirectory || pending.isEmpty else { return nil }
            real.append(component)
        }
        if real.isEmpty { return rootNode }
        if last.isLink { return last }
        let joined = Array(real.joined(separator: [UInt8(ascii: "/")]))
        return look(joined)
    }

    /// What stands at a real path, itself.
    private func look(_ path: [UInt8]) -> Node? {
        guard let image else { return LayerLookup.find(path, in: layers).map(node) }
        let text = String(decoding: path, as: UTF8.self)
        guard let inode = try? image.find(text) else { return nil }
        return Node(
            path: text, isDirectory: inode.kind == .directory, isFile: inode.kind == .file,
            isLink: inode.kind == .symbolicLink, mode: inode.mode, size: Int64(inode.size), layer: -1)
    }

    private var rootNode: Node {
        Node(path: "", isDirectory: true, isFile: false, isLink: false, mode: 0o755, size: 0, layer: layers.first ?? -1)
    }

    private func node(_ found: LayerLookup.Found) -> Node {
        Node(
            path: String(decoding: found.path, as: UTF8.self), isDirectory: found.status.isDirectory,
            isFile: found.status.isFile, isLink: found.status.isLink, mode: found.status.st_mode & 0o7777,
            size: Int64(found.status.st_size), layer: found.layer)
    }

    private func linkTarget(_ found: Node) -> [UInt8]? {
        if let image {
            guard let inode = try? image.find(found.path) else { return nil }
            return try? image.target(of: inode)
        }
        var target = [UInt8](repeating: 0, count: 4096)
        let n = DirectoryTree.withName(Array(found.path.utf8)) { path in
            target.withUnsafeMutableBytes {
                readlinkat(found.layer, path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
            }
        }
        return n > 0 ? Array(target[..<n]) : nil
    }

    /// The names in directory `path`, sorted; empty when it is none.
    package func names(in path: String) -> [String] {
        guard let directory = find(path), directory.isDirectory else { return [] }
        if let image {
            guard let inode = try? image.find(directory.path), var entries = try? image.entries(inode) else {
                return []
            }
            var names: [String] = []
            while let entry = try? entries.next() { names.append(String(decoding: entry.name, as: UTF8.self)) }
            return names
        }
        let real = Array(directory.path.utf8)
        var seen: Set<[UInt8]> = []
        var shown: [String] = []
        for layer in layers {
            if !real.isEmpty {
                switch LayerLookup.look(real, in: layer) {
                case .absent: continue
                case .hidden: return shown.sorted()
                case .found(let status): guard status.isDirectory else { return shown.sorted() }
                }
            }
            let descriptor = DirectoryTree.open(real, below: layer, flags: DirectoryTree.openFlags | UInt64(O_NOFOLLOW))
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            for name in (try? DirectoryTree.names(in: descriptor)) ?? [] where seen.insert(name).inserted {
                if (try? DirectoryTree.status(name, in: descriptor))?.isWhiteout == true { continue }
                shown.append(String(decoding: name, as: UTF8.self))
            }
            if LayerLookup.isOpaque(descriptor) { break }
        }
        return shown.sorted()
    }

    /// The file at `path` opened for reading; nil when there is none or it is not a regular file.
    package func open(_ path: String) -> OwnedDescriptor? {
        guard let node = find(path), node.isFile else { return nil }
        let raw = DirectoryTree.open(
            Array(node.path.utf8), below: node.layer, flags: UInt64(O_RDONLY | O_CLOEXEC | O_NOFOLLOW))
        return raw >= 0 ? OwnedDescriptor(owning: raw) : nil
    }

    /// The first `limit` bytes of the file at `path`; nil when there is none.
    package func contents(of path: String, limit: Int = 1 << 20) -> [UInt8]? {
        if let image {
            guard let node = find(path), node.isFile else { return nil }
            return (try? image.contents(of: node.path, limit: limit)) ?? nil
        }
        guard let file = open(path) else { return nil }
        // What is read, not what is allowed, is paid for: limits are large, most files small.
        var facts = stat()
        let expected = fstat(file.raw, &facts) == 0 ? Int(facts.st_size) + 1 : 0
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(limit, expected))
        while bytes.count < limit {
            let chunk = min(limit - bytes.count, 256 << 10)
            let done = bytes.count
            let more = [UInt8](unsafeUninitializedCapacity: chunk) { buffer, count in
                count = max(0, pread(file.raw, buffer.baseAddress!, chunk, done))
            }
            if more.isEmpty { break }
            bytes.append(contentsOf: more)
        }
        return bytes
    }
}
