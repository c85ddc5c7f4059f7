import JobModel

/// Everything that is said on the wire. Arrows: A agent, L leader, C client of an agent
/// on its node (a rank's shim, or the remote shell a launcher calls).
package enum WireMessage: Equatable, Sendable {
    /// A→L, first: the node's name in the batch system's spelling, its place when it was told one, and its
    /// public key (`NodeIdentity`).
    case hello(node: String, index: Int, key: [UInt8])
    /// L→A: what to prepare.
    case job(JobAssignment)
    /// A→L: the container stands (or there is none), nothing has been started. Signed with the node's key.
    case ready(signature: [UInt8])
    /// A→L: it does not; the agent ends.
    case failed(step: String, errno: Int, subject: String)
    /// L→A: start a process on `channel`.
    case launch(channel: UInt32, Launch)
    /// A→L: it runs, or could not be started.
    case launched(channel: UInt32, pid: Int)
    case refused(channel: UInt32, errno: Int, subject: String)
    /// Bytes of a process; towards the leader from its agent, and on to the client that asked for it.
    case output(channel: UInt32, stream: Int, bytes: [UInt8])
    case exited(channel: UInt32, ExitStatus)
    /// L→A: bytes for a process (`Agent.rankInputChannel`: for rank 0, whoever starts it); empty means end of file.
    case input(channel: UInt32, bytes: [UInt8])
    /// A→L: that many bytes of `input` reached the process (the sender's window opens by as many).
    case consumed(channel: UInt32, count: Int)
    /// C→A→L: run a shell command on another node; its output and exit come back on `channel`, `launched` before
    /// them, and it gets the `input` of that channel.
    case remote(channel: UInt32, RemoteCommand)
    /// C→A→L→A: so many bytes of the output of a process with a window were taken by who asked for it.
    case taken(channel: UInt32, count: Int)
    /// A→L: further names and addresses of its node.
    case names([String])
    /// The one who asked for a process is gone: end it.
    case hangUp(channel: UInt32)
    /// C→A: a rank's shim presents itself. A→C: what its node knows; the rank's standard streams
    /// come with it as descriptors (SCM_RIGHTS), and where it has a container of its own that one's plan.
    case rankJoining(rank: Int)
    case node(environment: [[UInt8]], size: Int, store: String)
    /// A→L: what a rank with a shim wrote.
    case rankOutput(rank: Int, stream: Int, bytes: [UInt8])
    /// C→A→L.
    case rankStarted(rank: Int, size: Int, pid: Int)
    case rankExited(rank: Int, ExitStatus)
    /// C→A→L: a rank that cannot run; `errno` 0 when `reason` says all.
    case rankRefused(rank: Int, errno: Int, reason: String)
    /// A→L: every rank of the node waits in a PMI barrier; keys and values in turn, put since the last one.
    /// L→A: every node's, when the last has come.
    case fence([[UInt8]])
    case fenceDone([[UInt8]])
    /// A→L, once: a rank of the node has spoken PMI or PMIx, so that ranks are of one job.
    case wired
    /// A→L→A, to the node of `rank`: what that rank published (PMIx direct modex). `ticket` is the asker's.
    case modexWanted(ticket: Int, rank: Int)
    /// A→L→A, to the asker: a PMIx status, and the data when that is 0.
    case modex(ticket: Int, status: Int, bytes: [UInt8])
    /// L→A: to every rank of the node.
    case signal(Int)
    /// L→A: TERM to all, KILL after the grace, then end.
    case stop(graceMilliseconds: Int)
    /// A→L: nothing of the job is left on this node; last word.
    case empty(unkillable: Int)
    case ping
    case pong
    /// A→C: a failed rank's shim may end (see `RankShim`).
    case release
    /// C→A→L: what a rank used; before its `rankExited` the last word, in between a sample.
    case rankUsage(rank: Int, ResourceUsage)
    /// L→A: stop or continue every rank and what is below it.
    case suspend(Bool)
    /// L→A, to the node of rank 0: its terminal has another size now.
    case window(TerminalSize)
    /// L→A: limits of the node's container from now on, each `NAME=VALUE` as `CgroupLimits` reads them.
    /// A→L: what came of it; `code` is 0, or an errno with the reason as its text.
    case update([[UInt8]])
    case updated(code: Int, text: [UInt8])
    /// A→L, before the end of the rank that it concerns: the kernel killed for the container's memory limit.
    case memoryKills(MemoryKills)
    /// A→L, before its last word: what the whole container used, where its control group counted that.
    case nodeUsage(ResourceUsage)
    /// A→L, in place of `ready`: the node's store lacks the job's image, of which `path` is the first part missing.
    case imageWanted(path: String)
    /// L→A: run this command beside the container to come; it says `ImageFetch.done` when the image is there, and
    /// serves other nodes until `imageSettled`. `plan` takes the place of the job's, when it is not empty.
    case fetchImage(command: [[UInt8]], environment: [[UInt8]], plan: [UInt8])
    /// L→A: every node has it.
    case imageSettled
    /// A→L: the image has come from `origin`.
    case imageFetched(origin: String)
    /// A controller (`trireme job`) to the leader: a verb and its words; the answer's `code` is 0, or an
    /// errno with the reason as its text. `attach` is answered by `output` until the job ends.
    case control([[UInt8]])
    case answer(code: Int, text: [UInt8])
}

/// What one node does for a job.
package struct JobAssignment: Equatable, Sendable {
    package var jobID: String
    /// Name of the abstract socket its ranks and joiners find the agent by.
    package var key: String
    package var nodeIndex: Int
    package var nodeNames: [String]
    package var nodeAddresses: [String]
    package var size: Int
    /// Of every node of the job.
    package var ranksPerNode: [Int]
    /// An encoded `LaunchPlan`; empty means no container (tests of the agent alone, and `--mpi host`).
    package var plan: [UInt8]
    package var store: String
    package var directory: [UInt8]
    /// The leader's environment and what the command line sets over it.
    package var environment: [[UInt8]]
    package var overrides: [[UInt8]]
    package var labelsOutput: Bool
    package var graceMilliseconds: Int
    /// Rank 0 gets a terminal.
    package var terminal: TerminalSize?
    /// One container per socket was asked for.
    package var isPerSocket = false
    /// Every rank has a container of its own, and the node none.
    package var isPerProcess = false
    /// `ssh` and `rsh` in the container are ours.
    package var offersShell = false
    /// Nil where the container is in the node's own network.
    package var network: NodeNetwork?

    /// Whether the agent makes a container around itself, for all ranks of the node.
    package var hasNodeContainer: Bool { !plan.isEmpty && !isPerProcess }

    package init(
        jobID: String, key: String, nodeIndex: Int, nodeNames: [String], nodeAddresses: [String], size: Int,
        ranksPerNode: [Int], plan: [UInt8], store: String, directory: [UInt8], environment: [[UInt8]],
        overrides: [[UInt8]],
        labelsOutput: Bool, graceMilliseconds: Int
    ) {
        self.jobID = jobID
        self.key = key
        self.nodeIndex = nodeIndex
        self.nodeNames = nodeNames
        self.nodeAddresses = nodeAddresses
        self.size = size
        self.ranksPerNode = ranksPerNode
        self.plan = plan
        self.store = store
        self.directory = directory
        self.environment = environment
        self.overrides = overrides
        self.labelsOutput = labelsOutput
        self.graceMilliseconds = graceMilliseconds
    }
}

/// The network of a job's containers, where that is not their nodes'. `JobAssignment.nodeAddresses` are then
/// the addresses in it.
package struct NodeNetwork: Equatable, Sendable {
    /// The nodes reach each other; else each has a loopback device and nothing else.
    package var isShared: Bool
    /// Of the tunnels between the nodes, 24 bits.
    package var identifier: Int
    package var prefixLength: Int
    /// Where the nodes are in their own network, by node.
    package var peers: [String]

    package init(isShared: Bool, identifier: Int = 0, prefixLength: Int = 0, peers: [String] = []) {
        self.isShared = isShared
        self.identifier = identifier
        self.prefixLength = prefixLength
        self.peers = peers
    }
}

/// One process to start.
package struct Launch: Equatable, Sendable {
    package var arguments: [[UInt8]]
    /// Set over the job's environment for this process.
    package var environment: [[UInt8]]
    /// The rank this process is itself, -1 when it is none (a launcher, a remote command).
    package var rank: Int
    package var takesInput: Bool
    package var wireUp: WireUp
    /// Its output waits for `taken`.
    package var hasWindow = false
    /// It gets a terminal of its own for its three streams.
    package var terminal: TerminalSize?

    package init(
        arguments: [[UInt8]], environment: [[UInt8]] = [], rank: Int = -1, takesInput: Bool = false,
        wireUp: WireUp = .none
    ) {
        self.wireUp = wireUp
        self.arguments = arguments
        self.environment = environment
        self.rank = rank
        self.takesInput = takesInput
    }
}

/// What the control group of a node's container says of kills for its memory limit; bytes.
package struct MemoryKills: Equatable, Sendable {
    /// The rank that ended then; -1 where none did.
    package var rank: Int
    /// The rank itself was killed, not something below it.
    package var isRank: Bool
    /// Since it was last told.
    package var count: Int
    package var limit: UInt64
    package var peak: UInt64

    package init(rank: Int, isRank: Bool, count: Int, limit: UInt64, peak: UInt64) {
        self.rank = rank
        self.isRank = isRank
        self.count = count
        self.limit = limit
        self.peak = peak
    }
}

/// What somebody on one node wants run on another.
package struct RemoteCommand: Equatable, Sendable {
    /// As it was typed.
    package var host: String
    /// What else the asker's node calls that host.
    package var others: [String]
    /// For /bin/sh.
    package var line: [UInt8]
    package var takesInput: Bool
    package var terminal: TerminalSize?

    package init(
        host: String, others: [String] = [], line: [UInt8], takesInput: Bool = false, terminal: TerminalSize? = nil
    ) {
        self.host = host
        self.others = others
        self.line = line
        self.takesInput = takesInput
        self.terminal = terminal
    }
}

/// How a rank that an agent starts finds the others.
package enum WireUp: Equatable, Sendable {
    /// By itself, or not at all.
    case none
    /// It is given a socket, on which the agent speaks PMI-1 and PMI-2.
    case pmi
    /// Through the PMIx server of `library`, a path in the image (`PMIxManagement`).
    case pmix(library: String)
}
