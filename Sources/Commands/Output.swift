import Diagnostics
import Glibc
import LinuxSystem
import Synchronization

/// The one door for everything trireme prints: results on standard output,
/// progress and diagnostics on standard error.
package struct Output: Sendable {
    package static let standard = Output()

    package enum Stream: Int32, Sendable {
        case result = 1
        case progress = 2
    }

    private static let lostErrno = Atomic<Int32>(0)

    /// Why a result could not be written; nil as long as all of them were.
    package static var failure: SyscallError? {
        let reason = lostErrno.load(ordering: .relaxed)
        return reason == 0 ? nil : SyscallError("write", "standard output", errno: reason)
    }

    static func lost(_ what: String, _ failure: SyscallError) -> Diagnostic {
        Diagnostic(DiagnosticCode("output-lost"), failure.subject, reasons: [what, failure.reason])
    }

    /// Writes `text` whole. A reader that went away (EPIPE) is not an error of ours; a full disk is (`failure`).
    package func write(_ text: String, to stream: Stream = .result) {
        write(bytes: Array(text.utf8), to: stream)
    }

    /// The same for bytes that need not be UTF-8.
    package func write(bytes: [UInt8], to stream: Stream = .result) {
        bytes.withUnsafeBytes { all in
            var rest = all
            while !rest.isEmpty {
                let n = Glibc.write(stream.rawValue, rest.baseAddress, rest.count)
                if n < 0 {
                    if errno == EINTR { continue }
                    if errno != EPIPE, stream == .result { Output.lostErrno.store(errno, ordering: .relaxed) }
                    return
                }
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(n))
            }
        }
    }

    package func line(_ text: String, to stream: Stream = .result) { write(text + "\n", to: stream) }

    package func diagnose(_ diagnostic: Diagnostic) { write(diagnostic.rendered(), to: .progress) }
}
