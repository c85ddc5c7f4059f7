import CCompression
import Glibc

/// A block on its way through the compressors.
final class CompressorSlot {
    let input: UnsafeMutableRawBufferPointer
    let output: UnsafeMutableRawBufferPointer
    var inputCount = 0
    /// 0 for a block of zeros.
    var outputCount = 0
    var isStored = false
    /// Of what will be written.
    var hash: UInt64 = 0
    var isDone = false
    var purpose = Purpose.file(SquashFileData())

    enum Purpose {
        case file(SquashFileData)
        /// Fragment number.
        case fragment(Int)
    }

    init(blockBytes: Int) {
        input = .allocate(byteCount: blockBytes, alignment: 64)
        output = .allocate(byteCount: blockBytes, alignment: 64)
    }
    deinit {
        input.deallocate()
        output.deallocate()
    }

    var content: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            rebasing: isStored
                ? UnsafeRawBufferPointer(input)[..<inputCount] : UnsafeRawBufferPointer(output)[..<outputCount])
    }
}

/// Compresses blocks in threads; they come back in the order in which they were given.
final class BlockCompressor: @unchecked Sendable {
    private let level: Int32
    private let compression: SquashCompression
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var threads: [pthread_t] = []
    private var waiting: [CompressorSlot] = []
    private var isEnding = false

    init(_ compression: SquashCompression, level: Int32, threadCount: Int) {
        self.compression = compression
        self.level = level
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
        for _ in 0..<threadCount {
            var thread = pthread_t()
            pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<BlockCompressor>.fromOpaque(argument!).takeUnretainedValue().work()
                    return nil
                }, Unmanaged.passUnretained(self).toOpaque())
            threads.append(thread)
        }
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
        changed.deallocate()
    }

    /// Ends the threads; must be called once, before this goes.
    func end() {
        pthread_mutex_lock(mutex)
        isEnding = true
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }

    func submit(_ slot: CompressorSlot) {
        pthread_mutex_lock(mutex)
        slot.isDone = false
        waiting.append(slot)
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }

    func wait(for slot: CompressorSlot) {
        pthread_mutex_lock(mutex)
        while !slot.isDone { pthread_cond_wait(changed, mutex) }
        pthread_mutex_unlock(mutex)
    }

    private func work() {
        let encoder = BlockEncoder(compression, level: level)
        pthread_mutex_lock(mutex)
        while true {
            if waiting.isEmpty {
                if isEnding { break }
                pthread_cond_wait(changed, mutex)
                continue
            }
            let slot = waiting.removeFirst()
            pthread_mutex_unlock(mutex)
            encoder.encode(slot)
            pthread_mutex_lock(mutex)
            slot.isDone = true
            pthread_cond_broadcast(changed)
        }
        pthread_mutex_unlock(mutex)
    }
}

/// One thread's compressor. The same input always gives the same output.
final class BlockEncoder {
    private let compression: SquashCompression
    private let level: Int32
    private let context: OpaquePointer?

    init(_ compression: SquashCompression, level: Int32) {
        self.compression = compression
        self.level = level
        context = compression == .zstd ? ZSTD_createCCtx() : nil
    }
    deinit { if let context { ZSTD_freeCCtx(context) } }

    func encode(_ slot: CompressorSlot) {
        let input = UnsafeRawBufferPointer(rebasing: slot.input[..<slot.inputCount])
        if case .file = slot.purpose, BlockEncoder.isZero(input) {
            slot.outputCount = 0
            slot.isStored = false
            slot.hash = 0
            return
        }
        // What does not shrink is stored: reading it back then costs a copy.
        let n = encode(input, into: UnsafeMutableRawBufferPointer(rebasing: slot.output[..<(slot.inputCount - 1)]))
        slot.isStored = n == nil
        slot.outputCount = n ?? slot.inputCount
        slot.hash = BlockEncoder.hash(slot.content)
    }

    /// Bytes written; nil when they do not fit.
    func encode(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> Int? {
        if compression == .zstd {
            let n = ZSTD_compressCCtx(
                context, output.baseAddress, output.count, input.baseAddress, input.count, level)
            return ZSTD_isError(n) == 0 ? Int(n) : nil
        }
        var length = uLongf(output.count)
        let result = compress2(
            output.baseAddress?.assumingMemoryBound(to: UInt8.self), &length,
            input.baseAddress?.assumingMemoryBound(to: UInt8.self), uLong(input.count), level)
        return result == Z_OK ? Int(length) : nil
    }

    static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 8 else { return bytes.allSatisfy { $0 == 0 } }
        return bytes.u64(0) == 0 && memcmp(bytes.baseAddress!, bytes.baseAddress! + 8, bytes.count - 8) == 0
    }

    /// Only a hint of equality: whoever acts on it compares the bytes.
    static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash = UInt64(bytes.count) &* 0x9E37_79B9_7F4A_7C15
        var at = 0
        while at + 8 <= bytes.count {
            hash = (hash ^ bytes.u64(at)) &* 0xFF51_AFD7_ED55_8CCD
            hash ^= hash >> 32
            at += 8
        }
        while at < bytes.count {
            hash = (hash ^ UInt64(bytes[at])) &* 0x0000_0100_0000_01B3
            at += 1
        }
        return hash
    }
}
