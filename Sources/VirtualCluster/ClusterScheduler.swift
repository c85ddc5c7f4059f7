/// The batch system a cluster runs: which daemons its nodes start, and how it says that they are ready.
package enum ClusterScheduler: String, CaseIterable, Sendable {
    case slurm
    case gridengine

    /// The node image when none is named.
    package var image: String { self == .slurm ? "trireme-node" : "trireme-node-gridengine" }

    /// What the controller and every other node run, in the order in which they start.
    func services(isController: Bool) -> [ClusterService] {
        switch self {
        case .slurm: isController ? [.munged, .slurmctld] : [.munged, .slurmd]
        case .gridengine: isController ? [.qmaster] : [.execd]
        }
    }

    /// The daemon that the others wait for, and the one that awaits it.
    var controllerDaemon: ClusterService { self == .slurm ? .slurmctld : .qmaster }
    var nodeDaemon: ClusterService { self == .slurm ? .slurmd : .execd }

    /// `munged, slurmd`
    func serviceNames(isController: Bool) -> String {
        services(isController: isController).map(\.name).joined(separator: ", ")
    }

    /// Programs without which an image is no node image of this system.
    package var programs: [String] {
        let daemons = ClusterService.allCases.filter {
            services(isController: true).contains($0) || services(isController: false).contains($0)
        }
        let commands =
            self == .slurm
            ? ["/usr/bin/sinfo", "/usr/bin/srun"]
            : GridEngineConfiguration.commands
        return daemons.map(\.program) + commands
    }

    /// What to type first.
    package func firstCommand(nodes: Int) -> String {
        self == .slurm ? "srun -N \(nodes) hostname" : "qrsh hostname"
    }

    // MARK: Idle nodes

    /// Asks, in the controller, which nodes take jobs.
    var idleQuery: [String] {
        switch self {
        case .slurm: ["/usr/bin/sinfo", "-h", "-t", "idle", "-o", "%D %N"]
        case .gridengine: [GridEngineConfiguration.programs + "/qstat", "-f"]
        }
    }

    /// Nil for an answer that is none: the controller's daemon is not ready.
    package func idleCount(answer: String) -> Int? {
        switch self {
        case .slurm:
            // `4 n[1-4]` of sinfo(1).
            let words = answer.split { $0 == " " || $0 == "\n" }
            return words.count >= 2 ? Int(words[0]) : nil
        case .gridengine:
            // `all.q@n1 BIP 0/0/2 0.10 lx-amd64`, and the states at the end where there are some (qstat(1), -f).
            let lines = answer.split(separator: "\n").filter { $0.hasPrefix(GridEngineConfiguration.queue + "@") }
            if lines.isEmpty { return nil }
            return lines.filter { $0.split(separator: " ").count == 5 && !$0.contains("-NA-") }.count
        }
    }
}
