/// A table of compressed metadata blocks in the making.
struct MetadataWriter {
    private let encoder: BlockEncoder
    private(set) var output: [UInt8] = []
    private var pending: [UInt8] = []
    /// Where each block starts in `output`.
    private(set) var starts: [UInt64] = []

    init(_ encoder: BlockEncoder) {
        self.encoder = encoder
        pending.reserveCapacity(SquashFormat.metadataBytes * 2)
    }

    /// Where the next byte goes: its block's start in the table, and its offset within.
    var position: (block: UInt64, offset: Int) { (UInt64(output.count), pending.count) }
    var reference: UInt64 { UInt64(output.count) << 16 | UInt64(pending.count) }

    mutating func append(_ bytes: [UInt8]) {
        pending += bytes
        while pending.count >= SquashFormat.metadataBytes {
            flush(SquashFormat.metadataBytes)
        }
    }

    mutating func finish() {
        if !pending.isEmpty { flush(pending.count) }
    }

    private mutating func flush(_ count: Int) {
        starts.append(UInt64(output.count))
        let block = Array(pending[..<count])
        pending.removeFirst(count)
        var compressed = [UInt8](repeating: 0, count: count - 1)
        let n = block.withUnsafeBytes { input in
            compressed.withUnsafeMutableBytes { encoder.encode(input, into: $0) }
        }
        if let n, n > 0 {
            output.append(UInt16(n))
            output += compressed[..<n]
        } else {
            output.append(UInt16(count) | SquashFormat.storedMetadata)
            output += block
        }
    }
}

/// Extended attributes being collected: each set of a file's attributes once.
struct AttributeWriter {
    private var sets: [[UInt8]: UInt32] = [:]
    private var values: MetadataWriter
    private var descriptions: [UInt8] = []
    private var count: UInt32 = 0

    init(_ encoder: BlockEncoder) { values = MetadataWriter(encoder) }

    /// The number of the set; "none" for an empty one, or when no name has a prefix the format knows.
    mutating func number(of attributes: [SquashAttribute]) -> UInt32 {
        var bytes: [UInt8] = []
        var entries: UInt32 = 0
        for attribute in attributes.sorted(by: { $0.name.lexicographicallyPrecedes($1.name) }) {
            guard let type = SquashAttribute.prefixes.firstIndex(where: { attribute.name.starts(with: $0) }),
                attribute.value.count <= SquashFormat.attributeBytes
            else { continue }
            let name = attribute.name.dropFirst(SquashAttribute.prefixes[type].count)
            bytes.append(UInt16(type))
            bytes.append(UInt16(name.count))
            bytes += name
            bytes.append(UInt32(attribute.value.count))
            bytes += attribute.value
            entries += 1
        }
        if entries == 0 { return SquashFormat.noAttributes }
        if let known = sets[bytes] { return known }
        descriptions.append(values.reference)
        descriptions.append(entries)
        descriptions.append(UInt32(bytes.count))
        values.append(bytes)
        sets[bytes] = count
        count += 1
        return count - 1
    }

    /// The whole table as it lies at `offset` of the image, and where its head is; nil when there is none.
    mutating func finished(at offset: UInt64, _ encoder: BlockEncoder) -> (bytes: [UInt8], head: UInt64)? {
        guard count > 0 else { return nil }
        values.finish()
        var index = MetadataWriter(encoder)
        index.append(descriptions)
        index.finish()
        var bytes = values.output
        let indexStart = offset + UInt64(bytes.count)
        bytes += index.output
        let head = offset + UInt64(bytes.count)
        bytes.append(offset)
        bytes.append(count)
        bytes.append(UInt32(0))
        for start in index.starts { bytes.append(indexStart + start) }
        return (bytes, head)
    }
}
