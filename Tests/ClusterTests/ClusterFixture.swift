import Foundation
import TestSupport

/// Virtual clusters under a state directory of their own; what a test leaves is
/// deleted, and `leftovers` proves that deleting leaves nothing.
final class ClusterFixture: Sendable {
    let directory: TemporaryDirectory
    let program: String
    /// How a node image is named: `trireme-node` of the store `make test` fills.
    let image: [String]

    init(under parent: String = NSTemporaryDirectory()) throws {
        directory = try TemporaryDirectory(under: parent)
        program = try Programs.path("trireme-cli")
        image = ["--image", "trireme-node"]
    }

    deinit {
        _ = try? run(["ls", "-q"]).lines.forEach { name in _ = try? run(["delete", name]) }
    }

    @discardableResult
    func run(
        _ arguments: [String], input: String = "", environment: [String: String?] = [:], limitSeconds: Double = 120
    )
        throws -> ProgramRun
    {
        try runProgram(
            [program, "cluster"] + arguments,
            environment: ["XDG_STATE_HOME": directory.path].merging(environment) { $1 }, input: Data(input.utf8),
            limitSeconds: limitSeconds)
    }

    @discardableResult
    func create(_ name: String, nodes: Int, _ more: [String] = []) throws -> ProgramRun {
        try run(["create", name, "--nodes", "\(nodes)"] + image + more)
    }

    func exec(_ name: String, _ words: String...) throws -> ProgramRun { try run(["exec", name] + words) }

    struct Status: Decodable {
        var state: String
        var pid: Int32
        var nodes: [Node]
        struct Node: Decodable {
            var name: String
            var pid: Int32
            var state: String
            var services: [Service]
        }
        struct Service: Decodable {
            var name: String
            var pid: Int32
            var state: String
        }
    }

    func status(_ name: String) throws -> Status {
        try JSONDecoder().decode(Status.self, from: run(["status", name, "--format", "json"]).output)
    }

    /// Living processes in the pid namespace of `pid` or below it, told by the
    /// network namespaces they were seen in.
    static func networkNamespace(of pid: Int32) -> String? {
        try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/net")
    }

    /// Processes that are still in one of these network namespaces.
    static func processes(in namespaces: Set<String>) -> [Int32] {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.compactMap { Int32($0) }.filter { pid in networkNamespace(of: pid).map(namespaces.contains) ?? false
        }
    }

    /// Living processes on the nodes whose command line has one of `words`, each as `NODE: STATE COMMAND`.
    func processes(named words: [String], in name: String, on nodes: [String]) throws -> [String] {
        try nodes.flatMap { node in
            try run(["exec", name, node, "--", "ps", "-eo", "stat,args"]).lines.filter { line in
                !line.hasPrefix("Z") && words.contains { line.contains($0) }
            }.map { "\(node): \($0)" }
        }
    }

    /// Waits until `condition` holds, at most `seconds`.
    static func eventually(within seconds: Double = 10, _ condition: () throws -> Bool) rethrows -> Bool {
        let end = Date().addingTimeInterval(seconds)
        while Date() < end {
            if try condition() { return true }
            usleep(20_000)
        }
        return try condition()
    }
}
