import CLinux
import Glibc
import LinuxSystem

package enum FileCopy {
    /// Copies `bytes` from `offset` of one file to the current end of another inside the kernel,
    /// sharing blocks where the file system can (copy_file_range(2)).
    package static func copy(
        from input: Int32, offset: Int64 = 0, to output: Int32, bytes: Int64
    ) throws(ArchiveFault) {
        var from = offset
        var rest = bytes
        while rest > 0 {
            let n = linux_copy_file_range(input, &from, output, nil, Int(min(rest, 1 << 30)))
            if n < 0, errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP {
                return try copyThroughMemory(from: input, offset: from, to: output, bytes: rest)
            }
            if n < 0, errno == EINTR { continue }
            guard n >= 0 else { throw ArchiveFault(SyscallError("copy_file_range")) }
            guard n > 0 else { throw ArchiveFault(.corrupt, "truncated: the file ends before its content does") }
            rest -= Int64(n)
        }
    }

    private static func copyThroughMemory(
        from input: Int32, offset: Int64, to output: Int32, bytes: Int64
    ) throws(ArchiveFault) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
        defer { buffer.deallocate() }
        let source = FileRange(input, offset: offset, length: bytes)
        while true {
            let n = try source.read(into: buffer)
            if n == 0 { return }
            try writeAll(UnsafeRawBufferPointer(rebasing: buffer[..<n]), to: output)
        }
    }

    package static func writeAll(_ bytes: UnsafeRawBufferPointer, to output: Int32) throws(ArchiveFault) {
        var rest = bytes
        while !rest.isEmpty {
            let n: Int
            do throws(SyscallError) {
                n = try checked("write") { Glibc.write(output, rest.baseAddress, rest.count) }
            } catch {
                throw ArchiveFault(error)
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[n...])
        }
    }
}
