import Glibc

extension SquashWriter {
    /// Writes the tables and the superblock; returns the image's bytes.
    package func finish() throws(ArchiveFault) -> Int64 {
        try submitFragment()
        try drain()
        contentEnd = offset
        let encoder = BlockEncoder(options.compression, level: options.level)
        var tables = TableWriter(encoder, options)
        try tables.write(root)
        tables.inodes.finish()
        tables.directories.finish()

        var superblock = SquashSuperblock()
        superblock.compression = options.compression
        superblock.blockBytes = UInt32(options.blockBytes)
        superblock.modified = options.fixedTime ?? options.created
        superblock.flags = SquashFormat.Flag.duplicatesFound | SquashFormat.Flag.exportable
        superblock.inodeCount = UInt32(tables.references.count)
        superblock.fragmentCount = UInt32(fragments.count)
        superblock.idCount = UInt16(tables.identities.count)
        superblock.root = root.reference ?? 0
        superblock.inodeTable = offset
        try write(tables.inodes.output)
        superblock.directoryTable = offset
        try write(tables.directories.output)
        if !fragments.isEmpty {
            var entries: [UInt8] = []
            for fragment in fragments {
                entries.append(fragment.start)
                entries.append(fragment.size)
                entries.append(UInt32(0))
            }
            superblock.fragmentTable = try writeIndexed(entries, encoder)
        }
        var references: [UInt8] = []
        for reference in tables.references { references.append(reference) }
        superblock.exportTable = try writeIndexed(references, encoder)
        var identities: [UInt8] = []
        for identity in tables.identities { identities.append(identity) }
        superblock.idTable = try writeIndexed(identities, encoder)
        if let attributes = tables.attributes.finished(at: offset, encoder) {
            try write(attributes.bytes)
            superblock.attributeTable = attributes.head
        } else {
            superblock.flags |= SquashFormat.Flag.noAttributes
        }
        superblock.bytesUsed = offset
        // Loop devices want whole pages.
        try write([UInt8](repeating: 0, count: Int((4096 - offset % 4096) % 4096)))
        let length = offset
        offset = 0
        try write(superblock.encoded)
        guard ftruncate(descriptor, Int(length)) == 0 else { throw ArchiveFault(.system, "ftruncate", errno: errno) }
        return Int64(length)
    }

    /// After `finish`: more may be added, which goes where the tables are; `finish` then writes them anew.
    package func reopen() {
        offset = contentEnd
        root.forgetNumbers()
    }

    /// Entries in metadata blocks, then the blocks' places, which is where the table is said to start.
    private func writeIndexed(_ entries: [UInt8], _ encoder: BlockEncoder) throws(ArchiveFault) -> UInt64 {
        var table = MetadataWriter(encoder)
        table.append(entries)
        table.finish()
        let start = offset
        try write(table.output)
        let head = offset
        var index: [UInt8] = []
        for block in table.starts { index.append(start + block) }
        try write(index)
        return head
    }
}

/// Inodes and directories, children before their parents.
private struct TableWriter {
    var inodes: MetadataWriter
    var directories: MetadataWriter
    var attributes: AttributeWriter
    private(set) var identities: [UInt32] = []
    /// By inode number, from 1.
    private(set) var references: [UInt64] = []
    private let options: SquashWriter.Options

    init(_ encoder: BlockEncoder, _ options: SquashWriter.Options) {
        inodes = MetadataWriter(encoder)
        directories = MetadataWriter(encoder)
        attributes = AttributeWriter(encoder)
        self.options = options
    }

    mutating func write(_ root: SquashNode) throws(ArchiveFault) {
        try number(root)
        try write(root, parent: UInt32(references.count + 1), depth: 0)
    }

    /// Numbers and link counts first: a directory names its parent's number.
    private mutating func number(_ node: SquashNode) throws(ArchiveFault) {
        node.links += 1
        guard node.number == 0 else {
            guard !node.isDirectory else { throw ArchiveFault(.corrupt, "a directory with two names") }
            return
        }
        guard references.count < Int(UInt32.max) - 2 else { throw ArchiveFault(.limit, "too many files") }
        references.append(0)
        node.number = UInt32(references.count)
        for name in node.sortedNames {
            if let child = node.children[name] { try number(child) }
        }
    }

    private mutating func identity(_ id: UInt32) throws(ArchiveFault) -> UInt16 {
        if let known = identities.firstIndex(of: id) { return UInt16(known) }
        guard identities.count < 65535 else { throw ArchiveFault(.limit, "more than 65535 owners") }
        identities.append(id)
        return UInt16(identities.count - 1)
    }

    private mutating func write(_ node: SquashNode, parent: UInt32, depth: Int) throws(ArchiveFault) {
        if node.reference != nil { return }
        guard depth < SquashFormat.depth else { throw ArchiveFault(.limit, "too many directories inside each other") }
        let names = node.sortedNames
        for name in names { try write(node.children[name]!, parent: node.number, depth: depth + 1) }
        let listing = node.isDirectory ? list(node, names) : Listing()
        let attributes = attributes.number(of: node.metadata.attributes)
        var inode: [UInt8] = []
        let type: UInt16
        switch node.kind {
        case .directory:
            let bytes = listing.bytes + 3
            let subdirectories = node.children.values.reduce(UInt32(0)) { $0 + ($1.isDirectory ? 1 : 0) }
            let isLong = bytes > 65535 || attributes != SquashFormat.noAttributes || !listing.index.isEmpty
            type = isLong ? 8 : 1
            if isLong {
                inode.append(subdirectories + 2)
                inode.append(UInt32(bytes))
                inode.append(UInt32(listing.block))
                inode.append(parent)
                inode.append(UInt16(min(listing.indexCount, 65535)))
                inode.append(UInt16(listing.offset))
                inode.append(attributes)
                inode += listing.index
            } else {
                inode.append(UInt32(listing.block))
                inode.append(subdirectories + 2)
                inode.append(UInt16(bytes))
                inode.append(UInt16(listing.offset))
                inode.append(parent)
            }
        case .file: (type, inode) = fileInode(node, attributes)
        case .symbolicLink:
            guard (1...SquashFormat.linkBytes).contains(node.target.count) else {
                throw ArchiveFault(.corrupt, "a symbolic link of \(node.target.count) bytes")
            }
            type = attributes == SquashFormat.noAttributes ? 3 : 10
            inode.append(node.links)
            inode.append(UInt32(node.target.count))
            inode += node.target
            if type == 10 { inode.append(attributes) }
        case .blockDevice, .characterDevice:
            type = node.kind.rawValue + (attributes == SquashFormat.noAttributes ? 0 : 7)
            inode.append(node.links)
            inode.append(node.device)
            if type > 7 { inode.append(attributes) }
        case .fifo, .socket:
            type = node.kind.rawValue + (attributes == SquashFormat.noAttributes ? 0 : 7)
            inode.append(node.links)
            if type > 7 { inode.append(attributes) }
        }
        node.reference = inodes.reference
        references[Int(node.number) - 1] = inodes.reference
        inodes.append(try head(type, node) + inode)
    }

    private mutating func head(_ type: UInt16, _ node: SquashNode) throws(ArchiveFault) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(type)
        bytes.append(UInt16(node.metadata.mode & 0o7777))
        bytes.append(try identity(node.metadata.userID))
        bytes.append(try identity(node.metadata.groupID))
        bytes.append(options.fixedTime ?? node.metadata.modified)
        bytes.append(node.number)
        return bytes
    }

    private func fileInode(_ node: SquashNode, _ attributes: UInt32) -> (UInt16, [UInt8]) {
        let data = node.data ?? SquashFileData()
        var inode: [UInt8] = []
        let isLong =
            data.start > UInt64(UInt32.max) || data.size > UInt64(UInt32.max) || node.links > 1 || data.sparse > 0
            || attributes != SquashFormat.noAttributes
        let start = data.sizes.isEmpty ? 0 : data.start
        if isLong {
            inode.append(start)
            inode.append(data.size)
            inode.append(data.sparse)
            inode.append(node.links)
            inode.append(data.fragment)
            inode.append(data.fragmentOffset)
            inode.append(attributes)
        } else {
            inode.append(UInt32(start))
            inode.append(data.fragment)
            inode.append(data.fragmentOffset)
            inode.append(UInt32(data.size))
        }
        for size in data.sizes { inode.append(size) }
        return (isLong ? 9 : 2, inode)
    }

    private struct Listing {
        var block: UInt64 = 0
        var offset = 0
        var bytes = 0
        var index: [UInt8] = []
        var indexCount = 0
    }

    /// Writes the entries of a directory: runs of at most 256 whose inodes lie in one metadata block and
    /// have near numbers, each behind a header. Where a block of the table begins, so does a header, and
    /// the index says which name that is.
    private mutating func list(_ node: SquashNode, _ names: [[UInt8]]) -> Listing {
        var listing = Listing()
        (listing.block, listing.offset) = directories.position
        var at = 0
        var tableBlock = listing.block
        while at < names.count {
            let first = node.children[names[at]]!
            let block = first.reference! >> 16
            if directories.position.block != tableBlock {
                tableBlock = directories.position.block
                listing.index.append(UInt32(listing.bytes))
                listing.index.append(UInt32(tableBlock))
                listing.index.append(UInt32(names[at].count - 1))
                listing.index += names[at]
                listing.indexCount += 1
            }
            var run: [UInt8] = []
            var count = 0
            while at + count < names.count, count < SquashFormat.entriesPerHeader {
                let name = names[at + count]
                let child = node.children[name]!
                let delta = Int64(child.number) - Int64(first.number)
                guard child.reference! >> 16 == block, (-32767...32767).contains(delta) else { break }
                // A run does not pass the end of its block by more than its last entry.
                if count > 0, directories.position.offset + 12 + run.count > SquashFormat.metadataBytes { break }
                run.append(UInt16(child.reference! & 0xFFFF))
                run.append(UInt16(bitPattern: Int16(delta)))
                run.append(child.kind.rawValue)
                run.append(UInt16(name.count - 1))
                run += name
                count += 1
            }
            var header: [UInt8] = []
            header.append(UInt32(count - 1))
            header.append(UInt32(block))
            header.append(first.number)
            directories.append(header + run)
            listing.bytes += 12 + run.count
            at += count
        }
        return listing
    }
}
