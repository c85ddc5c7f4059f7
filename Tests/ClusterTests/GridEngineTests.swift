import Foundation
import TestSupport
import Testing

/// Real Grid Engine on three nodes: its own commands, and trireme's jobs inside its jobs.
@Suite(.serialized) struct GridEngineTests {
    let clusters: ClusterFixture
    static let name = "grid"

    init() throws {
        clusters = try ClusterFixture()
        let created = try clusters.run(
            ["create", Self.name, "--scheduler", "gridengine", "--nodes", "3", "--cpus", "2"], limitSeconds: 120)
        try #require(created.status == 0, "\(created.errorText)")
    }

    /// Runs `text` as a job of six slots and returns what it wrote; the last line is its status.
    private func job(_ text: String, limitSeconds: Double = 120) throws -> ProgramRun {
        let directory = (try Programs.path("trireme") as NSString).deletingLastPathComponent
        return try clusters.run(
            [
                "exec", Self.name, "--", "sh", "-c",
                """
                d=$(mktemp -d ~/.trireme-gridengine.XXXXXX)
                trap 'rm -rf "$d"' EXIT
                { echo "export TRIREME_STORE='$TRIREME_STORE' PATH='\(directory)':\\$PATH"; cat; } >$d/job <<'JOB'
                \(text)
                JOB
                qsub -sync y -pe mpi 6 -o $d/out -e $d/err -cwd $d/job >$d/said 2>&1
                status=$?
                cat $d/out; cat $d/err >&2; [ $status -eq 0 ] || cat $d/said >&2
                echo "status $status"
                """,
            ], limitSeconds: limitSeconds)
    }

    /// What jobs left on the nodes, ten seconds later at the latest.
    private func isClean() throws -> Bool {
        let words = ["trireme-agent", "/.trireme/agent", "mpirun", "mpiexec", "orted", "mpi-hello", "sge_shepherd"]
        return try ClusterFixture.eventually(within: 10) {
            try ["ctl", "n1", "n2", "n3"].allSatisfy { node in
                try clusters.run(["exec", Self.name, node, "--", "ps", "-eo", "stat,args"]).lines.allSatisfy { line in
                    line.hasPrefix("Z") || !words.contains { line.contains($0) }
                }
            }
        }
    }

    @Test func itsOwnCommandsWork() throws {
        let queue = try clusters.exec(Self.name, "--", "qstat", "-f")
        #expect(queue.lines.filter { $0.hasPrefix("all.q@n") && $0.contains("0/0/2") }.count == 3)
        let status = try clusters.status(Self.name)
        #expect(
            status.nodes.map { $0.services.map(\.name) } == [["sge_qmaster"]]
                + Array(repeating: ["sge_execd"], count: 3))
        #expect(try clusters.run(["logs", Self.name, "sge_qmaster"]).outputText.contains("starting up SGE"))
    }

    @Test func aJobStartsItsAgentsByQrsh() throws {
        let run = try job(
            """
            trireme alloc show | head -1
            trireme run -n 6 -N 3 mpi-hello:openmpi mpi-hello
            trireme run -n 6 -N 3 --launcher direct mpi-hello:mpich mpi-hello
            trireme run -n 3 -N 3 --launcher direct mpi-hello:openmpi sh -c 'exit 7'
            """)
        #expect(run.lines.first == "system  sge", "\(run.outputText)\(run.errorText)")
        for node in ["n1", "n2", "n3"] {
            #expect(
                run.lines.filter { $0.contains(" of 6 on \(node)") && $0.hasSuffix("sum 15") }.count == 4,
                "\(run.outputText)\(run.errorText)")
        }
        #expect(run.lines.last == "status 7", "\(run.errorText)")
        #expect(try isClean())
    }

    @Test func everyPair() throws {
        let all = LaunchMatrix.combinations(isSlurm: false)
        let run = try job(LaunchMatrix.script("-N 3", all), limitSeconds: 300)
        #expect(run.lines == all.map { "6 \($0)" } + ["status 0"], "\(run.errorText)")
        #expect(try isClean())
    }

    @Test func anotherSystemsImageIsNone() throws {
        let run = try clusters.run(["create", "other", "--scheduler", "gridengine", "--image", "trireme-node"])
        #expect(run.status == 125)
        #expect(
            run.errorText.contains("it has no /usr/lib/gridengine/sge_qmaster")
                && run.errorText.contains("[node-image-unfit]"))
    }
}
