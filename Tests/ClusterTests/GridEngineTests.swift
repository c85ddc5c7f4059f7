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
            try clusters.processes(named: words, in: Self.name, on: ["ctl", "n1", "n2", "n3"]).isEmpty
        }
    }

    @Test func itsOwnCommandsWorkAndAJobStartsItsAgentsByQrsh() throws {
        let queue = try clusters.exec(Self.name, "--", "qstat", "-f")
        #expect(queue.lines.filter { $0.hasPrefix("all.q@n") && $0.contains("0/0/2") }.count == 3)
        let status = try clusters.status(Self.name)
        #expect(
            status.nodes.map { $0.services.map(\.name) } == [["sge_qmaster"]]
                + Array(repeating: ["sge_execd"], count: 3))
        #expect(try clusters.run(["logs", Self.name, "sge_qmaster"]).outputText.contains("starting up SGE"))
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
        try fromOutside()
        #expect(try isClean())
    }

    /// `trireme run --cluster`: standard input, words and the exit code pass through `qrsh`; too much is refused.
    private func fromOutside() throws {
        func run(_ words: [String]) throws -> ProgramRun {
            try runProgram(
                [Programs.path("trireme"), "run", "--cluster", Self.name] + words,
                environment: ["XDG_STATE_HOME": clusters.directory.path], input: Data("from outside\n".utf8),
                limitSeconds: 120)
        }
        let job = try run(["-n", "6", "-N", "3", "mpi-hello:mpich", "mpi-hello"])
        #expect(job.status == 0 && job.lines.filter { $0.hasSuffix("sum 15") }.count == 6, "\(job.errorText)")
        let words = try run([
            "-n", "2", "-N", "2", "--launcher", "direct", "-e", "SAID=a  'b'", "mpi-hello:mpich", "sh", "-c",
            "[ $RANK = 1 ] || { cat; echo \"$SAID|$1\"; exit 7; }", "sh", "c  \"d\" *",
        ])
        #expect(words.status == 7 && words.lines == ["from outside", "a  'b'|c  \"d\" *"], "\(words.errorText)")
        let large = try run(["-n", "7", "mpi-hello:mpich", "true"])
        #expect(large.status == 125 && large.errorText.contains("cluster '\(Self.name)'"), "\(large.errorText)")
        let killed = try runProgram(
            [
                "timeout", "--foreground", "-s", "KILL", "4", Programs.path("trireme"), "run", "--cluster", Self.name,
                "-n", "2", "-N", "2", "mpi-hello:mpich", "mpi-hello", "--sleep", "90",
            ], environment: ["XDG_STATE_HOME": clusters.directory.path])
        #expect(killed.status == 137 && killed.seconds < 30, "\(killed.errorText)")
        #expect(
            try ClusterFixture.eventually(within: 10) { try clusters.exec(Self.name, "--", "qstat").outputText.isEmpty }
        )
    }

    /// `-it` from outside: our terminal is rank 0's, through qrsh and its pseudo terminal.
    @Test func theTerminalReachesRankZero() throws {
        let program = #"""
            import os, pty, re, sys
            pid, master = pty.fork()
            if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
            seen = b""
            def until(text):
                global seen
                while text not in seen:
                    try: more = os.read(master, 4096)
                    except OSError: break
                    if not more: break
                    seen += more
            until(b"<ready>")
            os.write(master, b"hello\n")
            until(b"<hello>")
            print("terminal", b"<tty>" in seen)
            print("line", b"<hello>" in seen)
            until(b"<never>")
            print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            if b"<hello>" not in seen: print(seen.decode(errors="replace"))
            """#
        let run = try runProgram(
            [
                "timeout", "100", "python3", "-c", program, Programs.path("trireme"), "run", "--cluster", Self.name,
                "-it",
                "-n", "2", "--launcher", "direct", "mpi-hello:mpich", "sh", "-c",
                "[ $TRIREME_RANK = 0 ] || exit 0; [ -t 0 ] && echo '<tty>'; echo '<ready>'; read line; echo \"<$line>\"; exit 4",
            ], environment: ["XDG_STATE_HOME": clusters.directory.path], directory: NSHomeDirectory(), limitSeconds: 120
        )
        #expect(run.lines == ["terminal True", "line True", "status 4"], "\(run.outputText)\(run.errorText)")
    }

    /// The leader dies with its script; what it started on the other nodes is not in the job's process group,
    /// and ends all the same.
    @Test func aJobThatIsTakenAwayLeavesNothing() throws {
        let directory = (try Programs.path("trireme") as NSString).deletingLastPathComponent
        let run = try clusters.run(
            [
                "exec", Self.name, "--", "sh", "-c",
                """
                d=$(mktemp -d ~/.trireme-gridengine.XXXXXX)
                trap 'rm -rf "$d"' EXIT
                cat >$d/job <<JOB
                export TRIREME_STORE='$TRIREME_STORE' PATH='\(directory)':\\$PATH
                trireme run -n 6 -N 3 mpi-hello:mpich mpi-hello --sleep 90
                JOB
                job=$(qsub -terse -pe mpi 6 -o $d/out -e $d/err -cwd $d/job)
                i=0; while [ "$(grep -c ' of 6 on ' $d/out 2>/dev/null)" != 6 ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
                cat $d/out
                qdel $job
                i=0; while qstat -j $job >/dev/null 2>&1 && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
                cat $d/err >&2
                """,
            ], limitSeconds: 180)
        #expect(run.lines.filter { $0.contains(" of 6 on n") }.count == 6, "\(run.outputText)\(run.errorText)")
        #expect(run.outputText.contains("has registered the job"), "\(run.outputText)\(run.errorText)")
        // The tasks on the other nodes may be ended before the leader, which then says what to look at.
        #expect(
            run.errorText.isEmpty || run.errorText.contains("qstat -j 1 and qhost show"),
            "\(run.outputText)\(run.errorText)")
        #expect(try isClean())
    }

    @Test func everyPair() throws {
        let all = LaunchMatrix.combinations(isSlurm: false)
        let run = try job(LaunchMatrix.script("-N 3", all), limitSeconds: 300)
        #expect(run.lines == all.map { "6 \($0)" } + ["status 0"], "\(run.errorText)")
        #expect(try isClean())
    }

}

/// Grid Engine clusters that do not come to be.
@Suite struct GridEngineFailureTests {
    let clusters: ClusterFixture
    init() throws { clusters = try ClusterFixture() }

    @Test func anotherSystemsImageIsNone() throws {
        let run = try clusters.run(["create", "other", "--scheduler", "gridengine", "--image", "trireme-node"])
        #expect(run.status == 125)
        #expect(
            run.errorText.contains("it has no /usr/lib/gridengine/sge_qmaster")
                && run.errorText.contains("[node-image-unfit]"))
    }

    /// A master whose spool knows no node turns them away: the node's daemon says so and ends.
    @Test func aDaemonThatExits() throws {
        let empty = try TemporaryDirectory()
        let run = try clusters.run([
            "create", "bad", "--scheduler", "gridengine", "--nodes", "1", "--bind",
            "\(empty.path):/var/spool/gridengine/qmaster",
        ])
        #expect(run.status == 125)
        #expect(run.errorText.contains("✓ controller: sge_qmaster on ctl\n"), "\(run.errorText)")
        #expect(run.errorText.contains("last lines of n1.sge_execd.log:\n"), "\(run.errorText)")
        #expect(run.errorText.contains("| critical error: can't get configuration"), "\(run.errorText)")
        #expect(run.errorText.contains("sge_execd on n1 exited 1: critical error"), "\(run.errorText)")
        #expect(run.errorText.contains("[cluster-start-failed]"))
        #expect(try clusters.run(["ls", "-q"]).lines.isEmpty)
    }
}
