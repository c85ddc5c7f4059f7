import Glibc

/// Reads a tar archive in one pass: ustar, GNU long names and sparse files, pax headers.
package final class TarReader {
    package static let blockBytes = 512

    private let source: any ChunkSource
    private var chunk = UnsafeRawBufferPointer(start: nil, count: 0)
    private let scratch: UnsafeMutableRawBufferPointer
    /// Data of the current entry not yet read, and the padding behind it.
    private var unreadData: Int64 = 0
    private var unreadPadding: Int64 = 0
    private var globalHeader = PaxHeader()
    private var isFinished = false
    /// Bytes of the archive consumed so far; after `next()`, where the entry's data starts.
    package private(set) var position: Int64 = 0

    package init(_ source: any ChunkSource) {
        self.source = source
        scratch = .allocate(byteCount: TarReader.blockBytes, alignment: 16)
    }

    deinit { scratch.deallocate() }

    /// Whether an archive that is not empty begins with `block`.
    package static func mayBegin(_ block: [UInt8]) throws(ArchiveFault) -> Bool {
        guard block.count == blockBytes, block.contains(where: { $0 != 0 }) else { return block.isEmpty }
        var isHeader = false
        block.withUnsafeBytes { isHeader = (try? TarHeader($0, at: 0)) != nil }
        return isHeader
    }

    /// The next member; data of the previous one that was not read is passed over. Nil at the end.
    package func next() throws(ArchiveFault) -> TarEntry? {
        var local = PaxHeader()
        var extended = 0
        while true {
            try finishEntry()
            extended += 1
            guard extended <= TarLimit.extendedHeaders else {
                throw ArchiveFault(.limit, "more than \(TarLimit.extendedHeaders) extended headers before one entry")
            }
            guard let header = try nextHeader() else { return nil }
            unreadData = header.size
            unreadPadding = TarReader.padding(header.size)
            switch header.type {
            case UInt8(ascii: "x"): try local.merge(try readExtended())
            case UInt8(ascii: "g"): try globalHeader.merge(try readExtended())
            case UInt8(ascii: "L"): local.path = TarHeader.untilNUL(try readExtended())
            case UInt8(ascii: "K"): local.linkPath = TarHeader.untilNUL(try readExtended())
            case UInt8(ascii: "V"), UInt8(ascii: "M"): continue  // GNU volume label; continued file
            default: return try entry(header, local)
            }
        }
    }

    /// Lends the data of the current entry piece by piece.
    package func readData(_ body: (UnsafeRawBufferPointer) throws(ArchiveFault) -> Void) throws(ArchiveFault) {
        while unreadData > 0 { try body(try someData()) }
    }

    private func someData(atMost limit: Int64 = .max) throws(ArchiveFault) -> UnsafeRawBufferPointer {
        try needChunk()
        let n = Int(min(Int64(chunk.count), unreadData, limit))
        let piece = UnsafeRawBufferPointer(rebasing: chunk[..<n])
        advance(n)
        unreadData -= Int64(n)
        return piece
    }

    private func entry(_ header: TarHeader, _ local: PaxHeader) throws(ArchiveFault) -> TarEntry {
        var entry = header.entry
        for pax in [globalHeader, local] { pax.apply(to: &entry) }
        if let size = local.size ?? globalHeader.size {
            // The pax size replaces a header field that could not hold it.
            unreadData = size
            unreadPadding = TarReader.padding(size)
            entry.storedBytes = size
            entry.size = size
        }
        if header.type == UInt8(ascii: "S") { try readGNUSparse(header, &entry) }
        if local.sparse.isPresent {
            try local.sparse.apply(to: &entry) { () throws(ArchiveFault) in try self.readSparseMap() }
        }
        entry.storedBytes = unreadData
        switch entry.kind {
        case .file, .unknown: break
        default:
            // Only files carry data, though old writers note a size for links and directories
            // without storing any (POSIX ustar, "size").
            entry.size = 0
            if entry.kind != .file, local.size == nil, entry.kind != .hardLink || header.size > 0 {
                unreadData = 0
                unreadPadding = 0
            }
        }
        if entry.kind == .file, entry.path.last == UInt8(ascii: "/"), header.type != UInt8(ascii: "S") {
            entry.kind = .directory  // how pre-POSIX tar writes one
        }
        return entry
    }

    private static func padding(_ size: Int64) -> Int64 { (512 - size % 512) % 512 }

    private func readExtended() throws(ArchiveFault) -> [UInt8] {
        guard unreadData <= TarLimit.extendedHeaderBytes else {
            throw ArchiveFault(.limit, "an extended header of \(unreadData) bytes is too large")
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(unreadData))
        try readData { (piece) throws(ArchiveFault) in bytes.append(contentsOf: piece) }
        return bytes
    }

    // MARK: Blocks

    private func needChunk() throws(ArchiveFault) {
        while chunk.isEmpty {
            guard let next = try source.nextChunk() else {
                throw ArchiveFault(.corrupt, "truncated: the archive ends in the middle of an entry")
            }
            chunk = next
        }
    }

    private func advance(_ count: Int) {
        chunk = UnsafeRawBufferPointer(rebasing: chunk[count...])
        position += Int64(count)
    }

    private func finishEntry() throws(ArchiveFault) {
        var rest = unreadData + unreadPadding
        unreadData = 0
        unreadPadding = 0
        while rest > 0 {
            if chunk.isEmpty {
                let skipped = try source.skip(rest)
                position += skipped
                rest -= skipped
                if rest == 0 { break }
                if skipped > 0 { throw ArchiveFault(.corrupt, "truncated: the archive ends in the middle of an entry") }
            }
            try needChunk()
            let n = Int(min(Int64(chunk.count), rest))
            advance(n)
            rest -= Int64(n)
        }
    }

    /// The next block where it lies, or put together in `scratch`; nil at a clean end.
    private func nextBlock() throws(ArchiveFault) -> UnsafeRawBufferPointer? {
        if chunk.isEmpty {
            guard let next = try source.nextChunk() else { return nil }
            chunk = next
        }
        if chunk.count >= 512 {
            let block = UnsafeRawBufferPointer(rebasing: chunk[..<512])
            advance(512)
            return block
        }
        var filled = 0
        while filled < 512 {
            try needChunk()
            let n = min(512 - filled, chunk.count)
            UnsafeMutableRawBufferPointer(rebasing: scratch[filled..<filled + n])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: chunk[..<n]))
            advance(n)
            filled += n
        }
        return UnsafeRawBufferPointer(scratch)
    }

    private func nextHeader() throws(ArchiveFault) -> TarHeader? {
        guard !isFinished else { return nil }
        guard let block = try nextBlock() else { return nil }
        if block.allSatisfy({ $0 == 0 }) {
            isFinished = true
            return nil
        }
        return try TarHeader(block, at: position - 512)
    }

    // MARK: Files with holes

    private func readGNUSparse(_ header: TarHeader, _ entry: inout TarEntry) throws(ArchiveFault) {
        var segments = header.sparseSegments
        var more = header.hasMoreSegments
        while more {
            guard let block = try nextBlock() else {
                throw ArchiveFault(.corrupt, entry: entry.path, "truncated sparse map")
            }
            segments += try TarHeader.segments(block, from: 0, count: 21)
            more = block[504] != 0
            guard segments.count <= TarLimit.segments else {
                throw ArchiveFault(.limit, entry: entry.path, "a sparse file with too many holes")
            }
        }
        entry.segments = segments
        entry.size = header.sparseSize
        entry.kind = .file
    }

    /// The map of a pax 1.0 sparse file: decimal lines in front of the data, padded to a block.
    private func readSparseMap() throws(ArchiveFault) -> [TarEntry.Segment] {
        var used = 0
        var pending: [UInt8] = []
        func nextNumber() throws(ArchiveFault) -> Int64 {
            while true {
                if let newline = pending.firstIndex(of: 10) {
                    let number = Int64(String(decoding: pending[..<newline], as: UTF8.self))
                    pending.removeSubrange(...newline)
                    guard let number, number >= 0 else { break }
                    return number
                }
                guard unreadData >= 512, pending.count < 512 else { break }
                var block: [UInt8] = []
                while block.count < 512 { block.append(contentsOf: try someData(atMost: Int64(512 - block.count))) }
                used += 1
                pending += block
            }
            throw ArchiveFault(.corrupt, "a malformed sparse map")
        }
        let count = try nextNumber()
        guard count <= TarLimit.segments else { throw ArchiveFault(.limit, "a sparse file with too many holes") }
        var segments: [TarEntry.Segment] = []
        for _ in 0..<count {
            let offset = try nextNumber()
            segments.append(TarEntry.Segment(offset: offset, length: try nextNumber()))
        }
        return segments
    }
}
