// Singularity's and Apptainer's image files (the sif project's documentation of the format, version 1):
// a global header of 128 bytes, then descriptors of 585 bytes, each for one data object.

/// Finds the primary system partition of a SIF file.
package enum SIFFile {
    private static let magic = Array("SIF_MAGIC\0".utf8)
    private static let headerBytes = 128
    private static let descriptorBytes = 585
    private static let descriptorLimit: Int64 = 4096

    private enum DataType { static let partition: UInt32 = 0x4004 }
    /// Of a partition's file system.
    private enum FileSystem {
        static let squashfs: UInt32 = 1
        static let encryptedSquashfs: UInt32 = 5
        static let names: [UInt32: String] = [
            2: "ext3", 3: "a plain archive", 4: "raw data", 5: "encrypted squashfs", 6: "gocryptfs-encrypted squashfs",
        ]
    }
    private enum PartitionType { static let primarySystem: UInt32 = 2 }

    package static func isSIF(_ start: [UInt8]) -> Bool {
        start.count >= 42 && start[32..<42].elementsEqual(magic)
    }

    /// - Parameter size: bytes of the file.
    package static func payload(_ descriptor: Int32, size: Int64) throws(ArchiveFault) -> ImageFile.Payload {
        guard size >= Int64(headerBytes) else { throw ArchiveFault(.corrupt, "truncated: a SIF file without a header") }
        let header = try SquashReader.bytes(descriptor, at: 0, count: headerBytes)
        // launch[32] magic[10] version[3] arch[3] uuid[16] created modified free total offset size data…
        let total = Int64(bitPattern: header.u64(88))
        let offset = Int64(bitPattern: header.u64(96))
        guard (0...descriptorLimit).contains(total), offset >= Int64(headerBytes), offset <= size,
            total * Int64(descriptorBytes) <= size - offset
        else { throw ArchiveFault(.corrupt, "its SIF descriptors lie outside the file") }
        let table = try SquashReader.bytes(descriptor, at: offset, count: Int(total) * descriptorBytes)
        for number in 0..<Int(total) {
            let at = number * descriptorBytes
            // type[4] used[1] id[4] group[4] link[4] offset[8] size[8] size-with-padding[8] created[8] modified[8]
            // uid[8] gid[8] name[128] extra[384], without padding
            guard table.u32(at) == DataType.partition, table[at + 4] == 1 else { continue }
            let extra = at + 201
            guard table.u32(extra + 4) == PartitionType.primarySystem else { continue }
            let kind = table.u32(extra)
            guard kind == FileSystem.squashfs else {
                throw ArchiveFault(
                    .unsupported,
                    "its root file system is \(FileSystem.names[kind] ?? "of kind \(kind)"); squashfs is read")
            }
            let start = Int64(bitPattern: table.u64(at + 17))
            let length = Int64(bitPattern: table.u64(at + 25))
            guard start >= 0, length > 0, start <= size, length <= size - start else {
                throw ArchiveFault(.corrupt, "its system partition lies outside the file")
            }
            return ImageFile.Payload(offset: start, length: length)
        }
        throw ArchiveFault(.unsupported, "a SIF file without a system partition")
    }
}
