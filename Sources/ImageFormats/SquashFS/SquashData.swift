import Glibc

/// Where some consecutive blocks of a file lie.
final class BlockPage: Sendable {
    static let blocks = 1024
    /// As in the inode: bytes stored, with a bit for "not compressed".
    let sizes: [UInt32]
    let starts: [UInt64]
    init(sizes: [UInt32], starts: [UInt64]) {
        self.sizes = sizes
        self.starts = starts
    }
}

/// A file's block list as far as it has been read: where each of its pages begins. A block's place is the sum of
/// all before it, and the list as long as its file says; only pages read lately are kept whole.
enum BlockList {
    struct Place {
        /// Of the page's first block.
        var data: UInt64
        /// In the list; without the image's reader, which keeps what keeps these.
        var metadata: (block: UInt64, offset: Int)
    }
}

/// Block lists of files read lately.
final class FileLayoutCache: @unchecked Sendable {
    struct Key: Hashable {
        var file: UInt64
        var page: Int
    }
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var places: [UInt64: [BlockList.Place]] = [:]
    private var placeCount = 0
    private var pages: [Key: BlockPage] = [:]
    private var blockCount = 0
    private static let placeLimit = 1 << 16
    private static let blockLimit = 1 << 16

    init() { pthread_mutex_init(mutex, nil) }
    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    private func locked<R>(_ body: () -> R) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    func page(_ key: Key) -> BlockPage? { locked { pages[key] } }

    /// The last known place of `file` that is not behind page `page`, with its page's number.
    func place(_ file: UInt64, notBehind page: Int) -> (page: Int, place: BlockList.Place)? {
        locked {
            guard let known = places[file], !known.isEmpty else { return nil }
            let number = min(page, known.count - 1)
            return (number, known[number])
        }
    }

    func keep(_ page: BlockPage, _ key: Key) {
        locked {
            if blockCount + page.sizes.count > FileLayoutCache.blockLimit {
                pages = [:]
                blockCount = 0
            }
            if pages.updateValue(page, forKey: key) == nil { blockCount += page.sizes.count + 4 }
        }
    }

    /// Places are kept without gaps; one that is known already, or beyond the next, is left.
    func keep(_ place: BlockList.Place, of file: UInt64, page: Int) {
        locked {
            if placeCount >= FileLayoutCache.placeLimit {
                places = [:]
                placeCount = 0
            }
            guard page == places[file]?.count ?? 0 else { return }
            places[file, default: []].append(place)
            placeCount += 1
        }
    }
}

extension SquashReader {
    /// Fills `buffer` from `offset` of a file on; returns the bytes read, fewer than asked for at its end only.
    package func read(
        _ inode: SquashInode, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(ArchiveFault) -> Int {
        guard inode.kind == .file else { throw ArchiveFault(.corrupt, "not a regular file") }
        guard offset < inode.size else { return 0 }
        let wanted = Int(min(UInt64(buffer.count), inode.size - offset))
        let block = UInt64(blockBytes)
        let count = try blockCount(of: inode)
        var page: (number: Int, content: BlockPage)?
        var done = 0
        while done < wanted {
            let at = offset + UInt64(done)
            let number = Int(at / block)
            let within = Int(at % block)
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<wanted])
            guard number < count else {
                done += try readTail(inode, within, target)
                continue
            }
            if page?.number != number / BlockPage.blocks {
                page = (number / BlockPage.blocks, try blockPage(of: inode, number / BlockPage.blocks, count))
            }
            guard let content = page?.content else { break }
            done += try readBlock(inode, content, number, within, target)
        }
        return done
    }

    private func readBlock(
        _ inode: SquashInode, _ page: BlockPage, _ number: Int, _ within: Int,
        _ target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveFault) -> Int {
        let expected = Int(min(UInt64(blockBytes), inode.size - UInt64(number) * UInt64(blockBytes)))
        let n = min(expected - within, target.count)
        let size = page.sizes[number % BlockPage.blocks]
        let start = page.starts[number % BlockPage.blocks]
        let stored = Int(size & ~SquashFormat.storedBlock)
        let isCompressed = size & SquashFormat.storedBlock == 0
        if stored == 0 {
            memset(target.baseAddress!, 0, n)  // a hole
            return n
        }
        if within == 0, n == expected {
            let output = UnsafeMutableRawBufferPointer(rebasing: target[..<n])
            let got = try decode(at: start, stored: stored, isCompressed: isCompressed, into: output)
            guard got == expected else { throw ArchiveFault(.corrupt, "a block that is shorter than its file says") }
            return n
        }
        try withBlock(start, stored, isCompressed) { (content) throws(ArchiveFault) in
            guard content.count == expected else {
                throw ArchiveFault(.corrupt, "a block that is shorter than its file says")
            }
            memcpy(target.baseAddress!, content.baseAddress! + within, n)
        }
        return n
    }

    private func readTail(
        _ inode: SquashInode, _ within: Int, _ target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveFault) -> Int {
        let fragment = try fragment(inode.fragment)
        let tail = Int(inode.size % UInt64(blockBytes))
        let n = min(tail - within, target.count)
        guard n > 0 else { throw ArchiveFault(.corrupt, "a file with a missing end") }
        try withBlock(fragment.start, fragment.stored, fragment.isCompressed) { (content) throws(ArchiveFault) in
            guard content.count >= tail, Int(inode.offset) <= content.count - tail else {
                throw ArchiveFault(.corrupt, "a fragment that is shorter than its file says")
            }
            memcpy(target.baseAddress!, content.baseAddress! + Int(inode.offset) + within, n)
        }
        return n
    }

    private func withBlock(
        _ start: UInt64, _ stored: Int, _ isCompressed: Bool,
        _ use: (UnsafeRawBufferPointer) throws(ArchiveFault) -> Void
    ) throws(ArchiveFault) {
        let at = try checkRange(start, stored)
        try blocks.withBlock(
            at,
            load: { (output) throws(ArchiveFault) -> (count: Int, next: Int64) in
                (try self.decode(at: start, stored: stored, isCompressed: isCompressed, into: output), 0)
            },
            use: { (content, _) throws(ArchiveFault) in try use(content) })
    }

    /// Blocks of its own that a file has; what is left is in a fragment.
    private func blockCount(of inode: SquashInode) throws(ArchiveFault) -> Int {
        let block = UInt64(blockBytes)
        let hasFragment = inode.fragment != SquashFormat.noFragment
        let count = hasFragment ? inode.size / block : (inode.size - 1) / block + 1
        guard count <= SquashFormat.blocksPerFile else {
            throw ArchiveFault(.limit, "a file of more than \(SquashFormat.blocksPerFile) blocks")
        }
        return Int(count)
    }

    /// Page `number` of a file's block list, which has `count` blocks.
    private func blockPage(of inode: SquashInode, _ number: Int, _ count: Int) throws(ArchiveFault) -> BlockPage {
        let key = FileLayoutCache.Key(file: inode.reference, page: number)
        if let known = layouts.page(key) { return known }
        let beginning = BlockList.Place(data: inode.dataStart, metadata: inode.rest)
        var (at, place) = layouts.place(inode.reference, notBehind: number) ?? (0, beginning)
        while true {
            layouts.keep(place, of: inode.reference, page: at)
            let page = try readPage(&place, min(BlockPage.blocks, count - at * BlockPage.blocks))
            if at == number {
                layouts.keep(page, key)
                return page
            }
            at += 1
        }
    }

    private func readPage(_ place: inout BlockList.Place, _ count: Int) throws(ArchiveFault) -> BlockPage {
        guard place.data <= UInt64(length) else {
            throw ArchiveFault(.corrupt, "a file whose blocks lie outside the image")
        }
        var sizes: [UInt32] = []
        var starts: [UInt64] = []
        sizes.reserveCapacity(count)
        starts.reserveCapacity(count)
        var cursor = MetadataCursor(self, block: place.metadata.block, offset: place.metadata.offset)
        let bytes = try cursor.read(count * 4)
        place.metadata = (cursor.block, cursor.offset)
        for entry in 0..<count {
            let size = bytes.u32(entry * 4)
            let stored = size & ~SquashFormat.storedBlock
            guard stored <= blockBytes else { throw ArchiveFault(.corrupt, "a block of \(stored) bytes") }
            sizes.append(size)
            starts.append(place.data)
            place.data += UInt64(stored)
        }
        return BlockPage(sizes: sizes, starts: starts)
    }
}
