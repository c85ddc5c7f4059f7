import JobModel
import ResourceManagers
import TestSupport
import Testing

/// Numbers in the variables, files and answers of batch systems.
@Suite struct BatchNumberTests {
    /// Whatever one of them says, an allocation is read or refused, and its slots can be added up.
    @Test(arguments: Stand.all.keys.sorted()) func extremes(_ system: String) throws {
        let stand = try #require(Stand.all[system])
        for number in ExtremeNumbers.all {
            func changed(_ text: String) -> String { text.replacing(/[0-9]+/, with: number) }
            for name in stand.variables.keys {
                var one = stand
                one.variables[name] = stand.variables[name].map(changed)
                check(system, one)
            }
            for name in stand.files.keys {
                var one = stand
                one.files[name] = stand.files[name].map(changed)
                check(system, one)
            }
            var all = stand
            all.variables = stand.variables.mapValues(changed)
            all.files = stand.files.mapValues(changed)
            all.commands = stand.commands.mapValues(changed)
            check(system, all)
        }
    }

    private func check(_ system: String, _ stand: Stand) {
        let surroundings = stand.surroundings
        _ = Detection.isFollower(surroundings)
        guard let found = try? Detection.allocation(named: system, in: surroundings) else { return }
        #expect(found.slots >= 0)
    }

    @Test func timeLeft() {
        for number in ExtremeNumbers.all {
            for text in [number, "\(number)-\(number):\(number):\(number)", "1-\(number)", "\(number):\(number) L"] {
                for system in ["slurm", "pbs", "lsf", "flux", "sge"] {
                    let allocation = Allocation(system: system, jobID: "7", nodes: [.init(name: "n1", slots: 1)])
                    let surroundings = Surroundings(
                        environment: { _ in nil }, file: { _ in nil },
                        output: { words in
                            if words[0] == "date" { return "1700000000" }
                            if words[0] != "qstat" { return text }
                            return "Walltime.Remaining = \(text)\nResource_List.walltime = \(text)\nstime = now\n"
                        }, now: { 1_700_000_000 })
                    let end = Detection.endTime(of: allocation, in: surroundings)
                    #expect(end.map { $0 > 0 && $0 < 1 << 50 } ?? true, "\(system) \(text)")
                }
            }
        }
    }
}
