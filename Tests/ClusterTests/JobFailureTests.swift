import Foundation
import TestSupport
import Testing

/// Jobs that fail say so, give the right code, and leave nothing on any node.
@Suite(.serialized) struct JobFailureTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture() }

    private static let images = [JobFixture.openMPI, JobFixture.mpich]

    @Test(arguments: images, ["node", "rank"])
    func theFirstFailingRankDecides(_ image: String, _ model: String) throws {
        let run = try fixture.run(
            ["-n", "6", "-N", "3", "--model", model, image, "mpi-hello", "--exit", "42@3", "--sleep", "60"])
        #expect(run.status == 42 && run.errorText == "trireme: rank 3 on n2 exited 42\n", "\(run.errorText)")
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test(arguments: images)
    func signalsAbortsAndStubbornRanks(_ image: String) throws {
        let signaled = try fixture.run(
            ["-n", "6", "-N", "3", image, "mpi-hello", "--signal", "9@4", "--sleep", "60"])
        #expect(signaled.status == 137 && signaled.errorText.contains("rank 4 on n3 was ended by signal 9"))
        let aborted = try fixture.run(["-n", "6", "-N", "3", image, "mpi-hello", "--abort", "7@2", "--sleep", "60"])
        #expect(aborted.status == 7, "\(aborted.errorText)")
        let stubborn = try fixture.run(
            ["-n", "6", "-N", "3", "--grace", "1", image, "mpi-hello", "--exit", "3@0", "--sleep", "60", "--stubborn"])
        #expect(stubborn.status == 3 && stubborn.seconds < 20)
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test(arguments: images)
    func commandsThatAreNotThere(_ image: String) throws {
        let missing = try fixture.run(["-n", "2", "-N", "2", image, "no-such-program"])
        #expect(missing.status == 127 && missing.errorText.contains("[command-not-found]"), "\(missing.errorText)")
        #expect(missing.errorText.contains("no-such-program"))
        let unfit = try fixture.run(["-n", "2", "-N", "2", image, "/etc/passwd"])
        #expect(unfit.status == 126 && unfit.errorText.contains("[command-not-executable]"), "\(unfit.errorText)")
    }

    @Test func requestsThatCannotBe() throws {
        func said(_ words: String) throws -> String {
            let run = try fixture.script("salloc -Q -N 2 -n 4 trireme run \(words); echo $? >&2")
            return run.errorText
        }
        #expect(try said("-n 5 \(JobFixture.openMPI) true").contains("[too-few-slots]"))
        #expect(try said("-n 4 -N 3 \(JobFixture.openMPI) true").contains("[too-few-nodes]"))
        #expect(try said("-n 2 no-such-image true").contains("[image-not-found]"))
        let mismatch = try said("-n 2 --model rank --mpi pmix \(JobFixture.mpich) mpi-hello")
        #expect(mismatch.contains("[mpi-mismatch]") && mismatch.hasSuffix("125\n"))
        let port = try said("-n 2 --port 6817 \(JobFixture.openMPI) true")
        #expect(port.contains("[port-unusable]") && port.contains("address already in use"))
        let outside = try fixture.script("trireme run -n 4 -N 2 \(JobFixture.openMPI) true")
        #expect(outside.status == 125 && outside.errorText.contains("[no-allocation]"))
    }

    /// How a running job is ended from outside; `$p` is the leader.
    static let endings = [
        "kill -9 $p", "kill -TERM $p", "kill -INT $p; sleep 0.2; kill -INT $p", "scancel -f $SLURM_JOB_ID",
        "srun --overlap -Q -w n2 -N1 -n1 pkill -9 -f trireme-agent.--serve",
        "srun --overlap -Q -w n2 -N1 -n1 pkill -9 -n -f trireme-agent.--serve",
    ]

    @Test(arguments: endings, [("node", "openmpi"), ("node", "mpich"), ("rank", "openmpi"), ("rank", "mpich")])
    func nothingIsLeftHoweverItEnds(_ ending: String, _ how: (model: String, kind: String)) throws {
        let run = try fixture.script(
            """
            salloc -Q -N 2 -n 4 sh -c 'o=$(mktemp)
            trireme run -n 4 -N 2 --grace 2 --model \(how.model) mpi-hello:\(how.kind) mpi-hello --sleep 90 >$o </dev/null & p=$!
            i=0; while [ $(grep -c ^rank $o) != 4 ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
            grep -c ^rank $o; rm $o; \(ending); wait $p; echo status $?'
            """)
        #expect(run.lines.first == "4", "\(run.outputText)\(run.errorText)")
        if !ending.contains("scancel") {
            let code = run.lines.last ?? ""
            #expect(["status 137", "status 143", "status 130", "status 125"].contains(code), "\(code)")
        }
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test func aKilledRunFromOutsideGivesTheAllocationBack() throws {
        let run = try runProgram(
            [
                "timeout", "--foreground", "-s", "KILL", "4", fixture.trireme, "run", "--cluster", JobFixture.name,
                "-n", "2", "-N", "2", JobFixture.openMPI, "mpi-hello", "--sleep", "90",
            ],
            environment: ["XDG_STATE_HOME": fixture.clusters.directory.path])
        #expect(run.status == 137)
        // Whoever still held the streams would have kept us waiting until the job's own end.
        #expect(run.seconds < 30)
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }
}
