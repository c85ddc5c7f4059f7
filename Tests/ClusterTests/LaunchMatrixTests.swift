import Foundation
import TestSupport
import Testing

/// Every way of starting every kind of image: six ranks, one job.
enum LaunchMatrix {
    static let isFull = ProcessInfo.processInfo.environment["TRIREME_TEST_FULL"] != nil
    /// Its image comes from another release of Debian than the rest, which a machine may not reach.
    static let hasOpenMPI5 = FileManager.default.fileExists(
        atPath: (ProcessInfo.processInfo.environment["TRIREME_TEST_IMAGES"] ?? "/nowhere") + "/mpi-hello-openmpi5.tar")

    /// `make test` takes one model and what no other test starts in these systems.
    static func combinations(isSlurm: Bool) -> [String] {
        let launchers = isFull ? ["mpirun", "direct"] + (isSlurm ? ["srun"] : []) : ["direct"]
        let models = isFull ? ["node", "rank"] : ["rank"]
        let kinds = ["openmpi", "mpich"] + (isFull && hasOpenMPI5 ? ["openmpi5"] : [])
        return kinds.flatMap { kind in
            models.flatMap { model in
                launchers.map { "\($0) --model \(model) mpi-hello:\(kind)" }
            }
        }
    }

    /// A line per combination: how many ranks said what they should, then the combination.
    static func script(_ options: String, _ combinations: [String]) -> String {
        combinations.map {
            "echo \"$(trireme run \(options) -n 6 --launcher \($0) mpi-hello | grep -c ' of 6 .* sum 15$') \($0)\""
        }.joined(separator: "\n")
    }
}

/// The matrix under Slurm, plain hosts and this machine; `GridEngineTests` has its own.
extension BatchSystemTests {
    @Test(arguments: systems.filter { $0.name == "ssh" })
    func everyPairUnder(_ system: System) throws {
        let all = LaunchMatrix.combinations(isSlurm: false)
        let run = try job(system, LaunchMatrix.script("-N 3 \(system.options)", all))
        #expect(run.lines == all.map { "6 \($0)" }, "\(run.errorText)")
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test(.enabled(if: LaunchMatrix.isFull)) func everyPairUnderSlurm() throws {
        let all = LaunchMatrix.combinations(isSlurm: true)
        let lines = LaunchMatrix.script("-N 3", all)
        let run = try fixture.script(
            "cat >~/matrix.$$ <<'END'\n\(lines)\nEND\nsalloc -Q -N 3 -n 6 sh ~/matrix.$$; rm ~/matrix.$$")
        #expect(run.lines == all.map { "6 \($0)" }, "\(run.errorText)")
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    /// Open MPI 5 has its settings under other names than 4: nothing of it in /tmp, ranks bound to nothing, and no
    /// word about an srun that the image does not have.
    @Test(.enabled(if: LaunchMatrix.isFull && LaunchMatrix.hasOpenMPI5, "no mpi-hello-openmpi5.tar"))
    func openMPI5IsQuiet() throws {
        let run = try fixture.script(
            """
            salloc -Q -N 2 -n 4 trireme run -n 4 -N 2 --launcher mpirun mpi-hello:openmpi5 \\
                sh -c 'sleep 0.5; echo $(nproc) $(ls -d /tmp/prte* /tmp/ompi* 2>/dev/null | wc -l)'
            """)
        #expect(
            run.lines == Array(repeating: "2 0", count: 4) && run.errorText.isEmpty, "\(run.outputText)\(run.errorText)"
        )
    }

    @Test func everyPairOnThisMachine() throws {
        let all = LaunchMatrix.combinations(isSlurm: false)
        let directory = (fixture.trireme as NSString).deletingLastPathComponent
        let run = try runProgram(
            ["sh", "-c", "PATH=\(directory):$PATH\n" + LaunchMatrix.script("--rm local", all)])
        // Silence: ranks on one node meet without the leader.
        #expect(run.lines == all.map { "6 \($0)" } && run.errorText.isEmpty, "\(run.errorText)")
    }
}
