import Glibc
import LinuxSystem

/// Writes a tar archive of plain files and directories in one pass (POSIX ustar; sizes over 8 GiB in
/// GNU's base-256 form). Equal input gives equal bytes: owner 0, time 0.
package final class TarWriter {
    private let output: Int32
    /// Bytes of the current member not yet written.
    private var missing: Int64 = 0
    private var padding = 0

    /// Does not own `output`.
    package init(_ output: Int32) { self.output = output }

    /// Starts a file of `size` bytes; exactly as many must follow by `write`.
    package func file(_ name: String, size: Int64) throws(ArchiveFault) {
        try header(name, type: UInt8(ascii: "0"), mode: 0o644, size: size)
        missing = size
        padding = Int((512 - size % 512) % 512)
    }

    package func directory(_ name: String) throws(ArchiveFault) {
        try header(name + "/", type: UInt8(ascii: "5"), mode: 0o755, size: 0)
    }

    package func file(_ name: String, _ bytes: [UInt8]) throws(ArchiveFault) {
        try file(name, size: Int64(bytes.count))
        var fault: ArchiveFault?
        bytes.withUnsafeBytes { buffer in
            do throws(ArchiveFault) { try write(buffer) } catch { fault = error }
        }
        if let fault { throw fault }
    }

    package func write(_ bytes: UnsafeRawBufferPointer) throws(ArchiveFault) {
        guard Int64(bytes.count) <= missing else { throw ArchiveFault(.corrupt, "more bytes than were announced") }
        try FileCopy.writeAll(bytes, to: output)
        missing -= Int64(bytes.count)
        if missing == 0 { try zeros(padding) }
    }

    /// Ends the archive.
    package func finish() throws(ArchiveFault) {
        guard missing == 0 else { throw ArchiveFault(.corrupt, "fewer bytes than were announced") }
        try zeros(1024)
    }

    private func zeros(_ count: Int) throws(ArchiveFault) {
        guard count > 0 else { return }
        var fault: ArchiveFault?
        [UInt8](repeating: 0, count: count).withUnsafeBytes { buffer in
            do throws(ArchiveFault) { try FileCopy.writeAll(buffer, to: output) } catch { fault = error }
        }
        if let fault { throw fault }
    }

    private func header(_ name: String, type: UInt8, mode: Int, size: Int64) throws(ArchiveFault) {
        guard missing == 0, name.utf8.count <= 100, size >= 0 else {
            throw ArchiveFault(.corrupt, entry: Array(name.utf8), "not a member this writer writes")
        }
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ at: Int, _ value: [UInt8]) { block.replaceSubrange(at..<at + value.count, with: value) }
        func octal(_ value: Int, _ width: Int) -> [UInt8] {
            let digits = String(value, radix: 8)
            return Array((String(repeating: "0", count: width - 1 - digits.utf8.count) + digits).utf8)
        }
        put(0, Array(name.utf8))
        put(100, octal(mode, 8))
        put(108, octal(0, 8))
        put(116, octal(0, 8))
        if size < 1 << 33 {
            put(124, octal(Int(size), 12))
        } else {
            put(124, [0x80, 0, 0, 0] + (0..<8).map { UInt8(truncatingIfNeeded: size >> (56 - 8 * $0)) })
        }
        put(136, octal(0, 12))
        put(148, [UInt8](repeating: 0x20, count: 8))
        put(156, [type])
        put(257, Array("ustar".utf8) + [0, 0x30, 0x30])
        put(148, octal(block.reduce(0) { $0 + Int($1) }, 7) + [0, 0x20])
        var fault: ArchiveFault?
        block.withUnsafeBytes { buffer in
            do throws(ArchiveFault) { try FileCopy.writeAll(buffer, to: output) } catch { fault = error }
        }
        if let fault { throw fault }
    }
}
