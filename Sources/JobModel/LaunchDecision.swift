/// Which launcher starts a job's ranks: the one asked for, else the best that is possible.
package struct LaunchDecision {
    /// What the user said.
    package var launcher: LauncherChoice
    package var model: ContainerModel
    package var processManagement: ProcessManagement
    package var keepsGoing: Bool
    /// The image's name, for words.
    package var image: String
    /// What the image has: an MPI, and one of those that meet by Slurm's PMI-2 under srun, MPICH and its kin.
    package var hasMPI: Bool
    package var isMPICH: Bool
    /// Why the ranks cannot be started this way, nil when they can.
    package var obstacle: (LauncherChoice) -> String?

    package init(
        launcher: LauncherChoice = .auto, model: ContainerModel = .node, processManagement: ProcessManagement = .auto,
        keepsGoing: Bool = false, image: String, hasMPI: Bool, isMPICH: Bool,
        obstacle: @escaping (LauncherChoice) -> String?
    ) {
        self.launcher = launcher
        self.model = model
        self.processManagement = processManagement
        self.keepsGoing = keepsGoing
        self.image = image
        self.hasMPI = hasMPI
        self.isMPICH = isMPICH
        self.obstacle = obstacle
    }

    package struct Choice: Equatable, Sendable {
        package var launcher: LauncherChoice
        package var reason: String
        package init(launcher: LauncherChoice, reason: String) {
            self.launcher = launcher
            self.reason = reason
        }
    }

    /// No way would give one job of all ranks, or not the one asked for.
    package struct Refusal: Error, Equatable {
        package var subject: String
        package var obstacle: String
        package init(subject: String, obstacle: String) {
            self.subject = subject
            self.obstacle = obstacle
        }
    }

    package func choose() throws(Refusal) -> Choice {
        if launcher != .auto {
            if let obstacle = obstacle(launcher) {
                throw Refusal(subject: "--launcher \(launcher.rawValue)", obstacle: obstacle)
            }
            return Choice(launcher: launcher, reason: "asked for")
        }
        if keepsGoing, obstacle(.direct) == nil {
            return Choice(launcher: .direct, reason: "--keep-going: mpirun and srun end the ranks when one fails")
        }
        if model == .rank || model == .process { return try rankByRank() }
        guard hasMPI else { return Choice(launcher: .direct, reason: "the image has no MPI") }
        guard let missing = obstacle(.mpirun) else {
            return Choice(launcher: .mpirun, reason: "the image has its MPI's own launcher")
        }
        if obstacle(.direct) == nil { return Choice(launcher: .direct, reason: missing) }
        if !meetsByHangingPMI, obstacle(.srun) == nil { return Choice(launcher: .srun, reason: missing) }
        throw Refusal(subject: image, obstacle: missing)
    }

    /// MPICH 4.0 over UCX hangs in MPI_Finalize under Slurm's PMI-2, natively in every other start on a busy
    /// machine (pmodels/mpich pull request 6596): only who asks for that gets it.
    private var meetsByHangingPMI: Bool { isMPICH && processManagement == .auto }

    private func rankByRank() throws(Refusal) -> Choice {
        let obstacle =
            obstacle(.srun) ?? (meetsByHangingPMI ? "MPICH may hang under srun --mpi=pmi2 (--mpi pmi2 insists)" : nil)
        guard let obstacle else {
            return Choice(launcher: .srun, reason: "--model \(model.rawValue) in a Slurm allocation")
        }
        if processManagement != .auto {
            throw Refusal(subject: "--mpi \(processManagement.rawValue)", obstacle: obstacle)
        }
        if self.obstacle(.direct) == nil {
            return Choice(launcher: .direct, reason: "--model \(model.rawValue), and \(obstacle)")
        }
        throw Refusal(subject: "--model \(model.rawValue)", obstacle: obstacle)
    }
}
