import Foundation
import Synchronization

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
    let collected = Mutex((output: Data(), errors: Data()))
    let readers = DispatchGroup()
    DispatchQueue.global().async(group: readers) {
        let data = stdout.fileHandleForReading.readDataToEndOfFile()
        collected.withLock { $0.output = data }
    }
    DispatchQueue.global().async(group: readers) {
        let data = stderr.fileHandleForReading.readDataToEndOfFile()
        collected.withLock { $0.errors = data }
    }
    DispatchQueue.global().async {
        try? stdin.fileHandleForWriting.write(contentsOf: input)
        try? stdin.fileHandleForWriting.close()
    }
    if readers.wait(timeout: .now() + limitSeconds) == .timedOut {
        kill(process.processIdentifier, SIGKILL)
        throw ProgramTimeout(arguments: arguments, seconds: limitSeconds, said: collected.withLock { $0.errors })
    }
    process.waitUntilExit()
    let elapsed = ContinuousClock.now - start
    let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
    let status = process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
    let both = collected.withLock { $0 }
    return ProgramRun(status: status, output: both.output, errors: both.errors, seconds: seconds)
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
    package struct ProgramsMissing: Error, CustomStringConvertible {
        package var description: String { "TRIREME_BIN is not set: run the tests with 'make test'" }
    }
}

/// A directory that goes away with its fixture.
package final class TemporaryDirectory: Sendable {
    package let path: String
    package init(under parent: String = NSTemporaryDirectory()) throws {
        path = (parent as NSString).appendingPathComponent("trireme-test-" + UUID().uuidString.prefix(8).lowercased())
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit {
        // Extracted trees may hold directories without write permission.
        _ = try? runProgram(["chmod", "-R", "u+rwX", path])
        try? FileManager.default.removeItem(atPath: path)
    }
}
