/// How many tasks on how many nodes; what the user left open is nil.
/// Words and defaults are Slurm's (srun(1)): only nodes given means one task per node.
package struct ResourceRequest: Equatable, Sendable {
    package var tasks: Int?
    package var nodes: Int?
    package var tasksPerNode: Int?
    /// Only for a fresh allocation; in one that stands, slots are counted by it.
    package var cpusPerTask: Int?

    package init(tasks: Int? = nil, nodes: Int? = nil, tasksPerNode: Int? = nil, cpusPerTask: Int? = nil) {
        self.cpusPerTask = cpusPerTask
        self.tasks = tasks
        self.nodes = nodes
        self.tasksPerNode = tasksPerNode
    }
}

/// Who shares a container.
package enum ContainerModel: String, CaseIterable, Sendable {
    /// All ranks of a node share one; the image's own launcher starts them.
    case node
    /// The batch system starts every rank, which joins the node's container.
    case rank
    /// Every rank has a container of its own, whoever starts it.
    case process
    /// All ranks of a processor socket share one. Where a node has one socket that is `node`; another is refused.
    case socket
}

/// How ranks are started.
package enum LauncherChoice: String, CaseIterable, Sendable {
    case auto, direct, mpirun, srun
}

/// How ranks find each other when the batch system starts them.
package enum ProcessManagement: String, CaseIterable, Sendable {
    case auto, pmi2, pmix, none
}

/// The network a job's containers are in.
package enum NetworkChoice: String, CaseIterable, Sendable {
    /// The nodes' own.
    case host
    /// One of the job's own, over its nodes.
    case job
    /// On each node a loopback device and nothing else.
    case none
}

/// What the command line says of every rank.
package struct RankSettings: Equatable, Sendable {
    /// A failing rank does not end the others.
    package var keepsGoing = false
    package var timeLimitMilliseconds: Int?
    /// Patterns of file names; nil where the streams are the leader's own.
    package var outputPattern: String?
    package var errorPattern: String?
    /// Rank 0 gets a terminal of its own, of this size; nil for pipes.
    package var terminal: TerminalSize?
    /// `ssh` and `rsh` in the containers lead to the job's other nodes.
    package var offersShell = true
    /// Options of one's own for the image's mpirun or mpiexec.
    package var launcherArguments: [String] = []
    package init() {}
}

/// Of a terminal, in characters.
package struct TerminalSize: Equatable, Sendable {
    package var rows: Int
    package var columns: Int
    package init(rows: Int, columns: Int) {
        self.rows = rows
        self.columns = columns
    }
}

/// Consecutive ranks that run the same command (MPMD; most jobs have one part).
package struct JobPart: Equatable, Sendable {
    package var tasks: Int
    /// `K=V`, for these ranks alone.
    package var environment: [[UInt8]]
    /// What each executes, byte for byte.
    package var command: [[UInt8]]
    package init(tasks: Int, environment: [[UInt8]] = [], command: [[UInt8]]) {
        self.tasks = tasks
        self.environment = environment
        self.command = command
    }
}

/// One parallel job, validated: every number is in range and fits the allocation.
package struct JobSpecification: Equatable, Sendable {
    /// Unique among the jobs of this user: batch job id, a dot, random digits.
    package var id: String
    package var model: ContainerModel
    package var launcher: LauncherChoice
    package var processManagement: ProcessManagement
    package var map: TaskMap
    package var labelsOutput: Bool
    /// Between TERM and KILL.
    package var graceMilliseconds: Int
    /// How long the nodes have to report ready.
    package var joinTimeoutMilliseconds: Int
    /// At least one; their tasks add up to the map's.
    package var parts: [JobPart]
    /// Of the first part.
    package var command: [[UInt8]] { parts[0].command }
    package var ranks = RankSettings()
    package var network = NetworkChoice.host

    package init(
        id: String, model: ContainerModel, launcher: LauncherChoice, processManagement: ProcessManagement,
        map: TaskMap, labelsOutput: Bool, graceMilliseconds: Int, joinTimeoutMilliseconds: Int, command: [[UInt8]]
    ) {
        self.id = id
        self.model = model
        self.launcher = launcher
        self.processManagement = processManagement
        self.map = map
        self.labelsOutput = labelsOutput
        self.graceMilliseconds = graceMilliseconds
        self.joinTimeoutMilliseconds = joinTimeoutMilliseconds
        parts = [JobPart(tasks: map.size, command: command)]
    }

    /// The part that `rank` belongs to; the last for a rank outside the job.
    package func part(of rank: Int) -> JobPart {
        var first = 0
        for part in parts {
            first += part.tasks
            if rank < first { return part }
        }
        return parts[parts.count - 1]
    }
}
