import Glibc
import LinuxSystem

/// Writes the files of a single-file image as a tar archive (POSIX pax, with `SCHILY.xattr` for attributes), the
/// form a layer has. Entries come in the order of the image's directories, so equal images give equal bytes.
package struct RootArchive {
    private let reader: SquashReader
    private let output: Int32
    private let skipping: Set<[UInt8]>
    private let limits: ExtractionLimits
    private var summary = ExtractionSummary()
    /// First paths of files with several links.
    private var linked: [UInt64: [UInt8]] = [:]
    /// Directories the walk is in: an image may say that a directory holds itself.
    private var open: Set<UInt64> = []
    private var pending: [UInt8] = []
    private let buffer: UnsafeMutableRawBufferPointer

    private static let pendingBytes = 1 << 20
    private static let blockBytes = 512

    /// - Parameters:
    ///   - output: a file or pipe, open for writing; not owned.
    ///   - skipping: paths (without a leading slash) left out, with what is below them.
    package init(
        _ reader: SquashReader, to output: Int32, skipping: Set<[UInt8]> = [],
        limits: ExtractionLimits = ExtractionLimits()
    ) {
        self.reader = reader
        self.output = output
        self.skipping = skipping
        self.limits = limits
        buffer = .allocate(byteCount: reader.blockBytes, alignment: 64)
    }

    /// Writes everything. Sockets are left out and counted: tar has none.
    package mutating func run() throws(ArchiveFault) -> ExtractionSummary {
        defer { buffer.deallocate() }
        let root = try reader.root()
        try header(root, Array("./".utf8), type: "5")
        try fill(root, [])
        pending += [UInt8](repeating: 0, count: 2 * Self.blockBytes)
        try flush()
        return summary
    }

    private mutating func fill(_ inode: SquashInode, _ path: [UInt8]) throws(ArchiveFault) {
        guard open.count < SquashFormat.depth, open.insert(inode.reference).inserted else {
            throw ArchiveFault(.hostile, entry: path, "a directory that holds itself, or too many inside each other")
        }
        var entries = try reader.entries(inode)
        while let entry = try entries.next() {
            let full = path.isEmpty ? entry.name : path + [UInt8(ascii: "/")] + entry.name
            if skipping.contains(full) { continue }
            summary.entries += 1
            guard summary.entries <= limits.entries else {
                throw ArchiveFault(.limit, entry: full, "more than \(limits.entries) entries")
            }
            try write(try reader.inode(entry.reference), full)
        }
        open.remove(inode.reference)
    }

    private mutating func write(_ inode: SquashInode, _ path: [UInt8]) throws(ArchiveFault) {
        if inode.kind == .socket {
            summary.skippedDevices += 1
            return
        }
        if inode.kind != .directory, inode.links > 1 {
            if let first = linked[inode.reference] { return try header(inode, path, type: "1", link: first) }
            linked[inode.reference] = path
        }
        switch inode.kind {
        case .directory:
            try header(inode, path + [UInt8(ascii: "/")], type: "5")
            try fill(inode, path)
        case .file: try writeFile(inode, path)
        case .symbolicLink: try header(inode, path, type: "2", link: try reader.target(of: inode))
        case .characterDevice: try header(inode, path, type: "3")
        case .blockDevice: try header(inode, path, type: "4")
        case .fifo: try header(inode, path, type: "6")
        case .socket: break
        }
    }

    private mutating func writeFile(_ inode: SquashInode, _ path: [UInt8]) throws(ArchiveFault) {
        guard inode.size <= UInt64(limits.bytes) else {
            throw ArchiveFault(.limit, entry: path, "a file of \(inode.size) bytes")
        }
        try header(inode, path, type: "0", size: inode.size)
        var at: UInt64 = 0
        while at < inode.size {
            let n = try reader.read(inode, at: at, into: buffer)
            guard n > 0 else { throw ArchiveFault(.corrupt, entry: path, "a file that ends before its size") }
            summary.bytes += Int64(n)
            guard summary.bytes <= limits.bytes else {
                throw ArchiveFault(.limit, entry: path, "more than \(limits.bytes) bytes of content")
            }
            pending.append(contentsOf: buffer[..<n])
            if pending.count >= Self.pendingBytes { try flush() }
            at += UInt64(n)
        }
        pad(Int(inode.size % UInt64(Self.blockBytes)))
    }

    /// Fills the last block of a member that has `count` bytes in it.
    private mutating func pad(_ count: Int) {
        if count > 0 { pending += [UInt8](repeating: 0, count: Self.blockBytes - count) }
    }

    private mutating func flush() throws(ArchiveFault) {
        var fault: ArchiveFault?
        pending.withUnsafeBytes { bytes in
            do throws(ArchiveFault) { try FileCopy.writeAll(bytes, to: output) } catch { fault = error }
        }
        if let fault { throw fault }
        pending.removeAll(keepingCapacity: true)
    }

    // MARK: Headers

    private enum Field {
        static let nameBytes = 100
        /// What seven octal digits hold.
        static let identity: UInt32 = 1 << 21
        /// What eleven do.
        static let size: UInt64 = 1 << 33
    }

    private mutating func header(
        _ inode: SquashInode, _ path: [UInt8], type: Unicode.Scalar, link: [UInt8] = [], size: UInt64 = 0
    ) throws(ArchiveFault) {
        var records: [UInt8] = []
        func record(_ key: [UInt8], _ value: [UInt8]) { records += Self.record(key, value) }
        if path.count > Field.nameBytes { record(Array("path".utf8), path) }
        if link.count > Field.nameBytes { record(Array("linkpath".utf8), link) }
        if size >= Field.size { record(Array("size".utf8), Array("\(size)".utf8)) }
        if inode.userID >= Field.identity { record(Array("uid".utf8), Array("\(inode.userID)".utf8)) }
        if inode.groupID >= Field.identity { record(Array("gid".utf8), Array("\(inode.groupID)".utf8)) }
        // A hard link's are its file's.
        let attributes = try type == "1" ? [] : reader.attributes(of: inode)
        for attribute in attributes {
            record(Array("SCHILY.xattr.".utf8) + attribute.name, attribute.value)
        }
        if !records.isEmpty {
            let place = Array("PaxHeaders/entry".utf8)
            pending += block(name: place, type: "x", mode: 0o644, size: UInt64(records.count))
            pending += records
            pad(records.count % Self.blockBytes)
        }
        pending += block(
            name: Array(path.prefix(Field.nameBytes)), type: type, mode: inode.mode,
            size: size >= Field.size ? 0 : size,
            link: Array(link.prefix(Field.nameBytes)), inode: inode)
    }

    /// `LENGTH KEY=VALUE\n`, where LENGTH counts itself (pax(1), "pax Extended Header").
    private static func record(_ key: [UInt8], _ value: [UInt8]) -> [UInt8] {
        let rest = key.count + value.count + 3
        var length = rest + 1
        while "\(length)".utf8.count + rest != length { length = "\(length)".utf8.count + rest }
        return Array("\(length) ".utf8) + key + [UInt8(ascii: "=")] + value + [10]
    }

    private func block(
        name: [UInt8], type: Unicode.Scalar, mode: UInt32, size: UInt64, link: [UInt8] = [], inode: SquashInode? = nil
    ) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: Self.blockBytes)
        func put(_ at: Int, _ value: [UInt8]) { block.replaceSubrange(at..<at + value.count, with: value) }
        func octal(_ value: UInt64, _ width: Int) -> [UInt8] {
            let digits = String(value, radix: 8)
            return Array((String(repeating: "0", count: max(0, width - 1 - digits.utf8.count)) + digits).utf8)
        }
        func identity(_ value: UInt32?) -> UInt64 { value.map { $0 < Field.identity ? UInt64($0) : 0 } ?? 0 }
        put(0, name)
        put(100, octal(UInt64(mode & 0o7777), 8))
        put(108, octal(identity(inode?.userID), 8))
        put(116, octal(identity(inode?.groupID), 8))
        put(124, octal(size, 12))
        put(136, octal(UInt64(inode?.modified ?? 0), 12))
        put(148, [UInt8](repeating: 0x20, count: 8))
        put(156, [UInt8(ascii: type)])
        put(157, link)
        put(257, Array("ustar".utf8) + [0, 0x30, 0x30])
        if let inode, type == "3" || type == "4" {
            // The kernel's new_encode_dev (linux/kdev_t.h).
            put(329, octal(UInt64((inode.device & 0xFFF00) >> 8), 8))
            put(337, octal(UInt64((inode.device & 0xFF) | ((inode.device >> 12) & 0xFFF00)), 8))
        }
        put(148, octal(block.reduce(0) { $0 + UInt64($1) }, 7) + [0, 0x20])
        return block
    }
}
