import Glibc

/// Extended attributes are kept in sets; files with equal attributes share one.
struct AttributeIndex {
    /// Where names and values start.
    let start: UInt64
    /// The sets' descriptions.
    let sets: TableIndex

    /// Nil when the image has none.
    init?(_ reader: SquashReader) throws(ArchiveFault) {
        let table = reader.superblock.attributeTable
        guard table != SquashFormat.noTable else { return nil }
        let at = try reader.checkRange(table, 16)
        let head = try SquashReader.bytes(reader.descriptor, at: reader.base + at, count: 16)
        start = head.u64(0)
        let count = Int(head.u32(8))
        guard count > 0 else { return nil }
        sets = try TableIndex(reader, table + 16, entries: count, bytes: 16)
    }
}

/// One extended attribute of a file.
package struct SquashAttribute: Equatable, Sendable {
    /// With its prefix, as `user.mime_type`.
    package var name: [UInt8]
    package var value: [UInt8]

    package init(name: [UInt8], value: [UInt8]) {
        self.name = name
        self.value = value
    }

    static let prefixes: [[UInt8]] = [Array("user.".utf8), Array("trusted.".utf8), Array("security.".utf8)]
}

extension SquashReader {
    private enum AttributeLimit {
        /// Of one file: what listxattr(2) can return holds fewer (XATTR_LIST_MAX is 65536 bytes).
        static let perFile: UInt32 = 8192
        /// Names and values of one file together: four of the longest values there are (XATTR_SIZE_MAX).
        static let bytes = 4 * SquashFormat.attributeBytes
    }

    /// The extended attributes of a file, in the image's order.
    package func attributes(of inode: SquashInode) throws(ArchiveFault) -> [SquashAttribute] {
        guard inode.attributes != SquashFormat.noAttributes, let index = attributeIndex else { return [] }
        guard Int(inode.attributes) < index.sets.count else {
            throw ArchiveFault(.corrupt, "extended attributes that are not in their table")
        }
        var description = try index.sets.cursor(self, Int(inode.attributes))
        let entry = try description.read(16)
        guard entry.u32(8) <= AttributeLimit.perFile else {
            throw ArchiveFault(.corrupt, "\(entry.u32(8)) extended attributes on one file")
        }
        var cursor = try attributeCursor(index, entry.u64(0))
        var result: [SquashAttribute] = []
        var room = AttributeLimit.bytes
        for _ in 0..<entry.u32(8) {
            let head = try cursor.read(4)
            let type = Int(head.u16(0))
            guard type & 0xFF < SquashAttribute.prefixes.count, type <= 0x1FF else {
                throw ArchiveFault(.corrupt, "an extended attribute of type \(type)")
            }
            guard head.u16(2) <= 255 else { throw ArchiveFault(.corrupt, "the name of an extended attribute") }
            let name = SquashAttribute.prefixes[type & 0xFF] + (try cursor.read(Int(head.u16(2))))
            guard !name.contains(0) else {
                throw ArchiveFault(.corrupt, "the name of an extended attribute")
            }
            let value = try value(&cursor, index, isElsewhere: type & 0x100 != 0)
            room -= name.count + value.count
            guard room >= 0 else {
                throw ArchiveFault(.limit, "more than \(AttributeLimit.bytes) bytes of extended attributes on one file")
            }
            result.append(SquashAttribute(name: name, value: value))
        }
        return result
    }

    private func value(
        _ cursor: inout MetadataCursor, _ index: AttributeIndex, isElsewhere: Bool
    ) throws(ArchiveFault) -> [UInt8] {
        let size = Int(try cursor.read(4).u32(0))
        if isElsewhere {
            guard size == 8 else { throw ArchiveFault(.corrupt, "an extended attribute's reference") }
            var there = try attributeCursor(index, try cursor.read(8).u64(0))
            return try value(&there, index, isElsewhere: false)
        }
        guard size <= SquashFormat.attributeBytes else {
            throw ArchiveFault(.corrupt, "an extended attribute of \(size) bytes")
        }
        return try cursor.read(size)
    }

    private func attributeCursor(_ index: AttributeIndex, _ reference: UInt64) throws(ArchiveFault) -> MetadataCursor {
        let start = index.start.addingReportingOverflow(reference >> 16)
        guard !start.overflow else { throw ArchiveFault(.corrupt, "an extended attribute outside the image") }
        return MetadataCursor(self, block: start.partialValue, offset: Int(reference & 0xFFFF))
    }
}
