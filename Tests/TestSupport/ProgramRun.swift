import Foundation
import Glibc

/// One finished run of a program: how it ended and what it said.
package struct ProgramRun: Sendable {
    /// The exit status, or 128 + signal number.
    package var status: Int32
    package var output: Data
    package var errors: Data
    package var seconds: Double
    package var outputText: String { String(decoding: output, as: UTF8.self) }
    package var errorText: String { String(decoding: errors, as: UTF8.self) }
    package var lines: [String] { outputText.split(separator: "\n").map(String.init) }
}

/// Runs `arguments[0]` (looked up in PATH) to its end.
///
/// - Parameter environment: merged over this process's own; a nil value removes a variable.
/// - Throws: when it cannot be started, or ran longer than `limitSeconds` (it is then killed).
@discardableResult
package func runProgram(
    _ arguments: [String], environment: [String: String?] = [:], directory: String? = nil,
    input: Data = Data(), limitSeconds: Double = 120
) throws -> ProgramRun {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["--"] + arguments
    var merged = ProcessInfo.processInfo.environment
    for (name, value) in environment { merged[name] = value }
    process.environment = merged
    if let directory { process.currentDirectoryURL = URL(fileURLWithPath: directory) }
    let stdin = Pipe()
    let stdout = Pipe()
    let stderr = Pipe()
    process.standardInput = stdin
    process.standardOutput = stdout
    process.standardError = stderr
    let start = ContinuousClock.now
    try process.run()
    var exchange = PipeExchange(
        input: input, to: stdin.fileHandleForWriting, output: stdout.fileHandleForReading,
        errors: stderr.fileHandleForReading)
    guard exchange.run(until: start + .seconds(limitSeconds)) else {
        kill(process.processIdentifier, SIGKILL)
        throw ProgramTimeout(arguments: arguments, seconds: limitSeconds, said: exchange.errors)
    }
    process.waitUntilExit()
    let elapsed = ContinuousClock.now - start
    let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
    let status = process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
    return ProgramRun(status: status, output: exchange.output, errors: exchange.errors, seconds: seconds)
}

/// A program's three pipes, served by the calling thread. Dispatch starts no further thread while tests that
/// compute keep as many busy as there are processors: what it was given would wait for them.
private struct PipeExchange {
    private(set) var output = Data()
    private(set) var errors = Data()
    private var input: Data
    private let handles: [FileHandle]
    private var isOpen = [true, true, true]

    init(input: Data, to writing: FileHandle, output: FileHandle, errors: FileHandle) {
        self.input = input
        handles = [writing, output, errors]
        let flags = fcntl(writing.fileDescriptor, F_GETFL)
        _ = fcntl(writing.fileDescriptor, F_SETFL, flags | O_NONBLOCK)
    }

    /// Returns when the program's outputs have ended; false when they had not by `deadline`.
    mutating func run(until deadline: ContinuousClock.Instant) -> Bool {
        while isOpen[1] || isOpen[2] {
            if isOpen[0], input.isEmpty { close(0) }
            let left = (deadline - .now).components
            guard left.seconds >= 0, left.attoseconds >= 0 else { return false }
            var slots = handles.indices.map { index in
                // A negative descriptor is passed over (poll(2)).
                pollfd(
                    fd: isOpen[index] ? handles[index].fileDescriptor : -1,
                    events: Int16(index == 0 ? POLLOUT : POLLIN), revents: 0)
            }
            guard poll(&slots, 3, Int32(min(left.seconds, 1000) * 1000 + 1)) > 0 else { continue }
            if slots[0].revents != 0 { write() }
            for index in [1, 2] where slots[index].revents != 0 { read(index) }
        }
        if isOpen[0] { close(0) }
        return true
    }

    private mutating func close(_ index: Int) {
        isOpen[index] = false
        try? handles[index].close()
    }

    private mutating func read(_ index: Int) {
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        let n = Glibc.read(handles[index].fileDescriptor, &chunk, chunk.count)
        if n < 0, errno == EINTR { return }
        guard n > 0 else { return close(index) }
        if index == 1 { output.append(contentsOf: chunk[..<n]) } else { errors.append(contentsOf: chunk[..<n]) }
    }

    /// SIGPIPE is kept from this thread only: children would inherit that it is ignored.
    private mutating func write() {
        var pipeSignal = sigset_t()
        var before = sigset_t()
        sigemptyset(&pipeSignal)
        sigaddset(&pipeSignal, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &pipeSignal, &before)
        let n = input.prefix(64 << 10).withUnsafeBytes {
            Glibc.write(handles[0].fileDescriptor, $0.baseAddress, $0.count)
        }
        let reason = errno
        if n < 0, reason == EPIPE {
            var none = timespec()
            sigtimedwait(&pipeSignal, nil, &none)
        }
        pthread_sigmask(SIG_SETMASK, &before, nil)
        if n > 0 { input.removeFirst(n) } else if reason != EAGAIN, reason != EINTR { close(0) }
    }
}

package struct ProgramTimeout: Error {
    package var arguments: [String]
    package var seconds: Double
    package var said: Data
}

/// The built programs under test, `TRIREME_BIN` (set by the Makefile to the release build).
package enum Programs {
    package static let directory: String? = ProcessInfo.processInfo.environment["TRIREME_BIN"]
    package static func path(_ name: String) throws -> String {
        guard let directory else { throw ProgramsMissing() }
        return directory + "/" + name
    }
    /// Whether the program asks for no loader, as those of a debug build do.
    package static func isStatic(_ name: String) -> Bool {
        guard let run = try? runProgram(["readelf", "--program-headers", "--wide", path(name)]) else { return false }
        return run.status == 0 && !run.outputText.contains("INTERP")
    }
    package struct ProgramsMissing: Error, CustomStringConvertible {
        package var description: String { "TRIREME_BIN is not set: run the tests with 'make test'" }
    }
}

/// A directory that goes away with its fixture.
package final class TemporaryDirectory: Sendable {
    package let path: String
    package init(under parent: String = NSTemporaryDirectory()) throws {
        path = (parent as NSString).appendingPathComponent("trireme-test-" + UUID().uuidString.prefix(8).lowercased())
        // Whatever the umask is meanwhile: the extractor's tests clear it for the whole process.
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    }
    deinit {
        // Extracted trees may hold directories without write permission.
        _ = try? runProgram(["chmod", "-R", "u+rwX", path])
        try? FileManager.default.removeItem(atPath: path)
    }
}

/// Whether `name` is a program in PATH: for tests that a machine may be without, which then say so.
package func isInstalled(_ name: String) -> Bool {
    (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":")
        .contains { FileManager.default.isExecutableFile(atPath: "\($0)/\(name)") }
}
