/// A tar header block, checked and taken apart.
struct TarHeader {
    var type: UInt8
    var size: Int64
    var entry: TarEntry
    var sparseSegments: [TarEntry.Segment] = []
    var hasMoreSegments = false
    var sparseSize: Int64 = 0

    /// `block` is 512 bytes; `position` is where it lies, for messages.
    init(_ block: UnsafeRawBufferPointer, at position: Int64) throws(ArchiveFault) {
        try TarHeader.verifyChecksum(block, at: position)
        type = block[156] == 0 ? UInt8(ascii: "0") : block[156]
        entry = TarEntry()
        let name = TarHeader.untilNUL(block[0..<100])
        let isUstar = block[257..<262].elementsEqual("ustar".utf8)
        // GNU archives keep times and sparse maps where ustar keeps the prefix ("ustar  \0").
        let isGNU = isUstar && block[262] == 0x20
        let prefix = isUstar && !isGNU ? TarHeader.untilNUL(block[345..<500]) : []
        entry.path = prefix.isEmpty ? name : prefix + [UInt8(ascii: "/")] + name
        entry.linkTarget = TarHeader.untilNUL(block[157..<257])
        func number(_ range: Range<Int>, _ field: String) throws(ArchiveFault) -> Int64 {
            guard let value = TarHeader.number(block[range]) else {
                throw ArchiveFault(.corrupt, entry: name, "the header's \(field) is not a number")
            }
            return value
        }
        size = try number(124..<136, "size")
        guard size >= 0 else { throw ArchiveFault(.corrupt, entry: name, "the header's size is negative") }
        guard size <= TarLimit.memberBytes else {
            throw ArchiveFault(.limit, entry: name, "the header's size, \(size) bytes, is no file's")
        }
        entry.mode = UInt32(truncatingIfNeeded: try number(100..<108, "mode")) & 0o7777
        entry.userID = try number(108..<116, "uid")
        entry.groupID = try number(116..<124, "gid")
        entry.modified.seconds = try number(136..<148, "mtime")
        entry.size = size
        entry.storedBytes = size
        switch type {
        case UInt8(ascii: "0"), UInt8(ascii: "7"), UInt8(ascii: "S"): entry.kind = .file
        case UInt8(ascii: "1"): entry.kind = .hardLink
        case UInt8(ascii: "2"): entry.kind = .symbolicLink
        case UInt8(ascii: "3"): entry.kind = .characterDevice
        case UInt8(ascii: "4"): entry.kind = .blockDevice
        case UInt8(ascii: "5"): entry.kind = .directory
        case UInt8(ascii: "6"): entry.kind = .fifo
        default: entry.kind = .unknown(type)
        }
        if type == UInt8(ascii: "S") {
            sparseSegments = try TarHeader.segments(block, from: 386, count: 4)
            hasMoreSegments = block[482] != 0
            sparseSize = try number(483..<495, "real size")
            guard (0...TarLimit.memberBytes).contains(sparseSize) else {
                throw ArchiveFault(.corrupt, entry: name, "the header's real size is no file's")
            }
        }
    }

    /// The sum of all bytes, the checksum field read as spaces; old writers summed signed bytes.
    private static func verifyChecksum(_ block: UnsafeRawBufferPointer, at position: Int64) throws(ArchiveFault) {
        var unsigned: Int64 = 0
        var signed: Int64 = 0
        for i in 0..<512 {
            let byte = (148..<156).contains(i) ? 0x20 : block[i]
            unsigned += Int64(byte)
            signed += Int64(Int8(bitPattern: byte))
        }
        guard let expected = number(block[148..<156]), expected == unsigned || expected == signed else {
            throw ArchiveFault(.corrupt, "not a tar header at byte \(position): its checksum is wrong")
        }
    }

    static func untilNUL(_ bytes: some Collection<UInt8>) -> [UInt8] { Array(bytes.prefix { $0 != 0 }) }

    /// Octal digits between spaces and NULs, or GNU base-256 when the first bit is set. An empty field is 0.
    static func number(_ field: Slice<UnsafeRawBufferPointer>) -> Int64? {
        guard let first = field.first else { return 0 }
        if first & 0x80 != 0 {
            // Two's complement, the marker bit aside; more than 63 bits cannot be meant.
            var value: Int64 = first & 0x40 != 0 ? -1 : 0
            value = (value << 6) | Int64(first & 0x3F)
            for byte in field.dropFirst() {
                guard value <= Int64.max >> 8, value >= Int64.min >> 8 else { return nil }
                value = (value << 8) | Int64(byte)
            }
            return value
        }
        var value: Int64 = 0
        var isStarted = false
        var isEnded = false
        for byte in field {
            switch byte {
            case 0x20, 0: if isStarted { isEnded = true }
            case 0x30...0x37:
                guard !isEnded, value <= Int64.max >> 3 else { return nil }
                isStarted = true
                value = value << 3 | Int64(byte - 0x30)
            default: return nil
            }
        }
        return value
    }

    static func segments(_ block: UnsafeRawBufferPointer, from start: Int, count: Int) throws(ArchiveFault)
        -> [TarEntry.Segment]
    {
        var result: [TarEntry.Segment] = []
        for i in 0..<count {
            let at = start + i * 24
            if block[at] == 0 { break }
            guard let offset = number(block[at..<at + 12]), let length = number(block[at + 12..<at + 24]) else {
                throw ArchiveFault(.corrupt, "a malformed sparse map")
            }
            result.append(TarEntry.Segment(offset: offset, length: length))
        }
        return result
    }
}
