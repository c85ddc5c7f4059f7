import JobModel
import Testing

@Suite struct LaunchDecisionTests {
    private func choice(
        _ possible: Set<LauncherChoice>, isMPICH: Bool, _ change: (inout LaunchDecision) -> Void = { _ in }
    ) throws(LaunchDecision.Refusal) -> LauncherChoice {
        var decision = LaunchDecision(image: "i", hasMPI: true, isMPICH: isMPICH) {
            possible.contains($0) ? nil : "no \($0)"
        }
        change(&decision)
        return try decision.choose().launcher
    }

    private static let all: [LauncherChoice] = [.mpirun, .direct, .srun]
    /// Every set of ways that can be possible.
    private static let sets = (0..<8).map { bits in Set(all.indices.filter { bits >> $0 & 1 == 1 }.map { all[$0] }) }

    /// MPICH hangs under Slurm's PMI-2 natively: whatever is possible, srun is taken only when it is asked for.
    @Test(arguments: sets, ContainerModel.allCases)
    func mpichIsNeverSlurmsByItself(_ possible: Set<LauncherChoice>, _ model: ContainerModel) throws {
        for keepsGoing in [false, true] {
            let chosen = try? choice(possible, isMPICH: true) {
                $0.model = model
                $0.keepsGoing = keepsGoing
            }
            #expect(chosen != .srun)
            #expect(chosen != nil || !possible.contains(.direct))
        }
        guard possible.contains(.srun) else { return }
        #expect(try choice(possible, isMPICH: true) { $0.launcher = .srun } == .srun)
        #expect(
            try choice(possible, isMPICH: true) {
                $0.model = .rank
                $0.processManagement = .pmi2
            } == .srun)
    }

    /// mpirun runs in a container and makes no others.
    @Test func ranksWithAContainerEachAreNoLaunchersOfTheImage() throws {
        func chosen(_ possible: Set<LauncherChoice>) throws -> LauncherChoice {
            try choice(possible, isMPICH: false) { $0.model = .process }
        }
        #expect(try chosen([.mpirun, .direct, .srun]) == .srun)
        #expect(try chosen([.mpirun, .direct]) == .direct)
        #expect(throws: LaunchDecision.Refusal(subject: "--model process", obstacle: "no srun")) {
            try chosen([.mpirun])
        }
    }

    @Test func openMPITakesTheFirstThatIsPossible() throws {
        #expect(try choice([.mpirun, .direct, .srun], isMPICH: false) == .mpirun)
        #expect(try choice([.direct, .srun], isMPICH: false) == .direct)
        #expect(try choice([.srun], isMPICH: false) == .srun)
        #expect(try choice([.mpirun, .direct, .srun], isMPICH: false) { $0.model = .rank } == .srun)
        #expect(try choice([.mpirun, .direct], isMPICH: false) { $0.model = .rank } == .direct)
        #expect(try choice([.mpirun, .direct], isMPICH: false) { $0.keepsGoing = true } == .direct)
        #expect(try choice([.direct], isMPICH: false) { $0.hasMPI = false } == .direct)
    }

    @Test func whatWasAskedForIsNotReplaced() {
        #expect(throws: LaunchDecision.Refusal(subject: "--launcher mpirun", obstacle: "no mpirun")) {
            try choice([.direct], isMPICH: false) { $0.launcher = .mpirun }
        }
        #expect(throws: LaunchDecision.Refusal(subject: "--mpi pmix", obstacle: "no srun")) {
            try choice([.direct], isMPICH: true) {
                $0.model = .rank
                $0.processManagement = .pmix
            }
        }
        #expect(throws: LaunchDecision.Refusal(subject: "--model rank", obstacle: "no srun")) {
            try choice([.mpirun], isMPICH: false) { $0.model = .rank }
        }
        #expect(throws: LaunchDecision.Refusal(subject: "i", obstacle: "no mpirun")) {
            try choice([], isMPICH: false)
        }
    }
}
