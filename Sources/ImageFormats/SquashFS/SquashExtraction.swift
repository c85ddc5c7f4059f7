import CLinux
import Glibc
import LinuxSystem

/// Writes an image's files into a directory.
///
/// What a file's owner decides goes only with that owner, who is never restored here: set-id bits, file
/// capabilities and other privileged attributes are dropped, and so are the rights of group and others to write,
/// but for running in a private place. The mode as the image has it is in `user.trireme.mode` where it differs.
///
/// Nothing outside the directory is touched: it must be empty and the caller's own, every name is one
/// component, and no symbolic link is followed on the way.
package struct SquashExtraction {
    private let reader: SquashReader
    private let root: Int32
    private let options: Options
    package private(set) var summary = ExtractionSummary()
    /// First paths of files with several links.
    private var linked: [UInt64: [UInt8]] = [:]
    /// Directories the walk is in: an image may say that a directory holds itself.
    private var open: Set<UInt64> = []
    private let buffer: UnsafeMutableRawBufferPointer

    package struct Options: Sendable {
        /// The owner may read every file and enter and change every directory, as in the store; for a directory
        /// that only its owner can reach.
        package var isForRunning = false
        /// Paths (without a leading slash) left out, with what is below them.
        package var skipping: Set<[UInt8]> = []
        package var limits = ExtractionLimits()
        package init() {}
    }

    /// - Parameter root: an empty directory, open for reading.
    package init(_ reader: SquashReader, into root: Int32, options: Options = Options()) {
        self.reader = reader
        self.root = root
        self.options = options
        buffer = .allocate(byteCount: reader.blockBytes, alignment: 64)
    }

    /// Extracts everything.
    package mutating func run() throws(ArchiveFault) -> ExtractionSummary {
        defer { buffer.deallocate() }
        try fill(try reader.root(), root, [])
        return summary
    }

    private mutating func fill(_ inode: SquashInode, _ directory: Int32, _ path: [UInt8]) throws(ArchiveFault) {
        guard open.count < SquashFormat.depth, open.insert(inode.reference).inserted else {
            throw ArchiveFault(.hostile, entry: path, "a directory that holds itself, or too many inside each other")
        }
        var entries = try reader.entries(inode)
        while let entry = try entries.next() {
            let full = path.isEmpty ? entry.name : path + [UInt8(ascii: "/")] + entry.name
            if options.skipping.contains(full) { continue }
            summary.entries += 1
            guard summary.entries <= options.limits.entries else {
                throw ArchiveFault(.limit, entry: full, "more than \(options.limits.entries) entries")
            }
            try write(try reader.inode(entry.reference), entry.name, directory, full)
        }
        open.remove(inode.reference)
        setAttributes(directory, try reader.attributes(of: inode))
        try setMode(directory, inode, path)
        var times = self.times(inode)
        try call("futimens", path) { futimens(directory, &times) }
    }

    private mutating func write(
        _ inode: SquashInode, _ name: [UInt8], _ parent: Int32, _ path: [UInt8]
    ) throws(ArchiveFault) {
        if inode.kind != .directory, inode.links > 1 {
            if let first = linked[inode.reference] {
                try call("link", path) {
                    DirectoryTree.withName(first) { old in
                        DirectoryTree.withName(name) { linkat(root, old, parent, $0, 0) }
                    }
                }
                return
            }
            linked[inode.reference] = path
        }
        switch inode.kind {
        case .directory:
            try call("mkdir", path) { DirectoryTree.withName(name) { mkdirat(parent, $0, 0o700) } }
            let raw = DirectoryTree.withName(name) {
                openat(parent, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            }
            guard raw >= 0 else { throw ArchiveFault(SyscallError("open"), entry: path) }
            defer { close(raw) }
            try fill(inode, raw, path)
        case .file: try writeFile(inode, name, parent, path)
        case .symbolicLink:
            let target = try reader.target(of: inode)
            try call("symlink", path) {
                DirectoryTree.withName(target) { to in DirectoryTree.withName(name) { symlinkat(to, parent, $0) } }
            }
            try setTimes(inode, name, parent)
        case .fifo:
            try call("mkfifo", path) { DirectoryTree.withName(name) { mkfifoat(parent, $0, 0o600) } }
            try call("chmod", path) { DirectoryTree.withName(name) { fchmodat(parent, $0, mode(inode), 0) } }
            try setTimes(inode, name, parent)
        case .blockDevice, .characterDevice, .socket:
            linked[inode.reference] = nil
            summary.skippedDevices += 1
        }
    }

    private mutating func writeFile(
        _ inode: SquashInode, _ name: [UInt8], _ parent: Int32, _ path: [UInt8]
    ) throws(ArchiveFault) {
        guard inode.size <= UInt64(options.limits.bytes) else {
            throw ArchiveFault(.limit, entry: path, "a file of \(inode.size) bytes")
        }
        let raw = DirectoryTree.withName(name) {
            openat(parent, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        }
        guard raw >= 0 else { throw ArchiveFault(SyscallError("open"), entry: path) }
        let file = OwnedDescriptor(owning: raw)
        var at: UInt64 = 0
        while at < inode.size {
            let n = try reader.read(inode, at: at, into: buffer)
            guard n > 0 else { throw ArchiveFault(.corrupt, entry: path, "a file that ends before its size") }
            summary.bytes += Int64(n)
            guard summary.bytes <= options.limits.bytes else {
                throw ArchiveFault(.limit, entry: path, "more than \(options.limits.bytes) bytes of content")
            }
            if !isHole(n) { try writeAll(n, file.raw, at, path) }
            at += UInt64(n)
        }
        try call("ftruncate", path) { ftruncate(raw, Int(inode.size)) }
        setAttributes(raw, try reader.attributes(of: inode))
        try setMode(raw, inode, path)
        var times = self.times(inode)
        try call("futimens", path) { futimens(raw, &times) }
    }

    /// Whole blocks of zeros become holes.
    private func isHole(_ count: Int) -> Bool {
        guard count == buffer.count else { return false }
        return buffer.load(as: UInt64.self) == 0 && memcmp(buffer.baseAddress!, buffer.baseAddress! + 8, count - 8) == 0
    }

    private func writeAll(_ count: Int, _ file: Int32, _ at: UInt64, _ path: [UInt8]) throws(ArchiveFault) {
        var done = 0
        while done < count {
            do throws(SyscallError) {
                done += try checked("pwrite") {
                    pwrite(file, buffer.baseAddress! + done, count - done, Int(at) + done)
                }
            } catch { throw ArchiveFault(error, entry: path) }
        }
    }

    private func mode(_ inode: SquashInode) -> UInt32 {
        guard options.isForRunning else { return inode.mode & (inode.kind == .directory ? 0o1755 : 0o755) }
        return inode.kind == .directory ? inode.mode & 0o1777 | 0o700 : inode.mode & 0o777 | 0o400
    }

    private mutating func setMode(_ file: Int32, _ inode: SquashInode, _ path: [UInt8]) throws(ArchiveFault) {
        let mode = mode(inode)
        if mode != inode.mode {
            if inode.mode & 0o6000 != 0 { summary.droppedSetID += 1 }
            let text = String(inode.mode, radix: 8)
            _ = linux_fsetxattr(file, LayerExtractor.Attribute.mode, text, text.utf8.count, 0)
        }
        try call("fchmod", path) { fchmod(file, mode) }
    }

    private func times(_ inode: SquashInode) -> [timespec] {
        let time = timespec(tv_sec: Int(inode.modified), tv_nsec: 0)
        return [time, time]
    }

    private func setTimes(_ inode: SquashInode, _ name: [UInt8], _ parent: Int32) throws(ArchiveFault) {
        var times = self.times(inode)
        _ = DirectoryTree.withName(name) { utimensat(parent, $0, &times, AT_SYMLINK_NOFOLLOW) }
    }

    /// Privileged names (capabilities, labels, lists of access) are left out and counted, also where root could set
    /// them: `security.capability` would make a privileged program of the caller's.
    private mutating func setAttributes(_ file: Int32, _ attributes: [SquashAttribute]) {
        for attribute in attributes {
            let name = String(decoding: attribute.name, as: UTF8.self)
            if !LayerExtractor.isKept(attribute.name)
                || linux_fsetxattr(file, name, attribute.value, attribute.value.count, 0) != 0
            {
                summary.droppedAttributes += 1
            }
        }
    }

    private func call(_ name: StaticString, _ path: [UInt8], _ body: () -> Int32) throws(ArchiveFault) {
        do throws(SyscallError) { try checked(name, "", body) } catch { throw ArchiveFault(error, entry: path) }
    }
}
