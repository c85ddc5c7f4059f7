import Foundation
import TestSupport
import Testing

/// Real MPI programs in containers over real Slurm.
@Suite(.serialized) struct JobTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture() }

    /// Rank, size and node of each `rank R of N on HOST …` line.
    private func places(_ run: ProgramRun) -> [Int: String] {
        var found: [Int: String] = [:]
        for line in run.lines {
            let words = line.split(separator: " ").map(String.init)
            if words.count > 5, words[0] == "rank", let rank = Int(words[1]), words[3] == "6" { found[rank] = words[5] }
        }
        return found
    }
    private let expected = [0: "n1", 1: "n1", 2: "n2", 3: "n2", 4: "n3", 5: "n3"]

    @Test(arguments: [JobFixture.openMPI, JobFixture.mpich], ["node", "rank"])
    func everyRankRunsWhereItShould(_ image: String, _ model: String) throws {
        let run = try fixture.run(["-n", "6", "-N", "3", "--model", model, image, "mpi-hello"])
        #expect(run.status == 0 && places(run) == expected, "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.isEmpty)
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    /// No launcher in the image, none of the batch system: the agents start the ranks and serve them PMI,
    /// or PMIx through the image's own libpmix.
    @Test(arguments: [JobFixture.openMPI, JobFixture.mpich], ["node", "rank"])
    func agentsServeProcessManagementThemselves(_ image: String, _ model: String) throws {
        for _ in 0..<2 {
            let run = try fixture.run(
                ["-n", "6", "-N", "3", "--launcher", "direct", "--model", model, image, "mpi-hello"])
            #expect(run.status == 0 && places(run) == expected, "\(run.outputText)\(run.errorText)")
            #expect(run.lines.allSatisfy { $0.hasSuffix("sum 15") })
            #expect(run.errorText.isEmpty)
        }
        let aborted = try fixture.run(
            [
                "-n", "4", "-N", "2", "--launcher", "direct", "--model", model, image, "mpi-hello", "--abort", "7@2",
                "--sleep", "60",
            ])
        #expect(aborted.status == 7 && aborted.errorText.contains("rank 2 on n2 exited 7"), "\(aborted.errorText)")
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    /// A program of MPI whose ranks never found each other: what would pass for success is said.
    @Test func ranksThatNeverMetAreNoticed() throws {
        let run = try fixture.run(["-n", "2", "--launcher", "direct", JobFixture.openMPI, "ompi_info", "--version"])
        #expect(
            run.status == 0 && run.errorText.contains("none of the 2 ranks called MPI_Init"),
            "\(run.outputText)\(run.errorText)")
        let fine = try fixture.run(["-n", "2", "--launcher", "direct", JobFixture.openMPI, "hostname"])
        #expect(fine.status == 0 && fine.errorText.isEmpty, "\(fine.errorText)")
    }

    @Test func labelsStreamsAndVariables() throws {
        let script =
            "echo $TRIREME_RANK $TRIREME_LOCAL_RANK $TRIREME_SIZE $TRIREME_NODE_RANK $TRIREME_NODELIST; echo e >&2"
        for launcher in ["auto", "direct"] {
            let run = try fixture.run(
                ["-n", "4", "-N", "2", "-l", "--launcher", launcher, JobFixture.mpich, "sh", "-c", script])
            #expect(
                run.lines.sorted() == [
                    "0: 0 0 4 0 n[1-2]", "1: 1 1 4 0 n[1-2]", "2: 2 0 4 1 n[1-2]", "3: 3 1 4 1 n[1-2]",
                ], "\(run.outputText)\(run.errorText)")
            #expect(run.errorText.split(separator: "\n").sorted() == ["0: e", "1: e", "2: e", "3: e"])
        }
    }

    @Test(
        arguments: [JobFixture.openMPI, JobFixture.mpich],
        [["--model", "node"], ["--model", "rank"], ["--launcher", "direct"]])
    func standardInputIsRankZeros(_ image: String, _ how: [String]) throws {
        let text = String(repeating: "0123456789abcde\n", count: 100_000)
        let run = try fixture.run(["-n", "2", "-N", "2"] + how + [image, "cat"], input: text)
        #expect(run.status == 0 && run.outputText == text, "\(run.errorText)")
    }

    @Test func everyWayIntoAnAllocation() throws {
        let job = "trireme run -n 2 -N 2 --launcher direct \(JobFixture.openMPI) hostname"
        #expect(try fixture.script("salloc -Q -N 2 -n 2 \(job)").lines.sorted() == ["n1", "n2"])
        #expect(try fixture.script("salloc -Q -N 2 -n 2 srun -Q -N 1 -n 1 \(job)").lines.sorted() == ["n1", "n2"])
        // Four tasks of a step, one job: only the first leads.
        #expect(try fixture.script("srun -Q -N 2 -n 2 --overlap \(job)").lines.sorted() == ["n1", "n2"])
        let batch = try fixture.script(
            "cd; printf '#!/bin/sh\\nPATH=%s\\n\(job)\\n' \"$PATH\" >job.$$; sbatch -Q -W -N 2 -n 2 -o out.$$ job.$$; sort out.$$; rm job.$$ out.$$"
        )
        #expect(batch.lines.suffix(2) == ["n1", "n2"], "\(batch.outputText)\(batch.errorText)")
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    /// A name that does not resolve costs OpenMPI five seconds at every start. The benchmark gives the
    /// real figure; machines that run tests are too busy for it.
    @Test(arguments: ["openmpi", "mpich"]) func startWaitsForNoTimeout(_ kind: String) throws {
        let run = try fixture.script(
            """
            salloc -Q -N 3 -n 6 sh -c 'for i in 1 2 3 4 5; do
            s=$(date +%s%N); trireme run -n 6 -N 3 mpi-hello:\(kind) mpi-hello | tail -n 1 >/dev/null
            echo $(( ($(date +%s%N) - s) / 1000000 )); done'
            """)
        let best = run.lines.compactMap { Double($0) }.min() ?? .infinity
        #expect(best / 1000 < 5, "\(run.outputText)\(run.errorText)")
    }
}
