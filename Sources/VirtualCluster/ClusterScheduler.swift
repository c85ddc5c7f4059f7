/// The batch system a cluster runs: which daemons its nodes start, and how it says that they are ready.
package enum ClusterScheduler: String, CaseIterable, Sendable {
    case slurm
    case gridengine
    case htcondor

    /// The node image when none is named.
    package var image: String { self == .slurm ? "trireme-node" : "trireme-node-\(rawValue)" }

    /// What its image needs, and who makes it.
    package var imageAdvice: String {
        switch self {
        case .slurm: "a node needs Slurm and munge: see Recipes/node"
        case .gridengine: "a node needs Grid Engine: see Recipes/node-gridengine"
        case .htcondor: "a node needs HTCondor: see Recipes/node-htcondor"
        }
    }

    /// What the controller and every other node run, in the order in which they start.
    func services(isController: Bool) -> [ClusterService] {
        switch self {
        case .slurm: isController ? [.munged, .slurmctld] : [.munged, .slurmd]
        case .gridengine: isController ? [.qmaster] : [.execd]
        case .htcondor: isController ? [.collector, .negotiator, .schedd] : [.startd]
        }
    }

    /// The daemon that the others wait for, and the one that awaits it.
    var controllerDaemon: ClusterService { services(isController: true).last! }
    var nodeDaemon: ClusterService { services(isController: false).last! }

    /// `munged, slurmd`
    func serviceNames(isController: Bool) -> String {
        services(isController: isController).map(\.name).joined(separator: ", ")
    }

    /// Programs without which an image is no node image of this system.
    package var programs: [String] {
        let daemons = ClusterService.allCases.filter { $0.scheduler == self }
        let commands =
            switch self {
            case .slurm: ["/usr/bin/sinfo", "/usr/bin/srun"]
            case .gridengine: GridEngineConfiguration.commands
            case .htcondor: HTCondorConfiguration.commands
            }
        return daemons.map(\.program) + commands
    }

    /// What to type first.
    package func firstCommand(nodes: Int) -> String {
        switch self {
        case .slurm: "srun -N \(nodes) hostname"
        case .gridengine: "qrsh hostname"
        case .htcondor: "condor_status"
        }
    }

    // MARK: Daemons

    /// What starts `service` on `node`.
    func command(_ service: ClusterService, node: String) -> [String] {
        switch service {
        case .munged: [service.program, "--foreground", "--force"]
        case .slurmctld: [service.program, "-D", "-i"]
        case .slurmd: [service.program, "-D", "-N", node]
        case .qmaster: GridEngineConfiguration.masterCommand
        case .execd: GridEngineConfiguration.nodeCommand
        case .collector, .negotiator, .schedd, .startd: HTCondorConfiguration.command(service)
        }
    }

    /// Variables of its daemons, beside those of every process.
    var daemonEnvironment: [String] {
        switch self {
        case .slurm: []
        case .gridengine: GridEngineConfiguration.daemonEnvironment
        case .htcondor: HTCondorConfiguration.environment
        }
    }

    /// Variables of `idleQuery`.
    var queryEnvironment: [String] {
        switch self {
        case .slurm: []
        case .gridengine: GridEngineConfiguration.environment
        case .htcondor: HTCondorConfiguration.environment
        }
    }

    // MARK: Idle nodes

    /// Asks, in the controller, which nodes take jobs.
    var idleQuery: [String] {
        switch self {
        case .slurm: ["/usr/bin/sinfo", "-h", "-t", "idle", "-o", "%D %N"]
        case .gridengine: [GridEngineConfiguration.programs + "/qstat", "-f"]
        case .htcondor: HTCondorConfiguration.idleQuery
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
        case .htcondor:
            // `n1 Unclaimed Idle`, a line per place.
            let lines = answer.split(separator: "\n").map { $0.split(separator: " ") }
            return lines.isEmpty ? nil : lines.filter { $0.dropFirst() == ["Unclaimed", "Idle"] }.count
        }
    }
}
