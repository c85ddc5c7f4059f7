import Foundation
import Glibc

/// A running process of this user that may open nothing more, as if its table of files were full: its soft limit is
/// below what it has open (prlimit(1)).
package final class DescriptorFamine {
    private let pid: pid_t
    private let before: String

    package struct Refused: Error { package var reason: String }

    package init(of pid: pid_t) throws {
        self.pid = pid
        let run = try runProgram(["prlimit", "--pid", "\(pid)", "--nofile", "--output", "SOFT", "--noheadings"])
        before = run.outputText.trimmingCharacters(in: .whitespacesAndNewlines)
        // The standard streams are open, and poll(2) of a few more is refused by a lower limit.
        try limit(to: "3")
    }

    private func limit(to count: String) throws {
        let run = try runProgram(["prlimit", "--pid", "\(pid)", "--nofile=\(count):"])
        guard run.status == 0 else { throw Refused(reason: run.errorText) }
    }

    package func end() throws { try limit(to: before) }
    deinit { try? end() }
}

/// The processor time that a process has used so far, in seconds (proc_pid_stat(5): utime and stime).
package func processorSeconds(of pid: pid_t) throws -> Double {
    let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
    // The name, in brackets, may hold blanks.
    let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
    guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
        throw CocoaError(.fileReadCorruptFile)
    }
    return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
}
