import Foundation
import LaunchPlan
import TestSupport

/// A store with one image that holds the attempts (`Tests/Probe/escape.c`), and a process and a file
/// outside for them to reach.
final class Hull {
    let directory: TemporaryDirectory
    let outside = Process()
    var store: String { directory.path + "/store" }
    var home: String { directory.path + "/home" }
    /// The same root as a directory: what `trireme-cli` takes without a record in the store.
    var image: String { store + "/layers/l" }
    /// Exists on the host in a directory that no container shows.
    let marker: String

    init() throws {
        directory = try TemporaryDirectory()
        marker = "/var/tmp/trireme-escape-\(UUID().uuidString)"
        let files = FileManager.default
        for made in ["store/layers/l/bin", "store/layers/l/sub", "store/plans", "store/tmp", "home"] {
            try files.createDirectory(atPath: directory.path + "/" + made, withIntermediateDirectories: true)
        }
        let probe = store + "/layers/l/bin/escape"
        try Self.probe.get().write(to: URL(fileURLWithPath: probe))
        // Set-id bits on it must mean nothing.
        try files.setAttributes([.posixPermissions: 0o6755], ofItemAtPath: probe)
        try files.createSymbolicLink(atPath: store + "/layers/l/way-out", withDestinationPath: "/proc/self/root/../..")
        var plan = LaunchPlan()
        plan.layers = ["layers/l"]
        plan.imageName = "hull:latest"
        plan.environment = [Array("PATH=/bin".utf8)]
        try Data(plan.encoded()).write(to: URL(fileURLWithPath: store + "/plans/hull:latest"))
        try Data("outside\n".utf8).write(to: URL(fileURLWithPath: marker))
        outside.executableURL = URL(fileURLWithPath: probe)
        outside.arguments = ["wait"]
        outside.standardOutput = Pipe()
        try outside.run()
    }

    deinit {
        if outside.isRunning { kill(outside.processIdentifier, SIGKILL) }
        try? FileManager.default.removeItem(atPath: marker)
    }

    /// What the attempts said, run in a container with `options`.
    func attempts(_ options: String...) throws -> [String: String] {
        let program = options.isEmpty ? "trireme" : "trireme-cli"
        let run = try runProgram(
            ["sh", "-c", "exec 7<\"$HOME\" \"$0\" \"$@\"", try Programs.path(program), "run"] + options
                + [options.isEmpty ? "hull" : image, "escape", "\(outside.processIdentifier)", marker],
            environment: environment, directory: home, limitSeconds: 120)
        return try Self.answers(run)
    }

    /// The same attempts by another program's container, or by none.
    func attempts(by words: [String]) throws -> [String: String] {
        let run = try runProgram(
            ["sh", "-c", "exec 7<\"$HOME\" \"$0\" \"$@\""] + words
                + ["\(outside.processIdentifier)", marker], environment: environment, directory: home, limitSeconds: 120
        )
        return try Self.answers(run)
    }

    func trireme(_ words: String...) throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme")] + words, environment: environment, directory: home, limitSeconds: 120)
    }

    var environment: [String: String?] {
        ["TRIREME_STORE": store, "HOME": home, "SWIFT_BACKTRACE": "enable=no"]
    }

    private static func answers(_ run: ProgramRun) throws -> [String: String] {
        guard run.status == 0 else { throw Failed(what: "status \(run.status): \(run.errorText)\(run.outputText)") }
        return Dictionary(
            run.lines.compactMap { line in
                line.range(of: ": ").map { (String(line[..<$0.lowerBound]), String(line[$0.upperBound...])) }
            }, uniquingKeysWith: { $1 })
    }

    private static let probe = Result {
        let workshop = try TemporaryDirectory()
        let built = workshop.path + "/escape"
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../Probe/escape.c"
        let run = try runProgram(["cc", "-O1", "-static", source, "-o", built])
        guard run.status == 0 else { throw Failed(what: run.errorText) }
        return try Data(contentsOf: URL(fileURLWithPath: built))
    }

    struct Failed: Error { var what: String }
}
