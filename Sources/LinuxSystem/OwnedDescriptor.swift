import CLinux
import Glibc

/// A file descriptor with one owner: closed when the owner goes, never copied.
package struct OwnedDescriptor: ~Copyable, Sendable {
    package private(set) var raw: Int32

    /// Takes ownership of an open descriptor.
    package init(owning raw: Int32) { self.raw = raw }

    deinit { if raw >= 0 { Glibc.close(raw) } }

    /// Gives the descriptor away; the caller closes it.
    package consuming func release() -> Int32 {
        let given = raw
        // Not `discard`, which Embedded Swift lacks: the deinit then finds nothing to close.
        raw = -1
        return given
    }

    /// open(2) relative to `directory`, close-on-exec.
    package static func open(
        _ path: String, _ flags: Int32, mode: mode_t = 0, at directory: Int32 = AT_FDCWD
    ) throws(SyscallError) -> OwnedDescriptor {
        OwnedDescriptor(owning: try checked("open", path) { Glibc.openat(directory, path, flags | O_CLOEXEC, mode) })
    }

    /// A close-on-exec pipe: (read end, write end). pipe2(2)
    package static func pipe() throws(SyscallError) -> Pipe {
        var ends: [Int32] = [-1, -1]
        try checked("pipe2") { linux_pipe2(&ends, O_CLOEXEC) }
        return Pipe(read: OwnedDescriptor(owning: ends[0]), write: OwnedDescriptor(owning: ends[1]))
    }

    /// The two ends of a pipe.
    package struct Pipe: ~Copyable {
        package var read: OwnedDescriptor
        package var write: OwnedDescriptor
    }

    /// Reads up to `buffer.count` bytes; 0 at end of file. read(2)
    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(SyscallError) -> Int {
        let raw = self.raw
        return try checked("read") { Glibc.read(raw, buffer.baseAddress, buffer.count) }
    }

    /// Writes all of `bytes`. write(2)
    package func writeAll(_ bytes: UnsafeRawBufferPointer) throws(SyscallError) {
        var rest = bytes[...]
        let raw = self.raw
        while !rest.isEmpty {
            let chunk = UnsafeRawBufferPointer(rebasing: rest)
            let n = try checked("write") { Glibc.write(raw, chunk.baseAddress, chunk.count) }
            rest = rest.dropFirst(n)
        }
    }

    /// Writes the UTF-8 of `text`.
    package func writeAll(_ text: String) throws(SyscallError) {
        try Array(text.utf8).withUnsafeBufferPointer { (bytes) throws(SyscallError) in
            try writeAll(UnsafeRawBufferPointer(bytes))
        }
    }

    /// The rest of the file. `limit` bounds memory; more is an `EFBIG` error.
    package func readAll(limit: Int = 64 << 20) throws(SyscallError) -> [UInt8] {
        var result: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let raw = self.raw
            let n = try checked("read") { Glibc.read(raw, &chunk, chunk.count) }
            if n == 0 { return result }
            result.append(contentsOf: chunk[..<n])
            if result.count > limit { throw SyscallError("read", errno: EFBIG) }
        }
    }
}
