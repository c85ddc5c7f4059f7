// squashfs 4.0, little-endian throughout (linux/fs/squashfs/squashfs_fs.h, and the
// kernel's Documentation/filesystems/squashfs.rst).

/// Numbers of the format, and bounds of what an image may ask for.
package enum SquashFormat {
    package static let magic: UInt32 = 0x7371_7368  // "hsqs"
    package static let superblockBytes = 96
    /// Uncompressed bytes of one metadata block.
    package static let metadataBytes = 8192
    package static let noFragment: UInt32 = 0xFFFF_FFFF
    package static let noTable: UInt64 = 0xFFFF_FFFF_FFFF_FFFF
    package static let noAttributes: UInt32 = 0xFFFF_FFFF
    /// In a data block's size word: the block is stored as it is.
    static let storedBlock: UInt32 = 1 << 24
    /// In a metadata block's size word: likewise.
    static let storedMetadata: UInt16 = 1 << 15
    package static let maximumBlockBytes = 1 << 20
    static let nameBytes = 256
    static let linkBytes = 65535
    /// Entries behind one directory header.
    static let entriesPerHeader = 256
    /// Entries of one directory; an image of the store holds at most five million files altogether.
    static let entriesPerDirectory = 1 << 21
    /// Blocks of one file: four tebibytes of the usual size.
    static let blocksPerFile: UInt64 = 1 << 25
    /// Bytes of one extended attribute (linux/limits.h, XATTR_SIZE_MAX).
    static let attributeBytes = 65536
    /// Directories inside each other; a path is at most 4096 bytes.
    package static let depth = 2048

    enum Flag {
        static let noFragments: UInt16 = 0x10
        static let noAttributes: UInt16 = 0x200
        static let duplicatesFound: UInt16 = 0x40
        static let exportable: UInt16 = 0x80
    }
}

/// How an image's blocks are compressed.
package enum SquashCompression: UInt16, Sendable {
    case gzip = 1
    case lzma, lzo, xz, lz4
    case zstd

    package var name: String { "\(self)" }
}

/// The first 96 bytes.
struct SquashSuperblock {
    var inodeCount: UInt32 = 0
    var modified: UInt32 = 0
    var blockBytes: UInt32 = 0
    var fragmentCount: UInt32 = 0
    var compression = SquashCompression.zstd
    var flags: UInt16 = 0
    var idCount: UInt16 = 0
    var root: UInt64 = 0
    var bytesUsed: UInt64 = 0
    var idTable: UInt64 = SquashFormat.noTable
    var attributeTable: UInt64 = SquashFormat.noTable
    var inodeTable: UInt64 = 0
    var directoryTable: UInt64 = 0
    var fragmentTable: UInt64 = SquashFormat.noTable
    var exportTable: UInt64 = SquashFormat.noTable

    init() {}

    init(_ bytes: [UInt8]) throws(ArchiveFault) {
        guard bytes.count >= SquashFormat.superblockBytes, bytes.u32(0) == SquashFormat.magic else {
            throw ArchiveFault(.corrupt, "not a squashfs image: its magic number is missing")
        }
        guard bytes.u16(28) == 4, bytes.u16(30) == 0 else {
            throw ArchiveFault(
                .unsupported, "squashfs version \(bytes.u16(28)).\(bytes.u16(30)); version 4.0 is read")
        }
        inodeCount = bytes.u32(4)
        modified = bytes.u32(8)
        blockBytes = bytes.u32(12)
        fragmentCount = bytes.u32(16)
        guard let compression = SquashCompression(rawValue: bytes.u16(20)) else {
            throw ArchiveFault(
                .unsupported, "compressed by method \(bytes.u16(20)), which squashfs 4.0 does not define")
        }
        self.compression = compression
        flags = bytes.u16(24)
        idCount = bytes.u16(26)
        root = bytes.u64(32)
        bytesUsed = bytes.u64(40)
        idTable = bytes.u64(48)
        attributeTable = bytes.u64(56)
        inodeTable = bytes.u64(64)
        directoryTable = bytes.u64(72)
        fragmentTable = bytes.u64(80)
        exportTable = bytes.u64(88)
        let log = bytes.u16(22)
        guard (12...20).contains(log), blockBytes == 1 << UInt32(log) else {
            throw ArchiveFault(.corrupt, "a block size of \(blockBytes) bytes (2^\(log) by its other field)")
        }
    }

    var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(SquashFormat.magic)
        bytes.append(inodeCount)
        bytes.append(modified)
        bytes.append(blockBytes)
        bytes.append(fragmentCount)
        bytes.append(compression.rawValue)
        bytes.append(UInt16(blockBytes.trailingZeroBitCount))
        bytes.append(flags)
        bytes.append(idCount)
        bytes.append(UInt16(4))
        bytes.append(UInt16(0))
        for field in [
            root, bytesUsed, idTable, attributeTable, inodeTable, directoryTable, fragmentTable, exportTable,
        ] { bytes.append(field) }
        return bytes
    }
}

extension UnsafeRawBufferPointer {
    // The caller has checked the bounds.
    @inline(__always) func u16(_ at: Int) -> UInt16 { loadUnaligned(fromByteOffset: at, as: UInt16.self).littleEndian }
    @inline(__always) func u32(_ at: Int) -> UInt32 { loadUnaligned(fromByteOffset: at, as: UInt32.self).littleEndian }
    @inline(__always) func u64(_ at: Int) -> UInt64 { loadUnaligned(fromByteOffset: at, as: UInt64.self).littleEndian }
}

extension [UInt8] {
    @inline(__always) func u16(_ at: Int) -> UInt16 { withUnsafeBytes { $0.u16(at) } }
    @inline(__always) func u32(_ at: Int) -> UInt32 { withUnsafeBytes { $0.u32(at) } }
    @inline(__always) func u64(_ at: Int) -> UInt64 { withUnsafeBytes { $0.u64(at) } }
    @inline(__always) mutating func append<N: FixedWidthInteger>(_ number: N) where N: UnsignedInteger {
        Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
    }
}
