/// One member of a tar archive, extended headers applied (POSIX pax; GNU tar's manual, "Basic Tar Format").
package struct TarEntry: Sendable {
    package enum Kind: Equatable, Sendable {
        case file, hardLink, symbolicLink, characterDevice, blockDevice, directory, fifo
        /// A type this reader does not know; POSIX says to treat it as a file, docker refuses it.
        case unknown(UInt8)
    }
    /// Bytes as written, of any encoding.
    package var path: [UInt8] = []
    package var linkTarget: [UInt8] = []
    package var kind = Kind.file
    /// Permission bits with set-id and sticky, `07777`.
    package var mode: UInt32 = 0
    /// Bytes of data in the archive.
    package var storedBytes: Int64 = 0
    /// Bytes of the file, larger than `storedBytes` when it has holes.
    package var size: Int64 = 0
    package var modified = Time()
    package var userID: Int64 = 0
    package var groupID: Int64 = 0
    /// Extended attributes, name and value (`SCHILY.xattr.`).
    package var attributes: [(name: [UInt8], value: [UInt8])] = []
    /// Where the stored bytes belong in a file with holes, in order; nil for an ordinary file.
    package var segments: [Segment]?

    package struct Time: Sendable {
        package var seconds: Int64 = 0
        package var nanoseconds: Int64 = 0
    }
    package struct Segment: Sendable {
        package var offset: Int64
        package var length: Int64
    }
}

/// Bounds of what an archive may ask for.
package enum TarLimit {
    /// One extended header; a path is at most 4096 bytes, attributes at most 64 KiB each.
    package static let extendedHeaderBytes: Int64 = 1 << 20
    /// One member. Larger is no file system's, and sums of two stay representable.
    package static let memberBytes: Int64 = 1 << 60
    /// Extended headers before one member; honest writers need three.
    package static let extendedHeaders = 32
    /// Extended attributes of one member, global ones included.
    package static let attributes = 256
    /// Holes of one file.
    package static let segments = 1 << 16
}
