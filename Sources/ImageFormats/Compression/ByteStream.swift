import Glibc
import LinuxSystem

/// Bytes in order, read into the caller's buffer.
package protocol ByteStream: AnyObject {
    /// Fills some of `buffer` and says how much; 0 only at the end.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int
    /// Passes over up to `count` bytes without reading them, where that is cheap, and says how many.
    func skip(_ count: Int64) throws(ArchiveFault) -> Int64
}

extension ByteStream {
    package func skip(_ count: Int64) throws(ArchiveFault) -> Int64 { 0 }
}

/// Bytes in order, lent in pieces.
package protocol ChunkSource: AnyObject {
    /// The next piece, valid until the next call; nil at the end. Never empty.
    func nextChunk() throws(ArchiveFault) -> UnsafeRawBufferPointer?
    func skip(_ count: Int64) throws(ArchiveFault) -> Int64
}

/// A range of an open file. The descriptor's own offset is neither used nor moved, so several
/// threads may read one file. Does not own the descriptor.
package final class FileRange: ByteStream {
    private let descriptor: Int32
    private var offset: Int64
    private var end: Int64

    package init(_ descriptor: Int32, offset: Int64 = 0, length: Int64) {
        self.descriptor = descriptor
        self.offset = offset
        end = offset + length
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        let wanted = Int(min(Int64(buffer.count), end - offset))
        guard wanted > 0 else { return 0 }
        let n: Int
        do throws(SyscallError) {
            n = try checked("read") { pread(descriptor, buffer.baseAddress, wanted, Int(offset)) }
        } catch { throw ArchiveFault(error) }
        guard n > 0 else { throw ArchiveFault(.corrupt, "truncated: the file ends before its content does") }
        offset += Int64(n)
        return n
    }

    package func skip(_ count: Int64) throws(ArchiveFault) -> Int64 {
        let n = min(count, end - offset)
        offset += n
        return n
    }
}

/// A descriptor read to its end: a pipe, a terminal, a file. Does not own it.
package final class DescriptorStream: ByteStream {
    private let descriptor: Int32
    package init(_ descriptor: Int32) { self.descriptor = descriptor }

    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        do throws(SyscallError) {
            return try checked("read") { Glibc.read(descriptor, buffer.baseAddress, buffer.count) }
        } catch { throw ArchiveFault(error) }
    }
}

/// A stream lent in pieces of one buffer.
package final class BufferedChunks: ChunkSource {
    private let stream: any ByteStream
    private let buffer: UnsafeMutableRawBufferPointer

    package init(_ stream: any ByteStream, bytes: Int = 256 << 10) {
        self.stream = stream
        buffer = .allocate(byteCount: bytes, alignment: 64)
    }

    deinit { buffer.deallocate() }

    package func nextChunk() throws(ArchiveFault) -> UnsafeRawBufferPointer? {
        let n = try stream.read(into: buffer)
        return n == 0 ? nil : UnsafeRawBufferPointer(rebasing: buffer[..<n])
    }

    package func skip(_ count: Int64) throws(ArchiveFault) -> Int64 { try stream.skip(count) }
}

/// A stream whose first bytes can be looked at before they are read.
package final class PeekedStream: ByteStream {
    private let stream: any ByteStream
    private var start: [UInt8] = []
    private var used = 0

    package init(_ stream: any ByteStream) { self.stream = stream }

    /// Up to `count` of the first bytes; call it before reading.
    package func peek(_ count: Int) throws(ArchiveFault) -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
        defer { buffer.deallocate() }
        while start.count < count {
            let n = try stream.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[start.count...]))
            if n == 0 { break }
            start = Array(buffer[..<(start.count + n)])
        }
        return start
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        guard used < start.count else { return try stream.read(into: buffer) }
        let n = min(buffer.count, start.count - used)
        buffer.copyBytes(from: start[used..<used + n])
        used += n
        return n
    }
}

/// Lent pieces read as a stream.
package final class ChunkStream: ByteStream {
    private let source: any ChunkSource
    private var chunk = UnsafeRawBufferPointer(start: nil, count: 0)

    package init(_ source: any ChunkSource) { self.source = source }

    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        if chunk.isEmpty {
            guard let next = try source.nextChunk() else { return 0 }
            chunk = next
        }
        let n = min(buffer.count, chunk.count)
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: chunk[..<n]))
        chunk = UnsafeRawBufferPointer(rebasing: chunk[n...])
        return n
    }
}
