import CLinux
import Glibc
import LinuxSystem

/// Writes a squashfs 4.0 image: content as it comes, compressed by all processors; then the tables.
///
/// The same tree gives the same bytes, whatever order or machine it came from, if it comes in the same order
/// of files and with the same options. Equal files are stored once; the tails of small ones share blocks.
package final class SquashWriter {
    package struct Options: Sendable {
        package var blockBytes = 128 << 10
        package var compression = SquashCompression.zstd
        /// Of the compressor: zstd 1 to 19, gzip 1 to 9.
        package var level: Int32 = 3
        /// Seconds since 1970 of the image and, when set, of every file.
        package var fixedTime: UInt32?
        /// The image's own time when `fixedTime` is nil.
        package var created: UInt32 = 0
        package var threadCount = 2
        package init() {}
    }

    package let root: SquashNode
    let options: Options
    let descriptor: Int32
    var offset = UInt64(SquashFormat.superblockBytes)
    var contentEnd: UInt64 = 0
    private let compressor: BlockCompressor
    /// Every slot; those in flight in the order of submission.
    private var free: [CompressorSlot] = []
    private var flight: [CompressorSlot] = []
    private var current: CompressorSlot?
    private var file: SquashFileData?
    private var twins: [UInt64: SquashFileData] = [:]

    // Fragments: the one being filled, and where the others lie.
    private let tail: UnsafeMutableRawBufferPointer
    private var tailCount = 0
    var fragments: [(start: UInt64, size: UInt32)] = []
    private var tails: [TailKey: Tail] = [:]
    private var opened: (number: Int, bytes: [UInt8])?
    package private(set) var duplicateFiles = 0

    private struct TailKey: Hashable {
        var size: Int
        var hash: UInt64
    }
    private struct Tail {
        var fragment: Int
        var offset: Int
    }

    /// - Parameter descriptor: an empty file, open for reading and writing; not owned.
    package init(_ descriptor: Int32, options: Options = Options(), root: SquashNode = SquashNode(.directory)) {
        self.descriptor = descriptor
        self.options = options
        self.root = root
        let threads = max(1, options.threadCount)
        compressor = BlockCompressor(options.compression, level: options.level, threadCount: threads)
        for _ in 0..<(threads * 2 + 4) { free.append(CompressorSlot(blockBytes: options.blockBytes)) }
        tail = .allocate(byteCount: options.blockBytes, alignment: 64)
    }

    deinit {
        compressor.end()
        tail.deallocate()
    }

    // MARK: The tree

    /// Puts `node` into `directory`, in the place of what had its name.
    package func add(_ node: SquashNode, named name: [UInt8], to directory: SquashNode) throws(ArchiveFault) {
        guard !name.isEmpty, name.count <= 255, name != [46], name != [46, 46], !name.contains(0),
            !name.contains(UInt8(ascii: "/"))
        else { throw ArchiveFault(.hostile, entry: name, "not a name of a file") }
        directory.children[name] = node
    }

    // MARK: Content

    /// Begins the content of `node`; `append` follows, then `endFile`.
    package func beginFile(_ node: SquashNode) {
        let data = SquashFileData()
        node.data = data
        file = data
    }

    package func append(_ bytes: UnsafeRawBufferPointer) throws(ArchiveFault) {
        var rest = bytes
        while !rest.isEmpty {
            let slot = try currentSlot()
            let n = min(rest.count, options.blockBytes - slot.inputCount)
            memcpy(slot.input.baseAddress! + slot.inputCount, rest.baseAddress!, n)
            slot.inputCount += n
            rest = UnsafeRawBufferPointer(rebasing: rest[n...])
            if slot.inputCount == options.blockBytes { submitBlock() }
        }
    }

    /// Appends zeros: the hole of a sparse file.
    package func appendHole(_ bytes: Int64) throws(ArchiveFault) {
        var rest = bytes
        while rest > 0 {
            let slot = try currentSlot()
            let n = Int(min(rest, Int64(options.blockBytes - slot.inputCount)))
            memset(slot.input.baseAddress! + slot.inputCount, 0, n)
            slot.inputCount += n
            rest -= Int64(n)
            if slot.inputCount == options.blockBytes { submitBlock() }
        }
    }

    /// Appends an open file from where it stands to its end.
    package func append(contentsOf source: Int32) throws(ArchiveFault) {
        while true {
            let slot = try currentSlot()
            let n: Int
            do throws(SyscallError) {
                n = try checked("read") {
                    read(source, slot.input.baseAddress! + slot.inputCount, options.blockBytes - slot.inputCount)
                }
            } catch { throw ArchiveFault(error) }
            if n == 0 { return }
            slot.inputCount += n
            if slot.inputCount == options.blockBytes { submitBlock() }
        }
    }

    package func endFile() throws(ArchiveFault) {
        guard let file else { return }
        if let slot = current, slot.inputCount > 0 {
            if file.size == 0 {
                // A file of less than a block.
                file.size = UInt64(slot.inputCount)
                try placeTail(UnsafeRawBufferPointer(rebasing: slot.input[..<slot.inputCount]), file)
                slot.inputCount = 0
            } else {
                submitBlock()
            }
        }
        self.file = nil
    }

    private func currentSlot() throws(ArchiveFault) -> CompressorSlot {
        if let current { return current }
        while free.isEmpty { try emitOldest() }
        let slot = free.removeLast()
        slot.inputCount = 0
        current = slot
        return slot
    }

    private func submitBlock() {
        guard let slot = current, let file else { return }
        current = nil
        file.size += UInt64(slot.inputCount)
        slot.purpose = .file(file)
        flight.append(slot)
        compressor.submit(slot)
    }

    // MARK: Out of the compressors, in order

    private func emitOldest() throws(ArchiveFault) {
        let slot = flight.removeFirst()
        compressor.wait(for: slot)
        defer { free.append(slot) }
        let word = UInt32(slot.content.count) | (slot.isStored ? SquashFormat.storedBlock : 0)
        switch slot.purpose {
        case .fragment(let number):
            fragments[number] = (offset, word)
            try write(slot.content)
        case .file(let data):
            try emit(slot, word, data)
        }
    }

    func drain() throws(ArchiveFault) {
        while !flight.isEmpty { try emitOldest() }
    }

    /// Writes a file's next block, unless an earlier file has the same blocks up to here.
    private func emit(_ slot: CompressorSlot, _ word: UInt32, _ data: SquashFileData) throws(ArchiveFault) {
        if word == 0 { data.sparse += UInt64(slot.inputCount) }
        if data.sizes.isEmpty {
            data.firstHash = slot.hash
            data.start = offset
            if word != 0 { data.twin = twins[slot.hash] }
        }
        if let twin = data.twin {
            let number = data.sizes.count
            let place = twin.start + data.sizes.reduce(0) { $0 + UInt64($1 & ~SquashFormat.storedBlock) }
            if number < twin.sizes.count, twin.sizes[number] == word, try isEqual(slot.content, at: place) {
                data.sizes.append(word)
                data.start = twin.start
                return
            }
            // They part here: what they share is written once more, for a file's blocks lie together.
            data.twin = nil
            data.start = offset
            try copy(from: twin.start, count: place - twin.start)
        }
        if data.sizes.isEmpty, word != 0, twins[slot.hash] == nil { twins[slot.hash] = data }
        data.sizes.append(word)
        try write(slot.content)
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws(ArchiveFault) {
        var done = 0
        while done < bytes.count {
            do throws(SyscallError) {
                done += try checked("write") {
                    pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, Int(offset) + done)
                }
            } catch { throw ArchiveFault(error) }
        }
        offset += UInt64(bytes.count)
    }

    func write(_ bytes: [UInt8]) throws(ArchiveFault) {
        let failure: ArchiveFault? = bytes.withUnsafeBytes { raw in
            do throws(ArchiveFault) {
                try write(raw)
                return nil
            } catch { return error }
        }
        if let failure { throw failure }
    }

    private func isEqual(_ bytes: UnsafeRawBufferPointer, at place: UInt64) throws(ArchiveFault) -> Bool {
        if bytes.isEmpty { return true }
        let scratch = ThreadScratch.buffer(bytes.count)
        try SquashReader.read(descriptor, at: Int64(place), into: scratch)
        return memcmp(scratch.baseAddress!, bytes.baseAddress!, bytes.count) == 0
    }

    private func copy(from place: UInt64, count: UInt64) throws(ArchiveFault) {
        var done: UInt64 = 0
        while done < count {
            let scratch = ThreadScratch.buffer(Int(min(count - done, 1 << 20)))
            try SquashReader.read(descriptor, at: Int64(place + done), into: scratch)
            try write(UnsafeRawBufferPointer(scratch))
            done += UInt64(scratch.count)
        }
    }

    // MARK: Small files

    private func placeTail(_ bytes: UnsafeRawBufferPointer, _ file: SquashFileData) throws(ArchiveFault) {
        let key = TailKey(size: bytes.count, hash: BlockEncoder.hash(bytes))
        if let known = tails[key], try isEqual(bytes, known) {
            file.fragment = UInt32(known.fragment)
            file.fragmentOffset = UInt32(known.offset)
            duplicateFiles += 1
            return
        }
        if tailCount + bytes.count > tail.count { try submitFragment() }
        memcpy(tail.baseAddress! + tailCount, bytes.baseAddress!, bytes.count)
        file.fragment = UInt32(fragments.count)
        file.fragmentOffset = UInt32(tailCount)
        tails[key] = Tail(fragment: fragments.count, offset: tailCount)
        tailCount += bytes.count
    }

    /// Gives the filled fragment to the compressors, in a slot of its own: the current one is in use.
    func submitFragment() throws(ArchiveFault) {
        guard tailCount > 0 else { return }
        while free.isEmpty { try emitOldest() }
        let slot = free.removeLast()
        memcpy(slot.input.baseAddress!, tail.baseAddress!, tailCount)
        slot.inputCount = tailCount
        slot.purpose = .fragment(fragments.count)
        fragments.append((0, 0))
        flight.append(slot)
        compressor.submit(slot)
        tailCount = 0
    }

    private func isEqual(_ bytes: UnsafeRawBufferPointer, _ known: Tail) throws(ArchiveFault) -> Bool {
        if known.fragment == fragments.count {
            return memcmp(tail.baseAddress! + known.offset, bytes.baseAddress!, bytes.count) == 0
        }
        if opened?.number != known.fragment { opened = (known.fragment, try readFragment(known.fragment)) }
        guard let content = opened?.bytes, content.count >= known.offset + bytes.count else { return false }
        return content.withUnsafeBytes { memcmp($0.baseAddress! + known.offset, bytes.baseAddress!, bytes.count) == 0 }
    }

    private func readFragment(_ number: Int) throws(ArchiveFault) -> [UInt8] {
        while fragments[number].size == 0 { try emitOldest() }
        let place = fragments[number]
        let stored = try SquashReader.bytes(
            descriptor, at: Int64(place.start), count: Int(place.size & ~SquashFormat.storedBlock))
        if place.size & SquashFormat.storedBlock != 0 { return stored }
        let decoder = try BlockDecoder(options.compression)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: options.blockBytes, alignment: 64)
        defer { buffer.deallocate() }
        let result: Result<Int, ArchiveFault> = stored.withUnsafeBytes { raw in
            do throws(ArchiveFault) { return .success(try decoder.decode(raw, into: buffer)) } catch {
                return .failure(error)
            }
        }
        return Array(buffer[..<(try result.get())])
    }
}
