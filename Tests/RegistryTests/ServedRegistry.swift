import Foundation
import TestSupport

/// `trireme registry serve` on a free port, ended with its owner.
final class ServedRegistry: Sendable {
    private let process: Process
    let port: Int
    var host: String { "127.0.0.1:\(port)" }

    init(_ sandbox: Sandbox, _ options: String..., with extra: [String: String?] = [:]) throws {
        process = Process()
        process.executableURL = URL(fileURLWithPath: try Programs.path("trireme-cli"))
        process.arguments = ["registry", "serve", "-q", "--address", "127.0.0.1:0"] + options
        process.environment = ProcessInfo.processInfo.environment
            .merging(sandbox.environment.merging(extra) { $1 }.compactMapValues { $0 }) { $1 }
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        var line = ""
        while !line.hasSuffix("\n") {
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { break }
            line += String(decoding: data, as: UTF8.self)
        }
        guard
            let port = line.split(separator: ":").last.flatMap({
                Int($0.trimmingCharacters(in: .whitespacesAndNewlines))
            })
        else { throw NoAddress(said: line) }
        self.port = port
    }

    struct NoAddress: Error { var said: String }

    deinit {
        // SIGTERM may be blocked: a test's threads block it, and children inherit that.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    func send(
        _ method: String, _ target: String, headers: [String: String] = [:], body: [UInt8] = []
    ) throws -> (status: Int, headers: [String: String], body: [UInt8]) {
        try HTTPMessage.exchange(port, method, target, headers: headers, body: body)
    }
}
