import Foundation
import TestSupport

/// A cluster, of three nodes with two processors each where a test says nothing else, and jobs on it through the real programs.
final class JobFixture: Sendable {
    let clusters: ClusterFixture
    let trireme: String
    static let name = "jobs"
    static let openMPI = "mpi-hello:openmpi"
    static let mpich = "mpi-hello:mpich"

    /// - Parameter parent: where the clusters' state directory is made.
    init(nodes: Int = 3, cpus: Int = 2, under parent: String = NSTemporaryDirectory()) throws {
        clusters = try ClusterFixture(under: parent)
        trireme = try Programs.path("trireme")
        let created = try clusters.create(Self.name, nodes: nodes, ["--cpus", "\(cpus)"])
        guard created.status == 0 else { throw Failure(said: created.errorText) }
    }

    struct Failure: Error { var said: String }

    /// `trireme run --cluster …` from outside.
    func run(_ words: [String], input: String = "", limitSeconds: Double = 120) throws -> ProgramRun {
        try runProgram(
            [trireme, "run", "--cluster", Self.name] + words,
            environment: ["XDG_STATE_HOME": clusters.directory.path],
            // A directory that the nodes show wherever the project lies.
            directory: NSHomeDirectory(), input: Data(input.utf8), limitSeconds: limitSeconds)
    }

    /// A shell script in the controller; `trireme` is in its PATH.
    func script(_ text: String, limitSeconds: Double = 180) throws -> ProgramRun {
        let directory = (trireme as NSString).deletingLastPathComponent
        return try clusters.run(
            ["exec", Self.name, "--", "sh", "-c", "PATH=\(directory):$PATH\n" + text], limitSeconds: limitSeconds)
    }

    /// `ip` in a node's network: as its owner, a test may enter the cluster's user namespace and be root there.
    func network(_ node: String, _ words: [String]) throws {
        let status = try clusters.status(Self.name)
        guard let pid = status.nodes.first(where: { $0.name == node })?.pid else { throw Failure(said: "no " + node) }
        let run = try runProgram(
            [
                "nsenter", "--user=/proc/\(status.pid)/ns/user", "--net=/proc/\(pid)/ns/net",
                "--preserve-credentials", "/sbin/ip",
            ] + words, environment: [:])
        guard run.status == 0 else { throw Failure(said: run.errorText) }
    }

    /// What is left of jobs on the nodes and the controller: agents, launchers, ranks, job steps.
    func leftovers(_ nodes: [String] = ["ctl", "n1", "n2", "n3"]) throws -> [String] {
        let words = [
            "trireme-agent", "/.trireme/agent", "mpirun", "mpiexec", "hydra_pmi_proxy", "orted", "prterun", "prted",
            "mpi-hello", "srun",
        ]
        return try clusters.processes(named: words, in: Self.name, on: nodes)
    }

    /// Nothing is left, ten seconds later at the latest, and no job either.
    func isClean(nodes: [String] = ["ctl", "n1", "n2", "n3"]) throws -> Bool {
        try ClusterFixture.eventually(within: 10) {
            try leftovers(nodes).isEmpty && script("squeue -h").outputText.isEmpty
        }
    }
}
