import CCompression
import Glibc

/// Decompresses single blocks, each thread with a context of its own.
struct BlockDecoder: Sendable {
    let compression: SquashCompression

    init(_ compression: SquashCompression) throws(ArchiveFault) {
        guard compression == .gzip || compression == .zstd else {
            throw ArchiveFault(
                .unsupported,
                "compressed with \(compression.name), which is not read here (zstd and gzip are); "
                    + "write it again: unsquashfs -d DIR FILE, then trireme image convert DIR NEW.sqfs")
        }
        self.compression = compression
    }

    /// Bytes written to `output`, which must hold the whole block.
    func decode(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int
    {
        if compression == .zstd {
            guard let context = BlockDecoder.context() else { throw ArchiveFault(.system, "zstd: out of memory") }
            let n = ZSTD_decompressDCtx(context, output.baseAddress, output.count, input.baseAddress, input.count)
            guard ZSTD_isError(n) == 0 else {
                throw ArchiveFault(.corrupt, "corrupt zstd block: \(String(cString: ZSTD_getErrorName(n)))")
            }
            return Int(n)
        }
        var length = uLongf(output.count)
        let result = uncompress(
            output.baseAddress?.assumingMemoryBound(to: UInt8.self), &length,
            input.baseAddress?.assumingMemoryBound(to: UInt8.self), uLong(input.count))
        guard result == Z_OK else { throw ArchiveFault(.corrupt, "corrupt gzip block: zlib error \(result)") }
        return Int(length)
    }

    /// This thread's; freed with it.
    private static func context() -> OpaquePointer? {
        if let known = pthread_getspecific(key) { return OpaquePointer(known) }
        guard let made = ZSTD_createDCtx() else { return nil }
        pthread_setspecific(key, UnsafeMutableRawPointer(made))
        return made
    }

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key) { context in
            if let context { _ = ZSTD_freeDCtx(OpaquePointer(context)) }
        }
        return key
    }()
}
