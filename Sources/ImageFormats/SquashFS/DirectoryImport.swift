import CLinux
import Glibc
import LinuxSystem

/// Takes a directory, or a stack of unpacked layers as overlayfs would show it, into an image.
package final class DirectoryImport {
    private let writer: SquashWriter
    private let options: Options
    private var linked: [FileIdentity: SquashNode] = [:]
    package private(set) var summary = ExtractionSummary()

    package struct Options: Sendable {
        /// Character devices 0:0 hide what is below, and recorded modes are restored: layers of a store.
        package var isLayered = false
        /// Every file belongs to root: a user's copy of a root file system belongs to that user otherwise.
        package var isRootOwned = true
        package init() {}
    }

    private struct FileIdentity: Hashable {
        var device: dev_t
        var inode: ino_t
    }

    package init(_ writer: SquashWriter, options: Options = Options()) {
        self.writer = writer
        self.options = options
    }

    /// - Parameter directories: topmost first, open for reading; not owned.
    package func run(_ directories: [Int32]) throws(ArchiveFault) {
        guard let top = directories.first else { return }
        try fill(writer.root, directories, [])
        writer.root.metadata = try metadata(top, isLink: false, [])
    }

    private func fill(_ node: SquashNode, _ directories: [Int32], _ path: [UInt8]) throws(ArchiveFault) {
        guard path.count < 4096 else { throw ArchiveFault(.limit, entry: path, "a path of more than 4096 bytes") }
        // The topmost layer that has a name decides; whiteouts decide that there is none.
        var found: [(name: [UInt8], layer: Int)] = []
        var seen: Set<[UInt8]> = []
        for (layer, directory) in directories.enumerated() {
            let names: [[UInt8]]
            do throws(SyscallError) { names = try DirectoryTree.names(in: directory) } catch {
                throw ArchiveFault(error, entry: path)
            }
            for name in names where seen.insert(name).inserted { found.append((name, layer)) }
        }
        for (name, layer) in found.sorted(by: { $0.name.lexicographicallyPrecedes($1.name) }) {
            let full = path.isEmpty ? name : path + [UInt8(ascii: "/")] + name
            guard let status = try status(name, directories[layer], full) else { continue }
            if options.isLayered, status.isWhiteout { continue }
            summary.entries += 1
            if status.isDirectory {
                try addDirectory(name, node, Array(directories[layer...]), full)
            } else {
                try addFile(name, status, node, directories[layer], full)
            }
        }
    }

    private func status(_ name: [UInt8], _ directory: Int32, _ path: [UInt8]) throws(ArchiveFault) -> stat? {
        do throws(SyscallError) { return try DirectoryTree.status(name, in: directory) } catch {
            throw ArchiveFault(error, entry: path)
        }
    }

    /// - Parameter layers: from the one that decides downwards.
    private func addDirectory(
        _ name: [UInt8], _ parent: SquashNode, _ layers: [Int32], _ path: [UInt8]
    ) throws(ArchiveFault) {
        var opened: [Int32] = []
        defer { opened.forEach { close($0) } }
        for (number, layer) in layers.enumerated() {
            if number > 0 {
                guard let status = try status(name, layer, path) else { continue }
                guard status.isDirectory else { break }
            }
            let raw = DirectoryTree.withName(name) {
                openat(layer, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            }
            guard raw >= 0 else { throw ArchiveFault(SyscallError("open"), entry: path) }
            opened.append(raw)
            if !options.isLayered || LayerLookup.isOpaque(raw) { break }
        }
        let node = SquashNode(.directory, try metadata(opened[0], isLink: false, path))
        try writer.add(node, named: name, to: parent)
        try fill(node, opened, path)
    }

    private func addFile(
        _ name: [UInt8], _ status: stat, _ parent: SquashNode, _ directory: Int32, _ path: [UInt8]
    ) throws(ArchiveFault) {
        let identity = FileIdentity(device: status.st_dev, inode: status.st_ino)
        if status.st_nlink > 1, let known = linked[identity] { return try writer.add(known, named: name, to: parent) }
        let node: SquashNode
        switch status.st_mode & S_IFMT {
        case S_IFREG: node = try importContent(name, directory, path)
        case S_IFLNK:
            var target = [UInt8](repeating: 0, count: 4096)
            let n = DirectoryTree.withName(name) { link in
                target.withUnsafeMutableBytes {
                    readlinkat(directory, link, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
                }
            }
            guard n > 0 else { throw ArchiveFault(SyscallError("readlink"), entry: path) }
            node = SquashNode(.symbolicLink, metadata(status), target: Array(target[..<n]))
        case S_IFCHR, S_IFBLK, S_IFIFO:
            let kind: SquashInode.Kind =
                status.st_mode & S_IFMT == S_IFIFO
                ? .fifo : status.st_mode & S_IFMT == S_IFCHR ? .characterDevice : .blockDevice
            node = SquashNode(kind, metadata(status))
            // The low 32 bits are as linux/kdev_t.h packs them: 12 of the major between the minor's.
            node.device = UInt32(truncatingIfNeeded: status.st_rdev)
        default:
            summary.skippedDevices += 1  // a socket: nobody listens in an image
            return
        }
        try writer.add(node, named: name, to: parent)
        if status.st_nlink > 1 { linked[identity] = node }
    }

    private func importContent(_ name: [UInt8], _ directory: Int32, _ path: [UInt8]) throws(ArchiveFault) -> SquashNode
    {
        let raw = DirectoryTree.withName(name) { openat(directory, $0, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) }
        guard raw >= 0 else { throw ArchiveFault(SyscallError("open"), entry: path) }
        let file = OwnedDescriptor(owning: raw)
        let node = SquashNode(.file, try metadata(file.raw, isLink: false, path))
        writer.beginFile(node)
        try writer.append(contentsOf: file.raw)
        try writer.endFile()
        return node
    }

    private func metadata(_ status: stat) -> SquashMetadata {
        SquashMetadata(
            mode: status.st_mode & 0o7777, userID: options.isRootOwned ? 0 : status.st_uid,
            groupID: options.isRootOwned ? 0 : status.st_gid, modified: Int64(status.st_mtim.tv_sec))
    }

    private func metadata(_ file: Int32, isLink: Bool, _ path: [UInt8]) throws(ArchiveFault) -> SquashMetadata {
        var status = stat()
        guard fstat(file, &status) == 0 else { throw ArchiveFault(SyscallError("fstat"), entry: path) }
        var metadata = metadata(status)
        for name in attributeNames(file) {
            let text = String(decoding: name, as: UTF8.self)
            guard let value = attribute(file, text) else { continue }
            if text == LayerExtractor.Attribute.mode, options.isLayered {
                if let mode = UInt32(String(decoding: value, as: UTF8.self), radix: 8) { metadata.mode = mode & 0o7777 }
            } else if !text.hasPrefix("user.overlay."), !text.hasPrefix("user.trireme."), !text.hasPrefix("trusted.") {
                metadata.attributes.append(SquashAttribute(name: name, value: value))
            }
        }
        return metadata
    }

    private func attributeNames(_ file: Int32) -> [[UInt8]] {
        let size = linux_flistxattr(file, nil, 0)
        guard size > 0 else { return [] }
        var names = [UInt8](repeating: 0, count: size)
        let n = names.withUnsafeMutableBytes { linux_flistxattr(file, $0.baseAddress, $0.count) }
        return n > 0 ? names[..<n].split(separator: 0).map(Array.init) : []
    }

    private func attribute(_ file: Int32, _ name: String) -> [UInt8]? {
        let size = linux_fgetxattr(file, name, nil, 0)
        guard size >= 0 else { return nil }
        var value = [UInt8](repeating: 0, count: size)
        let n = value.withUnsafeMutableBytes { linux_fgetxattr(file, name, $0.baseAddress, $0.count) }
        return n == size ? value : nil
    }
}

extension SquashNode {
    /// Makes `path` (names joined by `/`) where nothing is in its way; false when something is, which stays.
    @discardableResult
    package func make(_ path: String, _ kind: SquashInode.Kind, _ metadata: SquashMetadata) -> SquashNode? {
        var here = self
        let names = path.utf8.split(separator: UInt8(ascii: "/")).map(Array.init)
        for (number, name) in names.enumerated() {
            let isLast = number == names.count - 1
            if let child = here.child(name) {
                guard child.isDirectory, !isLast else { return isLast && child.kind == kind ? child : nil }
                here = child
                continue
            }
            let made = SquashNode(
                isLast ? kind : .directory,
                isLast ? metadata : SquashMetadata(mode: 0o755, modified: Int64(metadata.modified)))
            here.children[name] = made
            here = made
        }
        return here
    }
}
