import Foundation
import TestSupport
import Testing

enum HTCondorImage {
    static let isThere = FileManager.default.fileExists(
        atPath: (ProcessInfo.processInfo.environment["TRIREME_TEST_IMAGES"] ?? "/nowhere") + "/node-htcondor.tar")
}

/// Real HTCondor on three nodes: its own commands, and trireme's jobs in its parallel universe. Its image comes
/// from another release of Debian than the rest, which a machine may not reach.
@Suite(
    .serialized,
    .enabled(if: HTCondorImage.isThere, "no node-htcondor.tar among the test images: see Scripts/build-images"))
struct HTCondorTests {
    let clusters: ClusterFixture
    static let name = "pool"

    init() throws {
        clusters = try ClusterFixture()
        let created = try clusters.run(
            ["create", Self.name, "--scheduler", "htcondor", "--nodes", "3", "--cpus", "2"], limitSeconds: 120)
        try #require(created.status == 0, "\(created.errorText)")
    }

    /// Runs `text` on three machines by a job of the parallel universe, `meanwhile` beside it, and returns
    /// what number 0 wrote and then a line with its end as HTCondor logged it.
    private func job(_ text: String, meanwhile: String = "", limitSeconds: Double = 150) throws -> ProgramRun {
        let directory = (try Programs.path("trireme") as NSString).deletingLastPathComponent
        return try clusters.run(
            [
                "exec", Self.name, "--", "sh", "-c",
                """
                d=$(mktemp -d ~/.trireme-htcondor.XXXXXX); cd $d
                trap 'rm -rf "$d"' EXIT
                { printf '#!/bin/bash\\nexport TRIREME_STORE="%s" PATH="%s:/usr/bin:/bin" HOME="%s"\\n' "$TRIREME_STORE" '\(directory)' ~; cat; } >job <<'JOB'
                \(text)
                JOB
                chmod +x job
                cat >submit <<END
                universe = parallel
                executable = $d/job
                machine_count = 3
                request_cpus = 2
                allowed_job_duration = 3600
                should_transfer_files = NO
                initialdir = $d
                output = out.\\$(Node)
                error = err.\\$(Node)
                log = log
                queue
                END
                id=$(condor_submit -terse submit | sed 's/ .*//') || exit 1
                \(meanwhile)
                condor_wait -wait 120 log >/dev/null || condor_q -better-analyze $id
                cat out.0; cat out.1 out.2 err.? >&2
                grep -o 'termination (return value [0-9]*)\\|Job was aborted' log
                """,
            ], limitSeconds: limitSeconds)
    }

    /// What jobs left on the nodes, ten seconds later at the latest.
    private func isClean() throws -> Bool {
        let words = ["trireme-agent", "/.trireme/agent", "mpirun", "mpiexec", "orted", "mpi-hello", "condor_starter"]
        return try ClusterFixture.eventually(within: 10) {
            try clusters.processes(named: words, in: Self.name, on: ["ctl", "n1", "n2", "n3"]).isEmpty
        }
    }

    @Test func aJobOfTheParallelUniverse() throws {
        let run = try job(
            """
            [ $_CONDOR_PROCNO != 0 ] || trireme alloc show
            trireme run -n 6 -N 3 mpi-hello:openmpi mpi-hello
            trireme run -n 6 -N 3 --launcher direct mpi-hello:mpich mpi-hello
            trireme run -n 3 -N 3 --launcher direct mpi-hello:openmpi sh -c 'exit 7'
            """)
        #expect(run.lines.first == "system  condor", "\(run.outputText)\(run.errorText)")
        #expect(run.lines.contains { $0.hasPrefix("left    00:5") }, "\(run.outputText)")
        #expect(run.lines.contains("total   6 slots on 3 nodes"), "\(run.outputText)")
        for node in ["n1", "n2", "n3"] {
            #expect(
                run.lines.filter { $0.contains(" of 6 on \(node)") && $0.hasSuffix("sum 15") }.count == 4,
                "\(run.outputText)\(run.errorText)")
        }
        #expect(run.lines.last == "termination (return value 7)", "\(run.outputText)\(run.errorText)")
        let outside = try runProgram(
            [Programs.path("trireme"), "run", "--cluster", Self.name, "-n", "2", "mpi-hello:mpich", "mpi-hello"],
            environment: ["XDG_STATE_HOME": clusters.directory.path])
        #expect(
            outside.status == 125 && outside.errorText.contains("condor_submit")
                && outside.errorText.contains("[no-allocation]"), "\(outside.errorText)")
        #expect(try isClean())
    }

    @Test func aJobThatIsTakenAwayLeavesNothing() throws {
        let run = try job(
            "trireme run -n 6 -N 3 mpi-hello:mpich mpi-hello --sleep 90",
            meanwhile: """
                i=0; while [ "$(grep -c ' of 6 on ' out.0 2>/dev/null)" != 6 ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
                condor_rm $id
                """)
        #expect(run.lines.filter { $0.contains(" of 6 on n") }.count == 6, "\(run.outputText)\(run.errorText)")
        #expect(run.lines.last == "Job was aborted", "\(run.outputText)\(run.errorText)")
        #expect(try isClean())
    }
}
