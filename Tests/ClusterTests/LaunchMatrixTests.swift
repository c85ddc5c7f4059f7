import Foundation
import TestSupport
import Testing

/// Every way of starting every kind of image: six ranks, one job.
enum LaunchMatrix {
    static let isFull = ProcessInfo.processInfo.environment["TRIREME_TEST_FULL"] != nil

    /// `make test` takes one model and what no other test starts in these systems.
    static func combinations(isSlurm: Bool) -> [String] {
        let launchers = isFull ? ["mpirun", "direct"] + (isSlurm ? ["srun"] : []) : ["direct"]
        let models = isFull ? ["node", "rank"] : ["rank"]
        return ["openmpi", "mpich"].flatMap { kind in
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

    @Test func everyPairOnThisMachine() throws {
        let all = LaunchMatrix.combinations(isSlurm: false)
        let directory = (fixture.trireme as NSString).deletingLastPathComponent
        let run = try runProgram(
            ["sh", "-c", "PATH=\(directory):$PATH\n" + LaunchMatrix.script("--rm local", all)])
        #expect(run.lines == all.map { "6 \($0)" }, "\(run.errorText)")
    }
}
