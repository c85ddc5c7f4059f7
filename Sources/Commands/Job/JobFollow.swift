import Diagnostics
import Glibc
import LinuxSystem
import Telemetry

/// Reading along with a job until it has ended.
enum JobFollow {
    /// File systems of several machines show what another wrote a while later anyway.
    private static let pauseMicroseconds: UInt32 = 100_000

    /// Calls `step`, again and again when it `follows`; once more after the job has ended.
    static func run(_ reader: JobRecordReader, follows: Bool, _ step: () throws -> Void) throws {
        try step()
        guard follows else { return }
        while true {
            let state = try JobFinder.summary(reader).state
            try step()
            if state == .ended || state == .lost { return }
            usleep(pauseMicroseconds)
        }
    }

    static func events(_ reader: JobRecordReader) throws(Diagnostic) -> [JobEvent] {
        do throws(SyscallError) { return try reader.newEvents() } catch { throw unreadable(reader, error) }
    }

    static func output(_ reader: JobRecordReader) throws(Diagnostic) -> [OutputChunk] {
        do throws(SyscallError) { return try reader.newOutput() } catch { throw unreadable(reader, error) }
    }

    private static func unreadable(_ reader: JobRecordReader, _ failure: SyscallError) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("record-unreadable"), reader.id, reasons: ["its record cannot be read", failure.sentence])
    }
}
