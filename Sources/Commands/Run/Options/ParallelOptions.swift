import ArgumentParser

/// Parallel jobs: how many ranks, where, and what starts them.
struct ParallelOptions: ParsableArguments {
    static let longNames = [
        "--ntasks", "--nodes", "--ntasks-per-node", "--model", "--launcher", "--mpi", "--cluster", "--label-io",
        "--grace", "--join-timeout", "--port",
    ]

    @Option(name: [.customShort("n"), .long], help: "Ranks of a parallel job.") var ntasks: Int?
    @Option(name: [.customShort("N"), .long], help: "Nodes of a parallel job.") var nodes: Int?
    @Option(help: "Ranks per node.") var ntasksPerNode: Int?
    @Option(help: "Who shares a container: 'node' (all ranks of a node) or 'rank'.") var model: String = "node"
    @Option(help: "What starts the ranks: auto, direct, mpirun, srun.") var launcher: String = "auto"
    @Option(help: "With --model rank: auto, pmi2, pmix, none.") var mpi: String = "auto"
    @Option(help: "Run the job in this virtual cluster.") var cluster: String?
    @Flag(name: [.customShort("l"), .long], help: "Put 'RANK: ' in front of every output line.") var labelIo = false
    @Option(help: "Seconds between TERM and KILL when a job is stopped.") var grace: Int = 5
    @Option(help: "Seconds to wait until every node has joined the job.") var joinTimeout: Int = 120
    @Option(help: "TCP port the job's nodes report to (default: a free one).") var port: Int = 0

    /// A job, even if of one rank, rather than one process in one container.
    var isParallel: Bool { ntasks != nil || nodes != nil || ntasksPerNode != nil || cluster != nil }
}
