import Glibc
import LinuxSystem

/// A file that holds a whole root file system as a squashfs image.
package enum ImageFile {
    package struct Payload: Equatable, Sendable {
        /// Bytes from the file's start.
        package var offset: Int64
        package var length: Int64
    }

    /// The first bytes that `isImage` wants to see.
    package static let magicBytes = 64

    /// Whether a file that begins so is a squashfs image or a SIF file.
    package static func isImage(_ start: [UInt8]) -> Bool {
        (start.count >= 4 && start.u32(0) == SquashFormat.magic) || SIFFile.isSIF(start)
    }

    /// Where in the open file the squashfs image lies.
    package static func payload(_ descriptor: Int32) throws(ArchiveFault) -> Payload {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw ArchiveFault(SyscallError("fstat")) }
        guard status.isFile else { throw ArchiveFault(.corrupt, "not a regular file") }
        let size = Int64(status.st_size)
        let start = try SquashReader.bytes(descriptor, at: 0, count: Int(min(size, Int64(magicBytes))))
        if SIFFile.isSIF(start) { return try SIFFile.payload(descriptor, size: size) }
        return Payload(offset: 0, length: size)
    }
}
