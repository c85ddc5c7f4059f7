import Foundation
import TestSupport

/// `trireme registry serve` on a free port, ended with its owner.
final class ServedRegistry: Sendable {
    private let process: Process
    let port: Int
    /// Its directory lasts as long as the server.
    private let sandbox: Sandbox
    /// Where the login for pushes is kept.
    private var tokenFile: String { sandbox.store + "/registry/token" }
    var host: String { "127.0.0.1:\(port)" }

    /// - Parameter umask: the one it is started under, octal.
    init(
        _ sandbox: Sandbox, _ options: String..., with extra: [String: String?] = [:], umask: String = "022"
    ) throws {
        self.sandbox = sandbox
        process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments =
            ["-c", "umask \(umask); exec \"$0\" \"$@\"", try Programs.path("trireme-cli")]
            + ["registry", "serve", "-q", "--address", "127.0.0.1:0"] + options
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

    /// The password of pushes, for any user's name.
    var password: String {
        get throws {
            try String(contentsOfFile: tokenFile, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        }
    }

    static func basic(_ user: String, _ password: String) -> String {
        "Basic " + Data("\(user):\(password)".utf8).base64EncodedString()
    }

    /// - Parameter isLoggedIn: as who may push.
    func send(
        _ method: String, _ target: String, headers: [String: String] = [:], body: [UInt8] = [], isLoggedIn: Bool = true
    ) throws -> (status: Int, headers: [String: String], body: [UInt8]) {
        var headers = headers
        if isLoggedIn { headers["Authorization"] = Self.basic("trireme", try password) }
        return try HTTPMessage.exchange(port, method, target, headers: headers, body: body)
    }

    var isRunning: Bool { process.isRunning }
}
