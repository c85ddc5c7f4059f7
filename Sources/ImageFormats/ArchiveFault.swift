import Glibc
import LinuxSystem

/// Why an archive or one entry of it was refused.
package struct ArchiveFault: Error, Equatable, Sendable {
    package enum Kind: Sendable {
        /// The bytes are not what their format says.
        case corrupt
        /// An entry that would act outside its root, or a name no honest tool writes.
        case hostile
        /// Well formed, but not read here.
        case unsupported
        /// Larger than a limit set here.
        case limit
        /// The system refused (`errno` says why).
        case system
    }
    package var kind: Kind
    /// The entry's name, printable; empty when the fault is the archive's.
    package var entry: String
    package var reason: String
    /// The failed call's errno; 0 when no call failed.
    package var errno: Int32

    package init(_ kind: Kind, entry: [UInt8] = [], _ reason: String, errno: Int32 = 0) {
        self.kind = kind
        self.entry = ArchiveFault.printable(entry)
        self.reason = reason
        self.errno = errno
    }

    package init(_ error: SyscallError, entry: [UInt8] = []) {
        self.init(.system, entry: entry, error.sentence, errno: error.errno)
    }

    /// `bytes` as text for a message: control characters and bytes that are not UTF-8 are escaped.
    package static func printable(_ bytes: [UInt8]) -> String {
        var text = ""
        for character in String(decoding: bytes.prefix(512), as: UTF8.self).unicodeScalars {
            if character.value < 32 || (127...159).contains(character.value) {
                text += "\\x" + String(character.value + 256, radix: 16).dropFirst()
            } else {
                text.unicodeScalars.append(character)
            }
        }
        return text
    }
}
