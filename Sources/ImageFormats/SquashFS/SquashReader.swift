import Glibc
import LinuxSystem

/// Reads a squashfs 4.0 image, or the part of a file that is one.
///
/// The image may be anybody's: every number in it is checked before it is used, nothing is sized by a
/// number alone, and what is wrong is an `ArchiveFault`. May be used by several threads at once.
package final class SquashReader: @unchecked Sendable {
    let descriptor: Int32
    /// Where the image starts in the file.
    let base: Int64
    /// Bytes of it.
    let length: Int64
    let superblock: SquashSuperblock
    let decoder: BlockDecoder
    let metadata: BlockCache
    let blocks: BlockCache
    private var identities: [UInt32] = []
    private var fragments = TableIndex.empty
    private(set) var attributeIndex: AttributeIndex?
    let layouts = FileLayoutCache()
    let directories = DirectoryCache()

    /// Threads that may read at once.
    package static let threads = 16

    /// - Parameters:
    ///   - descriptor: an open file, read with pread(2); not owned.
    ///   - offset: where the image starts.
    ///   - length: bytes from there on that belong to it; the image may be shorter.
    package init(_ descriptor: Int32, offset: Int64 = 0, length: Int64) throws(ArchiveFault) {
        self.descriptor = descriptor
        base = offset
        guard length >= Int64(SquashFormat.superblockBytes) else {
            throw ArchiveFault(.corrupt, "not a squashfs image: it has \(length) bytes only")
        }
        superblock = try SquashSuperblock(
            try SquashReader.bytes(descriptor, at: offset, count: SquashFormat.superblockBytes))
        guard superblock.bytesUsed <= UInt64(length) else {
            throw ArchiveFault(
                .corrupt, "truncated: the image has \(superblock.bytesUsed) bytes, the file only \(length)")
        }
        self.length = Int64(superblock.bytesUsed)
        decoder = try BlockDecoder(superblock.compression)
        metadata = BlockCache(slotBytes: SquashFormat.metadataBytes, slotCount: 256)
        let blockBytes = Int(superblock.blockBytes)
        blocks = BlockCache(
            slotBytes: blockBytes, slotCount: max(SquashReader.threads + 2, min(48, (6 << 20) / blockBytes)))
        try checkTables()
        try readIdentities()
        fragments = try TableIndex(self, superblock.fragmentTable, entries: Int(superblock.fragmentCount), bytes: 16)
        attributeIndex = try AttributeIndex(self)
    }

    private func checkTables() throws(ArchiveFault) {
        let all = [superblock.inodeTable, superblock.directoryTable, superblock.idTable]
        guard all.allSatisfy({ $0 >= 96 && $0 < UInt64(length) }), superblock.inodeTable < superblock.directoryTable
        else { throw ArchiveFault(.corrupt, "its tables lie outside the image") }
        guard superblock.root >> 16 < UInt64(length) else {
            throw ArchiveFault(.corrupt, "its root directory lies outside the image")
        }
    }

    // MARK: Bytes

    static func read(
        _ descriptor: Int32, at offset: Int64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(ArchiveFault) {
        var filled = 0
        while filled < buffer.count {
            let n: Int
            do throws(SyscallError) {
                n = try checked("read") {
                    pread(descriptor, buffer.baseAddress! + filled, buffer.count - filled, Int(offset) + filled)
                }
            } catch { throw ArchiveFault(error) }
            guard n > 0 else { throw ArchiveFault(.corrupt, "truncated: the file ends before its content does") }
            filled += n
        }
    }

    static func bytes(_ descriptor: Int32, at offset: Int64, count: Int) throws(ArchiveFault) -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 8)
        defer { buffer.deallocate() }
        try read(descriptor, at: offset, into: buffer)
        return Array(buffer)
    }

    /// `count` bytes at `offset` of the image must exist.
    func checkRange(_ offset: UInt64, _ count: Int) throws(ArchiveFault) -> Int64 {
        guard count >= 0, offset < UInt64(length), UInt64(length) - offset >= UInt64(count) else {
            throw ArchiveFault(.corrupt, "a block lies outside the image")
        }
        return Int64(offset)
    }

    /// Decompresses `stored` bytes at `offset` into `output`; returns the bytes written.
    func decode(
        at offset: UInt64, stored: Int, isCompressed: Bool, into output: UnsafeMutableRawBufferPointer
    ) throws(ArchiveFault) -> Int {
        let at = try checkRange(offset, stored)
        guard stored > 0, stored <= output.count else {
            throw ArchiveFault(.corrupt, "a block of \(stored) bytes, where a block holds 1 to \(output.count)")
        }
        if !isCompressed {
            try SquashReader.read(
                descriptor, at: base + at, into: UnsafeMutableRawBufferPointer(rebasing: output[..<stored]))
            return stored
        }
        let scratch = ThreadScratch.buffer(stored)
        try SquashReader.read(descriptor, at: base + at, into: scratch)
        return try decoder.decode(UnsafeRawBufferPointer(scratch), into: output)
    }

    // MARK: Tables

    private func readIdentities() throws(ArchiveFault) {
        let count = Int(superblock.idCount)
        guard count > 0 else { throw ArchiveFault(.corrupt, "it has no table of owners") }
        let index = try TableIndex(self, superblock.idTable, entries: count, bytes: 4)
        while identities.count < count {
            var cursor = try index.cursor(self, identities.count)
            let wanted = min(index.entriesPerBlock, count - identities.count)
            let bytes = try cursor.read(wanted * 4)
            for entry in 0..<wanted { identities.append(bytes.u32(entry * 4)) }
        }
    }

    func identity(_ index: UInt16) throws(ArchiveFault) -> UInt32 {
        guard Int(index) < identities.count else { throw ArchiveFault(.corrupt, "an owner that is not in its table") }
        return identities[Int(index)]
    }

    struct Fragment {
        var start: UInt64
        var stored: Int
        var isCompressed: Bool
    }

    func fragment(_ number: UInt32) throws(ArchiveFault) -> Fragment {
        guard Int(number) < fragments.count else { throw ArchiveFault(.corrupt, "a fragment that is not in its table") }
        var cursor = try fragments.cursor(self, Int(number))
        let entry = try cursor.read(16)
        let size = entry.u32(8)
        return Fragment(
            start: entry.u64(0), stored: Int(size & ~SquashFormat.storedBlock),
            isCompressed: size & SquashFormat.storedBlock == 0)
    }

    // MARK: What the image says of itself

    package var blockBytes: Int { Int(superblock.blockBytes) }
    package var compression: SquashCompression { superblock.compression }
    package var inodeCount: Int { Int(superblock.inodeCount) }
    package var bytesUsed: Int64 { length }
    package var modified: UInt32 { superblock.modified }
    package var hasAttributes: Bool { attributeIndex != nil }
    package var rootReference: UInt64 { superblock.root }
}

/// A table whose entries lie in metadata blocks that a list of places names. The list stays in the file: an
/// image says how long it is, and a file with holes makes that cost nothing but memory here.
struct TableIndex {
    static let empty = TableIndex()

    let count: Int
    let entriesPerBlock: Int
    private let entryBytes: Int
    private let start: Int64

    private init() { (count, entriesPerBlock, entryBytes, start) = (0, 1, 1, 0) }

    /// - Parameter start: of the list, in the image.
    init(_ reader: SquashReader, _ start: UInt64, entries: Int, bytes: Int) throws(ArchiveFault) {
        guard entries > 0, start != SquashFormat.noTable else {
            self = .empty
            return
        }
        count = entries
        entryBytes = bytes
        entriesPerBlock = SquashFormat.metadataBytes / bytes
        self.start = try reader.checkRange(start, ((entries - 1) / entriesPerBlock + 1) * 8)
    }

    /// At entry `number`, which must be less than `count`.
    func cursor(_ reader: SquashReader, _ number: Int) throws(ArchiveFault) -> MetadataCursor {
        let place = reader.base + start + Int64(number / entriesPerBlock) * 8
        let block = try SquashReader.bytes(reader.descriptor, at: place, count: 8).u64(0)
        return MetadataCursor(reader, block: block, offset: number % entriesPerBlock * entryBytes)
    }
}

/// A place in a table of metadata blocks, read onwards from there.
struct MetadataCursor {
    private let reader: SquashReader
    private(set) var block: UInt64
    private(set) var offset: Int

    init(_ reader: SquashReader, block: UInt64, offset: Int) {
        self.reader = reader
        self.block = block
        self.offset = offset
    }

    mutating func read(_ count: Int) throws(ArchiveFault) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let result: Result<Void, ArchiveFault> = bytes.withUnsafeMutableBytes { buffer in
            do throws(ArchiveFault) {
                try fill(buffer)
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
        return bytes
    }

    mutating func fill(_ buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) {
        var filled = 0
        while filled < buffer.count {
            let here = offset
            let (copied, next) = try reader.withMetadata(block) {
                (content, next) throws(ArchiveFault) -> (Int, Int64) in
                guard here <= content.count else { throw ArchiveFault(.corrupt, "a place outside its metadata block") }
                let n = min(content.count - here, buffer.count - filled)
                if n > 0 { memcpy(buffer.baseAddress! + filled, content.baseAddress! + here, n) }
                return (n, here + n == content.count ? next : -1)
            }
            filled += copied
            offset += copied
            if next >= 0 {
                block = UInt64(next)
                offset = 0
            }
        }
    }
}

extension SquashReader {
    /// Lends the decompressed metadata block at `start`, and says where the next one starts.
    func withMetadata<R>(
        _ start: UInt64, _ use: (UnsafeRawBufferPointer, Int64) throws(ArchiveFault) -> R
    ) throws(ArchiveFault) -> R {
        let at = try checkRange(start, 3)
        return try metadata.withBlock(
            at,
            load: { (output) throws(ArchiveFault) -> (count: Int, next: Int64) in
                // Header and block in one read.
                let available = min(Int64(SquashFormat.metadataBytes + 2), self.length - at)
                let scratch = ThreadScratch.buffer(Int(available))
                try SquashReader.read(self.descriptor, at: self.base + at, into: scratch)
                let raw = UnsafeRawBufferPointer(scratch)
                let stored = Int(raw.u16(0) & ~SquashFormat.storedMetadata)
                guard stored > 0, stored <= SquashFormat.metadataBytes, stored + 2 <= raw.count else {
                    throw ArchiveFault(.corrupt, "a metadata block of \(stored) bytes")
                }
                let content = UnsafeRawBufferPointer(rebasing: raw[2..<(2 + stored)])
                let next = at + 2 + Int64(stored)
                if raw.u16(0) & SquashFormat.storedMetadata != 0 {
                    output.copyMemory(from: content)
                    return (stored, next)
                }
                let count = try self.decoder.decode(content, into: output)
                guard count > 0 else { throw ArchiveFault(.corrupt, "an empty metadata block") }
                return (count, next)
            }, use: use)
    }
}

/// One buffer per thread for compressed bytes: the memory of a block is not asked for anew each time.
enum ThreadScratch {
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key) { free($0) }
        return key
    }()

    /// Valid until this thread's next call.
    static func buffer(_ count: Int) -> UnsafeMutableRawBufferPointer {
        // The capacity stands in front of the bytes.
        var memory = pthread_getspecific(key)
        let known = memory?.load(as: Int.self) ?? 0
        if known < count {
            let capacity = max(count, 16 << 10)
            memory = realloc(memory, capacity + 64)
            guard let memory else { fatalError("out of memory") }
            memory.storeBytes(of: capacity, as: Int.self)
            pthread_setspecific(key, memory)
        }
        return UnsafeMutableRawBufferPointer(start: memory! + 64, count: count)
    }
}
