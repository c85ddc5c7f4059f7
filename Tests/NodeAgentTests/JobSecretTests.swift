import CLinux
import Foundation
import NodeAgent
import Processes
import TestSupport
import Testing

/// Where an agent has its job's secret from, and that it is nowhere else afterwards.
@Suite struct JobSecretTests {
    /// /proc/PID/environ shows the bytes that the process was started with (proc_pid_environ(5)), for as long as
    /// nobody writes over them: unsetenv(3) only forgets where they are.
    @Test func theSecretIsWipedWhereItStood() throws {
        let secret = RandomBytes.make(32)
        let entry = try #require(strdup("\(AgentProgram.secretVariable)=\(RandomBytes.hex(secret))"))
        defer { free(entry) }
        Self.add(entry)
        let value = try #require(getenv(AgentProgram.secretVariable))
        let length = strlen(value)
        #expect(value == entry + AgentProgram.secretVariable.utf8.count + 1)
        #expect(AgentProgram.jobSecret("-") == secret)
        #expect(getenv(AgentProgram.secretVariable) == nil)
        let left = UnsafeBufferPointer(start: value, count: length + 1)
        #expect(Set(left.dropLast()).count == 1 && left.last == 0, "\(String(cString: value))")
    }

    /// A block of its own, one entry longer: putenv(3) may free the one that other threads are reading.
    private static func add(_ entry: UnsafeMutablePointer<CChar>) {
        var entries: [UnsafeMutablePointer<CChar>?] = [entry]
        var cursor = linux_environ()
        while let known = cursor?.pointee {
            entries.append(known)
            cursor = cursor?.advanced(by: 1)
        }
        let block = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: entries.count + 1)
        block.initialize(from: entries + [nil], count: entries.count + 1)
        // As itself Swift refuses the global.
        dlsym(nil, "environ")?.assumingMemoryBound(to: type(of: block).self).pointee = block
    }

    @Test func theSecretComesByFile() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/secret"
        let secret = RandomBytes.make(32)
        try Data((RandomBytes.hex(secret) + "\n").utf8).write(to: URL(fileURLWithPath: path))
        #expect(AgentProgram.jobSecret(path) == secret)
        try Data("0123\n".utf8).write(to: URL(fileURLWithPath: path))
        #expect(AgentProgram.jobSecret(path) == nil)
        #expect(AgentProgram.jobSecret(path + "-gone") == nil)
    }
}
