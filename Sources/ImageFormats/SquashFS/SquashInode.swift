import Glibc

/// One file of an image, as its inode has it.
package struct SquashInode: Sendable {
    package enum Kind: UInt16, Sendable {
        case directory = 1
        case file, symbolicLink, blockDevice, characterDevice, fifo, socket
    }
    package var kind: Kind
    /// `07777`
    package var mode: UInt32
    package var userID: UInt32
    package var groupID: UInt32
    /// Seconds since 1970.
    package var modified: UInt32
    package var number: UInt32
    package var links: UInt32 = 1
    /// Bytes of a file or of a link's target; of a directory, of its listing.
    package var size: UInt64 = 0
    package var device: UInt32 = 0
    package var attributes: UInt32 = SquashFormat.noAttributes
    /// Where it lies; equal for hard links of one file.
    package var reference: UInt64

    // Of a file.
    var dataStart: UInt64 = 0
    var fragment: UInt32 = SquashFormat.noFragment
    /// Within the fragment's block, or a directory's listing.
    var offset: UInt32 = 0
    /// Behind the fixed part: block sizes, or a link's target.
    var rest: (block: UInt64, offset: Int) = (0, 0)
    // Of a directory.
    var listing: UInt64 = 0

    /// struct stat's st_mode.
    package var statMode: UInt32 {
        let type: UInt32 =
            switch kind {
            case .directory: 0o040000
            case .file: 0o100000
            case .symbolicLink: 0o120000
            case .blockDevice: 0o060000
            case .characterDevice: 0o020000
            case .fifo: 0o010000
            case .socket: 0o140000
            }
        return type | mode
    }
}

extension SquashReader {
    package func root() throws(ArchiveFault) -> SquashInode {
        let inode = try inode(rootReference)
        guard inode.kind == .directory else { throw ArchiveFault(.corrupt, "its root is not a directory") }
        return inode
    }

    /// The inode at `reference`: block relative to the inode table, and offset in it.
    package func inode(_ reference: UInt64) throws(ArchiveFault) -> SquashInode {
        guard reference >> 16 <= UInt64(length), reference & 0xFFFF < UInt64(SquashFormat.metadataBytes) else {
            throw ArchiveFault(.corrupt, "an inode outside the image")
        }
        let start = superblock.inodeTable + reference >> 16
        guard start < superblock.directoryTable else { throw ArchiveFault(.corrupt, "an inode outside its table") }
        var cursor = MetadataCursor(self, block: start, offset: Int(reference & 0xFFFF))
        let head = try cursor.read(16)
        let type = head.u16(0)
        guard (1...14).contains(type), let kind = SquashInode.Kind(rawValue: type > 7 ? type - 7 : type) else {
            throw ArchiveFault(.corrupt, "an inode of type \(type)")
        }
        var inode = SquashInode(
            kind: kind, mode: UInt32(head.u16(2)) & 0o7777, userID: try identity(head.u16(4)),
            groupID: try identity(head.u16(6)), modified: head.u32(8), number: head.u32(12), reference: reference)
        try fill(&inode, type, &cursor)
        return inode
    }

    private func fill(_ inode: inout SquashInode, _ type: UInt16, _ cursor: inout MetadataCursor) throws(ArchiveFault) {
        switch type {
        case 1:
            let b = try cursor.read(16)
            inode.listing = UInt64(b.u32(0))
            inode.links = b.u32(4)
            inode.size = UInt64(b.u16(8))
            inode.offset = UInt32(b.u16(10))
        case 8:
            let b = try cursor.read(24)
            inode.links = b.u32(0)
            inode.size = UInt64(b.u32(4))
            inode.listing = UInt64(b.u32(8))
            inode.offset = UInt32(b.u16(18))
            inode.attributes = b.u32(20)
        case 2:
            let b = try cursor.read(16)
            inode.dataStart = UInt64(b.u32(0))
            inode.fragment = b.u32(4)
            inode.offset = b.u32(8)
            inode.size = UInt64(b.u32(12))
        case 9:
            let b = try cursor.read(40)
            inode.dataStart = b.u64(0)
            inode.size = b.u64(8)
            inode.links = b.u32(24)
            inode.fragment = b.u32(28)
            inode.offset = b.u32(32)
            inode.attributes = b.u32(36)
        case 3, 10:
            let b = try cursor.read(8)
            inode.links = b.u32(0)
            inode.size = UInt64(b.u32(4))
            guard (1...SquashFormat.linkBytes).contains(Int(inode.size)) else {
                throw ArchiveFault(.corrupt, "a symbolic link of \(inode.size) bytes")
            }
        case 4, 5, 11, 12:
            let b = try cursor.read(8)
            inode.links = b.u32(0)
            inode.device = b.u32(4)
            if type > 7 { inode.attributes = try cursor.read(4).u32(0) }
        default:
            inode.links = try cursor.read(4).u32(0)
            if type > 7 { inode.attributes = try cursor.read(4).u32(0) }
        }
        inode.rest = (cursor.block, cursor.offset)
        if inode.size > UInt64(Int64.max) { throw ArchiveFault(.corrupt, "a file of \(inode.size) bytes") }
        if type == 10 {
            _ = try cursor.read(Int(inode.size))
            inode.attributes = try cursor.read(4).u32(0)
        }
    }

    /// The target of a symbolic link.
    package func target(of inode: SquashInode) throws(ArchiveFault) -> [UInt8] {
        guard inode.kind == .symbolicLink else { throw ArchiveFault(.corrupt, "not a symbolic link") }
        var cursor = MetadataCursor(self, block: inode.rest.block, offset: inode.rest.offset)
        let target = try cursor.read(Int(inode.size))
        guard !target.contains(0) else { throw ArchiveFault(.corrupt, "a symbolic link with a NUL in its target") }
        return target
    }
}
