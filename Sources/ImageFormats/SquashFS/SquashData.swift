import Glibc

/// Where a file's blocks lie.
final class FileLayout: Sendable {
    /// As in the inode: bytes stored, with a bit for "not compressed".
    let sizes: [UInt32]
    let starts: [UInt64]
    init(sizes: [UInt32], starts: [UInt64]) {
        self.sizes = sizes
        self.starts = starts
    }
}

/// Layouts of files read lately: a block's place is the sum of all before it.
final class FileLayoutCache: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var known: [UInt64: FileLayout] = [:]
    private var blockCount = 0
    private static let limit = 65536

    init() { pthread_mutex_init(mutex, nil) }
    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    subscript(reference: UInt64) -> FileLayout? {
        get {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            return known[reference]
        }
        set {
            guard let newValue else { return }
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            if blockCount + newValue.sizes.count > FileLayoutCache.limit {
                known = [:]
                blockCount = 0
            }
            known[reference] = newValue
            blockCount += newValue.sizes.count + 4
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
        let layout = try layout(of: inode)
        let block = UInt64(blockBytes)
        var done = 0
        while done < wanted {
            let at = offset + UInt64(done)
            let number = Int(at / block)
            let within = Int(at % block)
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<wanted])
            done +=
                number < layout.sizes.count
                ? try readBlock(inode, layout, number, within, target) : try readTail(inode, within, target)
        }
        return done
    }

    private func readBlock(
        _ inode: SquashInode, _ layout: FileLayout, _ number: Int, _ within: Int,
        _ target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveFault) -> Int {
        let expected = Int(min(UInt64(blockBytes), inode.size - UInt64(number) * UInt64(blockBytes)))
        let n = min(expected - within, target.count)
        let size = layout.sizes[number]
        let stored = Int(size & ~SquashFormat.storedBlock)
        let isCompressed = size & SquashFormat.storedBlock == 0
        if stored == 0 {
            memset(target.baseAddress!, 0, n)  // a hole
            return n
        }
        if within == 0, n == expected {
            let output = UnsafeMutableRawBufferPointer(rebasing: target[..<n])
            let got = try decode(at: layout.starts[number], stored: stored, isCompressed: isCompressed, into: output)
            guard got == expected else { throw ArchiveFault(.corrupt, "a block that is shorter than its file says") }
            return n
        }
        try withBlock(layout.starts[number], stored, isCompressed) { (content) throws(ArchiveFault) in
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

    /// A file's block list, read to its end once. Its length is bounded by the inode table it stands in.
    private func layout(of inode: SquashInode) throws(ArchiveFault) -> FileLayout {
        let hasFragment = inode.fragment != SquashFormat.noFragment
        let block = UInt64(blockBytes)
        let count = hasFragment ? inode.size / block : (inode.size - 1) / block + 1
        if count == 0 { return SquashReader.emptyLayout }
        if let known = layouts[inode.reference] { return known }
        var sizes: [UInt32] = []
        var starts: [UInt64] = []
        var cursor = MetadataCursor(self, block: inode.rest.block, offset: inode.rest.offset)
        var start = inode.dataStart
        guard start <= UInt64(length) else { throw ArchiveFault(.corrupt, "a file whose blocks lie outside the image") }
        var rest = count
        while rest > 0 {
            let n = Int(min(rest, 1024))
            let bytes = try cursor.read(n * 4)
            for entry in 0..<n {
                let size = bytes.u32(entry * 4)
                let stored = UInt64(size & ~SquashFormat.storedBlock)
                guard stored <= block else { throw ArchiveFault(.corrupt, "a block of \(stored) bytes") }
                sizes.append(size)
                starts.append(start)
                start += stored
            }
            guard start <= UInt64(length) else {
                throw ArchiveFault(.corrupt, "a file whose blocks lie outside the image")
            }
            rest -= UInt64(n)
        }
        let layout = FileLayout(sizes: sizes, starts: starts)
        layouts[inode.reference] = layout
        return layout
    }
    private static let emptyLayout = FileLayout(sizes: [], starts: [])
}
