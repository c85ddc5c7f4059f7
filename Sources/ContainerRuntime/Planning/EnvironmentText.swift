import Diagnostics
import Glibc
import ImageStore
import LinuxSystem

/// Where variables come from besides `-e`: files and patterns. All of it in bytes: neither names nor
/// values need be UTF-8.
package enum EnvironmentText {
    private static let equals = UInt8(ascii: "=")
    private static let fileBytes = 4 << 20

    /// The entry `NAME=…` of `host`.
    package static func entry(_ name: [UInt8], in host: [[UInt8]]) -> [UInt8]? {
        host.first { $0.count > name.count && $0[name.count] == equals && $0.starts(with: name) }
    }

    /// Entries whose name matches `pattern` (`*`, `?` and `[…]` as in fnmatch(3)), in the host's order.
    package static func matching(_ pattern: String, in host: [[UInt8]]) -> [[UInt8]] {
        host.filter { entry in
            let name = entry.prefix { $0 != equals } + [0]
            return name.withUnsafeBytes { raw in
                fnmatch(pattern, raw.baseAddress!.assumingMemoryBound(to: CChar.self), 0) == 0
            }
        }
    }

    /// The entries of a file as docker reads it: `NAME=VALUE` with the value up to the end of the line, quotes
    /// and spaces and all; `NAME` alone passes the caller's; empty lines and lines that start with `#` are
    /// comments (docs.docker.com, `docker run --env-file`).
    ///
    /// - Throws: `env-file-invalid` with the line.
    package static func file(_ path: String, host: [[UInt8]]) throws(Diagnostic) -> [[UInt8]] {
        var bytes: [UInt8]
        do throws(SyscallError) { bytes = try Files.read(path, limit: fileBytes) } catch {
            throw Diagnostic(DiagnosticCode("env-file-invalid"), path, reasons: [error.sentence])
        }
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.removeFirst(3) }
        var entries: [[UInt8]] = []
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, ended) in lines.enumerated() {
            let line = ended.last == UInt8(ascii: "\r") ? ended.dropLast() : ended
            let text = Array(line.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") })
            if text.isEmpty || text[0] == UInt8(ascii: "#") { continue }
            let name = Array(text.prefix { $0 != equals })
            func refused(_ reason: String) -> Diagnostic {
                Diagnostic(
                    DiagnosticCode("env-file-invalid"), "\(path):\(index + 1)", reasons: [reason],
                    remedies: ["each line is NAME=VALUE or NAME; a comment starts with #"])
            }
            if name.isEmpty { throw refused("no name before '='") }
            if name.contains(where: { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }) {
                throw refused("the name '\(String(decoding: name, as: UTF8.self))' holds a space")
            }
            if text.contains(0) { throw refused("a NUL byte") }
            if name.count < text.count {
                entries.append(text)
            } else if let passed = entry(name, in: host) {
                entries.append(passed)
            }
        }
        return entries
    }
}
