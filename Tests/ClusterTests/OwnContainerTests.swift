import Foundation
import LinuxSystem
import TestSupport
import Testing

/// `--model process`: every rank in a container of its own, over two nodes, and one job all the same.
@Suite(.serialized) struct OwnContainerTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture(nodes: 2) }

    private static let nodes = ["ctl", "n1", "n2"]

    private func run(_ words: [String], input: String = "") throws -> ProgramRun {
        try fixture.run(["-n", "4", "-N", "2", "--model", "process"] + words, input: input)
    }

    /// How many different namespaces `name` four ranks see, as `model` has it.
    private func spaces(_ name: String, _ words: [String]) throws -> Int {
        let run = try fixture.run(
            ["-n", "4", "-N", "2"] + words
                // All are there at once: the number of one that is gone is given again.
                + ["sh", "-c", "readlink /proc/self/ns/\(name); sleep 2"])
        try #require(run.status == 0 && run.lines.count == 4, "\(run.outputText)\(run.errorText)")
        return Set(run.lines).count
    }

    @Test func ranksShareNoNamespacesOfTheContainer() throws {
        for launcher in ["srun", "direct"] {
            let own = ["--model", "process", "--launcher", launcher]
            for name in ["mnt", "user"] {
                #expect(try spaces(name, own + [JobFixture.mpich]) == 4, "\(launcher) \(name)")
            }
            #expect(try spaces("pid", own + [JobFixture.mpich]) == 2)
            for name in ["mnt", "pid", "uts", "cgroup"] {
                #expect(
                    try spaces(name, own + ["--profile", "isolated", JobFixture.mpich]) == 4,
                    "isolated \(launcher) \(name)")
            }
        }
        #expect(try spaces("mnt", ["--model", "rank", JobFixture.mpich]) == 2)
        // What one rank writes no other one sees.
        let files = try run(
            ["--writable-tmpfs", JobFixture.mpich, "sh", "-c", "ls /opt/seen 2>/dev/null; touch /opt/seen; sleep 1"])
        #expect(files.status == 0 && files.outputText.isEmpty, "\(files.outputText)\(files.errorText)")
    }

    @Test(arguments: [JobFixture.openMPI, JobFixture.mpich], ["srun", "direct"])
    func ranksAreOneJob(_ image: String, _ launcher: String) throws {
        for profile in ["hpc", "isolated"] {
            let how = ["--launcher", launcher, "--profile", profile]
            let job = try run(how + [image, "mpi-hello"])
            #expect(
                job.status == 0 && job.lines.filter { $0.hasSuffix("sum 6") }.count == 4,
                "\(profile)\(job.outputText)\(job.errorText)")
        }
        // What MPI says of its own accord when a way between processes does not work.
        let quiet = try run(["--launcher", launcher, image, "mpi-hello"])
        #expect(quiet.errorText.isEmpty, "\(quiet.errorText)")
        try expectNothingLeft()
    }

    /// Long messages, too, for which the libraries read each other's memory where they can.
    @Test(
        .enabled(if: access("/usr/bin/mpicc.openmpi", X_OK) == 0 && access("/usr/bin/mpicc.mpich", X_OK) == 0),
        arguments: ["openmpi", "mpich"], ["hpc", "isolated"])
    func messagesOfAllSizesArrive(_ kind: String, _ profile: String) throws {
        let directory = try TemporaryDirectory(under: NSHomeDirectory())
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../Probe/exchange.c"
        let program = directory.path + "/exchange"
        let made = try runProgram(["mpicc.\(kind)", "-O2", "-o", program, source])
        try #require(made.status == 0, "\(made.errorText)")
        for launcher in ["srun", "direct"] {
            // Without its own shared memory MPICH sends everything through UCX.
            for setting in kind == "mpich" ? ["MPIR_CVAR_NOLOCAL=0", "MPIR_CVAR_NOLOCAL=1"] : ["A=1"] {
                let run = try run(
                    ["--launcher", launcher, "--profile", profile, "-e", setting, "-B", directory.path]
                        + ["mpi-hello:" + kind, program])
                #expect(run.lines == ["wrong 0 of 4"], "\(launcher) \(setting) \(run.outputText)\(run.errorText)")
            }
        }
    }

    @Test func variablesAndInputReachTheRanks() throws {
        for launcher in ["srun", "direct"] {
            let run = try run(
                [
                    "--launcher", launcher, "--clean-env", "-e", "A=b c", "-l", JobFixture.mpich, "sh", "-c",
                    "echo $A $TRIREME_RANK $TRIREME_LOCAL_RANK $TRIREME_SIZE $TRIREME_NODE_RANK; cat",
                ], input: "for rank 0\n")
            #expect(
                run.lines.sorted() == [
                    "0: b c 0 0 4 0", "0: for rank 0", "1: b c 1 1 4 0", "2: b c 2 0 4 1", "3: b c 3 1 4 1",
                ], "\(launcher) \(run.outputText)\(run.errorText)")
        }
        let parts = try fixture.run([
            "-n", "1", "-N", "2", "--model", "process", "-e", "A=1", JobFixture.mpich, "sh", "-c", "echo $A", ":", "-n",
            "2", "-e", "A=2", JobFixture.mpich, "sh", "-c", "echo $A two",
        ])
        #expect(parts.lines.sorted() == ["1", "2 two", "2 two"], "\(parts.outputText)\(parts.errorText)")
    }

    @Test func endsAreThoseOfTheRanks() throws {
        for launcher in ["srun", "direct"] {
            let how = ["--launcher", launcher]
            let failing = try run(how + [JobFixture.openMPI, "mpi-hello", "--exit", "9@2", "--sleep", "60"])
            #expect(failing.status == 9 && failing.errorText.contains("rank 2 on n2 exited 9"), "\(failing.errorText)")
            for profile in ["hpc", "isolated"] {
                let killed = try run(
                    how + ["--profile", profile, JobFixture.mpich, "sh", "-c", "kill -9 $$; kill -9 0"])
                #expect(killed.status == 137, "\(profile) \(launcher) \(killed.status) \(killed.errorText)")
            }
            let missing = try run(how + [JobFixture.mpich, "no-such-program"])
            #expect(missing.status == 127 && missing.errorText.contains("no-such-program"), "\(missing.errorText)")
        }
        try expectNothingLeft()
    }

    /// TERM comes to every rank once, KILL after the grace, and nothing outlives either.
    @Test(arguments: ["srun", "direct"], ["hpc", "isolated"])
    func aJobThatIsEndedLeavesNothing(_ launcher: String, _ profile: String) throws {
        let how = ["--launcher", launcher, "--profile", profile, "--time", "2s", "--grace", "2"]
        let script = "trap 'echo heard' TERM; (setsid sleep 611 &); for i in $(seq 600); do sleep 0.1; done"
        let ended = try run(how + [JobFixture.mpich, "sh", "-c", script])
        #expect(ended.status == 124, "\(ended.errorText)")
        #expect(ended.lines == Array(repeating: "heard", count: 4), "\(ended.outputText)")
        try expectNothingLeft()
        // The container ends with its command, whatever that left behind.
        let over = try run(
            [
                "--launcher", launcher, "--profile", profile, JobFixture.mpich, "sh", "-c",
                "(setsid sleep 611 &); exit 0",
            ])
        #expect(over.status == 0, "\(over.errorText)")
        try expectNothingLeft()
    }

    /// 64 MiB for each: two ranks of a node have more together.
    @Test func limitsAreThoseOfEachRank() throws {
        let isDelegated = CgroupTree.current().legacy("memory")?.directory.map { access($0, W_OK) == 0 } ?? false
        func eaten(_ bytes: Int) throws -> ProgramRun {
            try run(
                ["--memory", "64m", JobFixture.mpich, "sh", "-c", "head -c \(bytes) /dev/zero | tail | wc -c; sleep 1"])
        }
        let fitting = try eaten(40_000_000)
        guard isDelegated else {
            #expect(fitting.status == 125 && fitting.errorText.contains("[limit-refused]"), "\(fitting.errorText)")
            return
        }
        #expect(fitting.lines == Array(repeating: "40000000", count: 4), "\(fitting.outputText)\(fitting.errorText)")
        let greedy = try eaten(200_000_000)
        #expect(greedy.errorText.contains("memory limit 64 MiB"), "\(greedy.errorText)")
    }

    @Test func whatCannotBeIsRefused() throws {
        func said(_ words: [String]) throws -> String { try run(words + [JobFixture.mpich, "true"]).errorText }
        #expect(try said(["--launcher", "mpirun"]).contains("mpi-mismatch"))
        #expect(try said(["--network", "job"]).contains("network-refused"))
        #expect(try said(["--shm-size", "1m"]).contains("option-value"))
        #expect(try said(["--unshare", "net"]).contains("isolation-unsupported"))
    }

    private func expectNothingLeft() throws {
        let found = try left()
        #expect(found.isEmpty, "\(found)")
    }

    /// Processes of jobs, and shared memory of theirs, ten seconds later.
    private func left() throws -> [String] {
        var found: [String] = []
        _ = try ClusterFixture.eventually(within: 10) {
            found =
                try fixture.leftovers(Self.nodes)
                + fixture.clusters.processes(named: ["sleep 611"], in: JobFixture.name, on: Self.nodes)
                + fixture.script("squeue -h").lines
                + Self.nodes.flatMap { node in
                    try fixture.clusters.run(
                        ["exec", JobFixture.name, node, "--", "sh", "-c", "ls -d /dev/shm/trireme-* 2>/dev/null"]
                    ).lines
                }
            return found.isEmpty
        }
        return found
    }
}
