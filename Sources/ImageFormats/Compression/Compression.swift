import CCompression

/// How bytes are compressed, told by their first bytes; media types and file names are not believed.
package enum Compression: String, Sendable {
    case none, gzip, zstd

    /// The first bytes of a stream that `detect` wants to see.
    package static let magicBytes = 6

    /// Throws for compressions that are recognised and not read here.
    package static func detect(_ start: some Collection<UInt8>) throws(ArchiveFault) -> Compression {
        let bytes = Array(start.prefix(magicBytes))
        func begins(_ magic: [UInt8]) -> Bool { bytes.starts(with: magic) }
        if begins([0x1F, 0x8B]) { return .gzip }
        // RFC 8878: a frame, or a skippable frame in front of it (0x184D2A50 to 5F).
        if begins([0x28, 0xB5, 0x2F, 0xFD]) { return .zstd }
        if bytes.count >= 4, bytes[0] & 0xF0 == 0x50, bytes[1...3].elementsEqual([0x2A, 0x4D, 0x18]) { return .zstd }
        if begins(Array("BZh".utf8)) {
            throw ArchiveFault(.unsupported, "bzip2 compression is not read; decompress it with 'bunzip2' first")
        }
        if begins([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]) {
            throw ArchiveFault(.unsupported, "xz compression is not read; decompress it with 'unxz' first")
        }
        return .none
    }

    /// Compressed bytes below which a process of its own costs more than it saves.
    private static let leastForProcess: Int64 = 128 << 10

    /// The plain bytes behind `stream`.
    ///
    /// - Parameter bytes: how many compressed ones there are, where that is known.
    package func decompressing(
        _ stream: any ByteStream, bytes: Int64 = .max
    ) throws(ArchiveFault) -> any ByteStream {
        switch self {
        case .none: return stream
        case .gzip:
            if bytes >= Compression.leastForProcess, let sealed = SealedInflate(stream) { return sealed }
            return try GunzipStream(stream)
        case .zstd: return try UnzstdStream(stream)
        }
    }
}

/// Inflates gzip members one after the other (RFC 1952), each checked against its CRC and length, with zlib:
/// what is small, and everything where `SealedInflate` cannot be had.
package final class GunzipStream: ByteStream {
    private let input: any ByteStream
    private let buffer: UnsafeMutableRawBufferPointer
    private let state: UnsafeMutablePointer<z_stream>
    private enum Position { case inMember, betweenMembers, finished }
    private var position = Position.inMember

    package init(_ input: any ByteStream) throws(ArchiveFault) {
        self.input = input
        buffer = .allocate(byteCount: 256 << 10, alignment: 64)
        state = .allocate(capacity: 1)
        state.initialize(to: z_stream())
        // 15 bits of window, +16: a gzip wrapper and no other (zlib.h).
        let result = inflateInit2_(state, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard result == Z_OK else { throw ArchiveFault(.system, "inflateInit2: zlib error \(result)") }
    }

    deinit {
        inflateEnd(state)
        state.deallocate()
        buffer.deallocate()
    }

    private func refill() throws(ArchiveFault) -> Bool {
        let n = try input.read(into: buffer)
        state.pointee.next_in = buffer.baseAddress!.assumingMemoryBound(to: UInt8.self)
        state.pointee.avail_in = UInt32(n)
        return n > 0
    }

    package func read(into output: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        let wanted = min(output.count, Int(Int32.max))
        state.pointee.next_out = output.baseAddress!.assumingMemoryBound(to: UInt8.self)
        state.pointee.avail_out = UInt32(wanted)
        while position != .finished, state.pointee.avail_out > 0 {
            if state.pointee.avail_in == 0, try !refill() {
                guard position == .betweenMembers else {
                    throw ArchiveFault(.corrupt, "truncated: gzip data ends in the middle")
                }
                position = .finished
                break
            }
            if position == .betweenMembers {
                // Zero padding after the last member is what tape tools leave; gzip(1) accepts it too.
                if state.pointee.next_in.pointee == 0 {
                    state.pointee.next_in += 1
                    state.pointee.avail_in -= 1
                    continue
                }
                inflateReset(state)
                position = .inMember
            }
            switch inflate(state, Z_NO_FLUSH) {
            case Z_OK, Z_BUF_ERROR: break
            case Z_STREAM_END: position = .betweenMembers
            case let error:
                let said = state.pointee.msg.map { String(cString: $0) } ?? "error \(error)"
                throw ArchiveFault(.corrupt, "corrupt gzip data: \(said)")
            }
        }
        return wanted - Int(state.pointee.avail_out)
    }
}

/// Decompresses zstd frames, skippable ones passed over (RFC 8878).
package final class UnzstdStream: ByteStream {
    private let input: any ByteStream
    private let buffer: UnsafeMutableRawBufferPointer
    private let context: OpaquePointer
    private var pending = ZSTD_inBuffer()
    private var isInFrame = false
    private var isFinished = false

    private enum Limit {
        /// Memory a frame may ask for: 2^27 bytes, what zstd(1) allows without `--long`.
        static let windowLog: Int32 = 27
    }

    package init(_ input: any ByteStream) throws(ArchiveFault) {
        self.input = input
        guard let context = ZSTD_createDCtx() else { throw ArchiveFault(.system, "zstd: out of memory") }
        self.context = context
        buffer = .allocate(byteCount: 256 << 10, alignment: 64)
        ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, Limit.windowLog)
    }

    deinit {
        ZSTD_freeDCtx(context)
        buffer.deallocate()
    }

    package func read(into output: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        var out = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
        while out.pos < out.size, !isFinished {
            if pending.pos == pending.size {
                let n = try input.read(into: buffer)
                if n == 0 {
                    // What the decoder still holds is flushed before the end is believed.
                    let held = out.pos
                    var nothing = ZSTD_inBuffer()
                    if isInFrame { _ = try step(&out, &nothing) }
                    if out.pos > held { continue }
                    guard !isInFrame else { throw ArchiveFault(.corrupt, "truncated: zstd data ends in the middle") }
                    isFinished = true
                    break
                }
                pending = ZSTD_inBuffer(src: UnsafeRawPointer(buffer.baseAddress), size: n, pos: 0)
            }
            try step(&out, &pending)
        }
        return out.pos
    }

    @discardableResult
    private func step(_ out: inout ZSTD_outBuffer, _ input: inout ZSTD_inBuffer) throws(ArchiveFault) -> Int {
        let result = ZSTD_decompressStream(context, &out, &input)
        if ZSTD_isError(result) != 0 {
            throw ArchiveFault(.corrupt, "corrupt zstd data: \(String(cString: ZSTD_getErrorName(result)))")
        }
        isInFrame = result != 0
        return result
    }
}
