import TestSupport
import Testing

/// What the command line says of ranks, in real jobs over two nodes.
@Suite(.serialized) struct RankOptionTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture(nodes: 2) }

    @Test func everyRankWritesItsOwnFile() throws {
        let run = try fixture.script(
            """
            cd; d=$(mktemp -d ./ranks.XXXXXX)
            salloc -Q -N 2 -n 4 trireme run -n 3 -N 2 -o $d/%r-%R-%n-%h-%% \(JobFixture.mpich) sh -c 'echo out $TRIREME_RANK; echo err >&2'
            echo status $?; ls $d; for i in $d/0* $d/1* $d/2*; do sort $i; done; rm -r $d
            """)
        let files = run.lines.dropFirst().prefix(3)
        #expect(run.lines.first == "status 0" && run.errorText.isEmpty, "\(run.outputText)\(run.errorText)")
        // Three ranks over two nodes: the first node takes the odd one.
        #expect(files == ["0-0-0-n1-%", "1-1-0-n1-%", "2-0-1-n2-%"], "\(run.outputText)")
        #expect(run.lines.suffix(6) == ["err", "out 0", "err", "out 1", "err", "out 2"], "\(run.outputText)")
    }

    /// Each part with its own ranks and variables, numbered through, whoever starts them.
    @Test(arguments: [
        (JobFixture.openMPI, ["--launcher", "mpirun"]), (JobFixture.mpich, ["--launcher", "mpirun"]),
        (JobFixture.openMPI, ["--launcher", "direct"]), (JobFixture.mpich, ["--launcher", "direct"]),
        (JobFixture.mpich, ["--launcher", "srun"]),
    ])
    func partsOfAJobRunTheirOwnCommands(_ image: String, _ how: [String]) throws {
        let say = "echo $TRIREME_RANK ${A-no} ${B-no} $TRIREME_SIZE"
        let run = try fixture.run(
            ["-n", "1", "-N", "2", "-e", "A=1"] + how
                + [image, "sh", "-c", say, ":", "-n", "2", "-e", "B=2", image, "sh", "-c", say + " two"]
                + [":", "-n", "1", image, "echo", ":", "three"])
        #expect(run.status == 0, "\(run.errorText)")
        #expect(run.lines.sorted() == ["0 1 no 4", "1 no 2 4 two", "2 no 2 4 two", ": three"], "\(run.outputText)")
        let program = try fixture.run(
            ["-n", "1", "-N", "2"] + how
                // Who sleeps is not the first to fail for want of rank 2.
                + [image, "mpi-hello", "--sleep", "60", ":", "-n", "3", image, "mpi-hello"]
                + ["--exit", "9@2", "--sleep", "60"])
        #expect(program.status == 9 && program.errorText.contains("rank 2 on"), "\(program.errorText)")
    }

    @Test func partsThatCannotBeAreRefused() throws {
        func said(_ words: [String]) throws -> String { try fixture.run(["-n", "1"] + words).errorText }
        let image = JobFixture.mpich
        #expect(try said([image, "true", ":", "-n", "1", JobFixture.openMPI, "true"]).contains("[parts-differ]"))
        #expect(try said([image, "true", ":", "-n", "0", image, "true"]).contains("[option-value]"))
        #expect(try said([image, "true", ":", "-n", "1", "-w", "/", image, "true"]).contains("[option-unknown]"))
        #expect(try said([image, "true", ":", "-n", "1"]).contains("[no-image]"))
    }

    @Test func outputThatCannotBeKeptEndsTheJob() throws {
        let run = try fixture.run(
            ["-n", "2", "-N", "2", "-o", "/dev/full", JobFixture.mpich, "sh", "-c", "echo lost; sleep 60"])
        #expect(run.status == 125 && run.errorText.contains("output-lost"), "\(run.errorText)")
        let nonsense = try fixture.run(["-n", "2", "-o", "%x", JobFixture.mpich, "true"])
        #expect(nonsense.status == 125 && nonsense.errorText.contains("'%x' stands for nothing"))
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test func othersGoOnWhenToldSo() throws {
        let run = try fixture.run(
            [
                "-n", "4", "-N", "2", "--keep-going", JobFixture.openMPI, "sh", "-c",
                "[ $TRIREME_RANK = 0 ] && exit 3; sleep 1; echo done",
            ])
        #expect(run.status == 3 && run.lines == ["done", "done", "done"], "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.contains("rank 0 on n1 exited 3; the others go on"))
    }

    @Test(arguments: ["direct", "mpirun"]) func theClockEndsTheJob(_ launcher: String) throws {
        let run = try fixture.run(
            ["-n", "2", "-N", "2", "--time", "2s", "--launcher", launcher, JobFixture.mpich, "sleep", "90"])
        #expect(run.status == 124 && run.errorText.contains("the time limit of 2.0 s is over"), "\(run.errorText)")
        #expect(run.seconds < 60)
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test(arguments: [["--launcher", "direct"], ["--launcher", "mpirun"], ["--model", "rank"]])
    func ranksAreBound(_ how: [String]) throws {
        let run = try fixture.run(
            ["-n", "4", "-N", "2", "--bind-to", "core"] + how + [
                JobFixture.mpich, "sh", "-c",
                "echo $TRIREME_LOCAL_RANK $TRIREME_LOCAL_SIZE $(grep Cpus_allowed_list /proc/self/status)",
            ])
        let cores = Dictionary(grouping: run.lines) { $0.prefix(1) }.mapValues { Set($0) }
        // Two ranks a node, so two different processors, the same on both nodes: they are one machine.
        #expect(run.status == 0 && cores.count == 2 && cores.values.allSatisfy { $0.count == 1 }, "\(run.outputText)")
        #expect(Set(run.lines.map { $0.split(separator: " ").last }).count == 2, "\(run.outputText)")
    }

    @Test func processorsOfARankCount() throws {
        let run = try fixture.run(
            ["-n", "2", "-N", "2", "-c", "2", JobFixture.mpich, "sh", "-c", "echo $OMP_NUM_THREADS"])
        #expect(run.status == 0 && run.lines == ["2", "2"], "\(run.outputText)\(run.errorText)")
        let refused = try fixture.script("salloc -Q -N 2 -n 4 trireme run -n 3 -c 2 \(JobFixture.mpich) true")
        #expect(refused.status == 125 && refused.errorText.contains("too-few-slots"), "\(refused.errorText)")
    }

    /// What users compile lies in their directory, not in the image, and a shell does not tell what it will start.
    @Test func programsOutsideTheImageAreOneJob() throws {
        let run = try fixture.script(
            """
            mkdir ~/own.$$ && cd ~/own.$$ || exit 1
            trireme run \(JobFixture.openMPI) cat /usr/local/bin/mpi-hello >hello && chmod 755 hello
            cat >job <<'END'
            for how in ./hello "sh -c ./hello"; do trireme run -n 4 -N 2 --launcher direct \(JobFixture.openMPI) $how; done
            ask() { "$@" trireme run -n 2 -N 2 --launcher mpirun \(JobFixture.openMPI) sh -c 'echo "[$HWLOC_PLUGINS_BLACKLIST]"'; }
            ask
            ask env HWLOC_PLUGINS_BLACKLIST=mine
            END
            salloc -Q -N 2 -n 4 sh job
            rm -r ~/own.$$
            """)
        #expect(run.lines.filter { $0.contains(" of 4 ") && $0.contains("sum 6") }.count == 8, "\(run.outputText)")
        // What mpirun's daemons do without is not the ranks'.
        #expect(run.lines.suffix(4) == ["[]", "[]", "[mine]", "[mine]"], "\(run.outputText)\(run.errorText)")
    }

    @Test func theChoiceOfLauncherIsExplained() throws {
        let run = try fixture.run(["-n", "4", "-N", "2", "--explain", "launch", JobFixture.openMPI, "mpi-hello"])
        #expect(run.status == 0, "\(run.errorText)")
        for line in [
            "libpmix /usr/lib", "chosen       mpirun: the image has its MPI's own launcher",
            "direct       possible: trireme's agents start the ranks and serve them PMIx", "srun         possible",
        ] {
            #expect(run.outputText.contains(line), "no '\(line)' in\n\(run.outputText)")
        }
        let rank = try fixture.run(
            ["-n", "4", "-N", "2", "--model", "rank", "--explain", "launch", JobFixture.mpich, "mpi-hello"])
        #expect(rank.outputText.contains("chosen       direct: --model rank, and MPICH may hang"), "\(rank.outputText)")
        let open = try fixture.run(
            ["-n", "4", "-N", "2", "--model", "rank", "--explain", "launch", JobFixture.openMPI, "mpi-hello"])
        #expect(open.outputText.contains("chosen       srun: --model rank in a Slurm allocation"), "\(open.outputText)")
        let local = try runProgram(
            [
                fixture.trireme, "run", "--rm", "local", "-n", "2", "--model", "rank", "--explain", "launch",
                JobFixture.mpich, "mpi-hello",
            ])
        #expect(local.outputText.contains("srun         not possible: this is no Slurm"), "\(local.errorText)")
    }
}
