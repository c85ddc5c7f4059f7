import Foundation
import Glibc
import LinuxSystem
import Processes
import TestSupport
import Testing

@Suite struct CommandOutputTests {
    private let limit = CommandOutput.Limit(milliseconds: 60_000, bytes: 1 << 20)

    private func shell(_ line: String, input: String = "", limit: CommandOutput.Limit? = nil) throws -> CommandOutput {
        try CommandOutput.of(["sh", "-c", line], input: input, isQuiet: true, limit: limit ?? self.limit)
    }

    @Test func whatItPrintsAndHowItEnds() throws {
        let said = try shell("cat; echo lost >&2; exit 3", input: "read\n")
        #expect(String(decoding: said.bytes, as: UTF8.self) == "read\n")
        #expect(said.status == 3)
        #expect(try shell("kill -9 $$").status == 137)
    }

    @Test func anInputThatNobodyReadsBreaksNothing() throws {
        let said = try shell("exit 0", input: String(repeating: "x", count: 1 << 20))
        #expect(said.status == 0 && said.bytes.isEmpty)
    }

    @Test func itsEnvironmentIsWhatWasGiven() throws {
        let said = try CommandOutput.of(
            ["env"], environment: ["PATH=/usr/bin:/bin", "A=\u{e9}"].map { Array($0.utf8) }, limit: limit)
        #expect(String(decoding: said.bytes, as: UTF8.self) == "PATH=/usr/bin:/bin\nA=\u{e9}\n")
    }

    @Test func whoOverstepsIsKilled() throws {
        let place = try TemporaryDirectory()
        for (line, limit, code) in [
            ("exec sleep 1000", CommandOutput.Limit(milliseconds: 100, bytes: 1 << 20), ETIMEDOUT),
            ("exec yes", CommandOutput.Limit(milliseconds: 60_000, bytes: 1 << 16), EMSGSIZE),
        ] {
            let error = #expect(throws: SyscallError.self) {
                _ = try shell("echo $$ >\(place.path)/pid; " + line, limit: limit)
            }
            #expect(error?.errno == code)
            let written = try String(contentsOfFile: place.path + "/pid", encoding: .utf8)
            let pid = try #require(pid_t(written.trimmingCharacters(in: .whitespacesAndNewlines)))
            // Waited for, too: not even a zombie is left.
            #expect(kill(pid, 0) == -1 && errno == ESRCH)
        }
    }

    @Test func whatItLeavesInTheBackgroundIsNotWaitedFor() throws {
        let said = try shell("sleep 1000 & echo $!", limit: .init(milliseconds: 60_000, bytes: 100))
        let left = try #require(
            pid_t(String(decoding: said.bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)))
        #expect(kill(left, SIGKILL) == 0)
        #expect(said.status == 0)
    }

    @Test func aProgramThatIsNotThere() {
        let error = #expect(throws: SyscallError.self) {
            _ = try CommandOutput.of(["no-such-program"], limit: limit)
        }
        #expect(error?.errno == ENOENT)
    }

    @Test func theTerminalsSignalsReachTheCallersGroupOnly() throws {
        func group(_ group: ChildProcess.Group) throws -> pid_t? {
            let said = try CommandOutput.of(["sh", "-c", "ps -o pgid= -p $$"], group: group, limit: limit)
            return pid_t(String(decoding: said.bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
        }
        #expect(try group(.callers) == getpgrp())
        let own = try group(.own)
        #expect(own != nil && own != getpgrp())
    }

    @Test func theLaterEntryOfANameCounts() {
        let merged = EnvironmentBlock.merged(["A=1", "B=2"].map { Array($0.utf8) }, [Array("A=3".utf8)])
        #expect(EnvironmentBlock.value("A", in: merged) == "3" && EnvironmentBlock.value("B", in: merged) == "2")
    }
}
