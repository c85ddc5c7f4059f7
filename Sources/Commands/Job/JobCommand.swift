import ArgumentParser
import Diagnostics
import LinuxSystem
import Telemetry

/// `trireme job …`: parallel jobs, while they run and afterwards.
struct JobCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "job", abstract: "Parallel jobs: what they did and do, and a word to them.",
        discussion: """
            ID is what 'trireme job ls' shows, the beginning of one, or the batch system's own job id. \
            All verbs work on every node that sees the same state directory.
            """,
        subcommands: [
            JobList.self, JobShow.self, JobEvents.self, JobLogs.self, JobStats.self, JobCancel.self,
            JobSuspend.self, JobResume.self, JobUpdate.self, JobAttach.self, JobWait.self, JobKVS.self,
        ])
}

/// Which job is meant.
enum JobFinder {
    /// - Throws: a diagnostic when no job, or several, fit `word`.
    static func reader(_ word: String) throws(Diagnostic) -> JobRecordReader {
        let all = JobRecordReader.all(in: JobRecords.directory)
        if let exact = all.first(where: { $0.id == word }) { return exact }
        // `12` is the batch system's job 12, not the beginning of 123.
        var found = all.filter { $0.id.hasPrefix(word + ".") }
        if found.isEmpty { found = all.filter { $0.id.hasPrefix(word) } }
        if found.count == 1 { return found[0] }
        if found.isEmpty {
            throw Diagnostic(
                DiagnosticCode("job-unknown"), "'\(word)'", reasons: ["no job of that id is on record"],
                remedies: NearMiss.nearest(to: word, among: all.map(\.id)).map { "did you mean '\($0)'?" }
                    + ["trireme job ls --all"])
        }
        throw Diagnostic(
            DiagnosticCode("job-unknown"), "'\(word)'", reasons: ["\(found.count) jobs begin so"],
            remedies: found.suffix(8).map(\.id))
    }

    static func summary(_ reader: JobRecordReader) throws(Diagnostic) -> JobSummary {
        do throws(SyscallError) {
            if let summary = try reader.summary() { return summary }
            throw SyscallError("read", reader.directory, errno: 0)
        } catch {
            throw Diagnostic(
                DiagnosticCode("record-unreadable"), reader.id, reasons: ["its record cannot be read", error.sentence])
        }
    }
}
