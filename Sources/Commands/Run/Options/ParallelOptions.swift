import ArgumentParser
import Diagnostics
import EtcdStore
import Glibc
import JobModel
import NodeAgent
import Processes
import Quantities
import ResourceManagers

/// Parallel jobs: how many ranks, where, and what starts them.
struct ParallelOptions: ParsableArguments {
    static let longNames = [
        "--ntasks", "--nodes", "--ntasks-per-node", "--model", "--launcher", "--mpi", "--cluster", "--label-io",
        "--grace", "--join-timeout", "--port", "--rm", "--hostfile", "--cpus-per-task", "--bind-to", "--output",
        "--error", "--keep-going", "--time", "--exit-timeout", "--pipe-fail", "--kvs", "--kvs-cacert", "--kvs-cert",
        "--kvs-key", "--no-ssh", "--mpi-args", "--verbose",
    ]

    @Option(name: [.customShort("n"), .long], help: "Ranks of a parallel job.") var ntasks: Int?
    @Option(name: [.customShort("N"), .long], help: "Nodes of a parallel job.") var nodes: Int?
    @Option(help: "Ranks per node.") var ntasksPerNode: Int?
    @Option(name: [.customShort("c"), .long], help: "Processors each rank gets.") var cpusPerTask: Int?
    @Option(help: "Processors a rank may use: 'core' (its own), 'socket', 'none' (all of the node).")
    var bindTo: String = "none"
    @Option(
        name: [.customShort("o"), .long],
        help: "File for what ranks write: %j job, %r rank, %R rank in its node, %n and %h node, %u user.")
    var output: String?
    @Option(help: "The same for standard error (default: with --output).") var error: String?
    @Flag(help: "A failing rank does not end the others (--launcher direct).") var keepGoing = false
    @Option(help: "Wall-clock limit: minutes, M:S, H:M:S, D-H:M:S, or 90s, 10m, 2h. Exit 124.") var time: String?
    @Option(help: "Time the other ranks have once one has exited 0 (default: any). Exit 125.") var exitTimeout: String?
    @Flag(help: "Say at the end what came of the job, also where standard error is no terminal.") var verbose = false
    @Flag(help: "A reader of our output that goes away ends the job.") var pipeFail = false
    @Option(
        help: ArgumentHelp(
            """
            Who shares a container and its namespaces: 'node' (all ranks of a node), 'rank' (the same, but Slurm starts \
            each), 'socket', or nobody: 'process' (each rank has a container of its own).
            """))
    var model: String = "node"
    @Option(help: "What starts the ranks: auto, direct, mpirun, srun.") var launcher: String = "auto"
    @Option(help: "With --model rank: auto, pmi2, pmix, none. 'host' puts the host's MPI in the image's place.")
    var mpi: String = "auto"
    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp("Options for the image's mpirun or mpiexec (repeatable).", valueName: "words"))
    var mpiArgs: [String] = []
    @Option(help: "Run the job in this virtual cluster.") var cluster: String?
    @Flag(name: [.customShort("l"), .long], help: "Put 'RANK: ' in front of every output line.") var labelIo = false
    @Option(help: "Seconds between TERM and KILL when a job is stopped.") var grace: Int = 5
    @Option(help: "Seconds to wait until every node has joined the job.") var joinTimeout: Int = 120
    @Option(help: "TCP port the job's nodes report to (default: a free one).") var port: Int = 0

    @Option(
        name: .customLong("rm"),
        help: "Whose allocation: auto, slurm, pbs, lsf, sge, condor, flux, ssh (with --hostfile), local.")
    var resourceManager: String = "auto"
    @Option(help: "Machines reached by ssh, a line each: HOST, HOST:SLOTS or HOST slots=SLOTS.") var hostfile: String?

    @Flag(help: "Leave the image's own ssh and rsh in place: ours lead to the job's other nodes.") var noSsh = false
    @Option(help: "The site's etcd, https://HOST:PORT[,…]: the job's nodes meet there (else at the job's leader).")
    var kvs: String?
    @Option(help: "PEM file with the authority of --kvs.") var kvsCacert: String?
    @Option(help: "PEM file with our certificate for --kvs.") var kvsCert: String?
    @Option(help: "PEM file with its key.") var kvsKey: String?

    /// The site's store, by `--kvs` or `TRIREME_KVS` (and `TRIREME_KVS_CACERT`, `_CERT`, `_KEY`).
    func etcd() throws(Diagnostic) -> EtcdSettings? {
        func setting(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
        guard let list = kvs ?? setting("TRIREME_KVS"), !list.isEmpty else { return nil }
        if let settings = EtcdSettings(
            list: list, authority: kvsCacert ?? setting("TRIREME_KVS_CACERT") ?? "",
            certificate: kvsCert ?? setting("TRIREME_KVS_CERT") ?? "", key: kvsKey ?? setting("TRIREME_KVS_KEY") ?? "")
        {
            return settings
        }
        throw Diagnostic(
            DiagnosticCode("option-value"), "--kvs \(list)", reasons: ["not an address of etcd"],
            remedies: ["--kvs https://HOST:2379,https://HOST2:2379"])
    }

    /// Whether the nodes are those of the batch system around us.
    var asksItsSystem: Bool { hostfile == nil && !["local", "ssh"].contains(resourceManager) }

    /// The allocation asked for, or the one this process stands in; nil for none.
    func allocation(in surroundings: Surroundings) throws(Diagnostic) -> Allocation? {
        if let hostfile {
            guard let text = surroundings.file(hostfile) else {
                throw Diagnostic(DiagnosticCode("hostfile-unreadable"), hostfile, reasons: ["cannot be read"])
            }
            return try PlainHosts.allocation(hostFile: text, path: hostfile)
        }
        switch resourceManager {
        case "auto": return try Detection.allocation(in: surroundings)
        case "local": return nil
        default:
            guard let manager = Detection.manager(named: resourceManager) else {
                throw Diagnostic(
                    DiagnosticCode("option-value"), "--rm \(resourceManager)", reasons: ["unknown batch system"],
                    remedies: [
                        "one of: auto, " + Detection.all.map { $0.name }.joined(separator: ", ") + ", ssh, local"
                    ])
            }
            if let allocation = try Detection.allocation(named: manager.name, in: surroundings) { return allocation }
            throw Diagnostic(
                DiagnosticCode("no-allocation"), "--rm \(resourceManager)",
                reasons: ["this process does not stand in one of its allocations"],
                remedies: resourceManager == "ssh" ? ["--hostfile FILE"] : ["trireme alloc show"])
        }
    }

    func rankSettings() throws(Diagnostic) -> RankSettings {
        try OutputFiles.check("--output", output)
        try OutputFiles.check("--error", error)
        var settings = RankSettings()
        settings.keepsGoing = keepGoing
        settings.timeLimitMilliseconds = try timeLimit()
        settings.outputPattern = output
        settings.errorPattern = error
        settings.offersShell = !noSsh
        settings.launcherArguments = mpiArgs.flatMap { $0.split(whereSeparator: \.isWhitespace).map(String.init) }
        return settings
    }

    func exitTimeoutMilliseconds() throws(Diagnostic) -> Int? {
        guard let exitTimeout else { return nil }
        return Int(try ProcessOptions.milliseconds("--exit-timeout", exitTimeout))
    }

    /// What `-c` and `--bind-to` tell the ranks and those who start them.
    func rankVariables(_ typed: [[UInt8]]) throws(Diagnostic) -> [[UInt8]] {
        guard ["none", "core", "socket"].contains(bindTo) else {
            throw Diagnostic(
                DiagnosticCode("option-value"), "--bind-to \(bindTo)", reasons: ["unknown value"],
                remedies: ["one of: core, socket, none"])
        }
        var variables: [[UInt8]] = []
        if bindTo != "none" { variables.append(EnvironmentBlock.entry(RankBinding.policyVariable, bindTo)) }
        if let cpusPerTask {
            variables.append(EnvironmentBlock.entry(RankBinding.coresVariable, cpusPerTask))
            // What OpenMP programs take for the machine otherwise: every rank would use all processors.
            if EnvironmentBlock.value("OMP_NUM_THREADS", in: typed + EnvironmentBlock.current()) == nil {
                variables.append(EnvironmentBlock.entry("OMP_NUM_THREADS", cpusPerTask))
            }
        }
        return variables
    }

    /// The limit in milliseconds, in Slurm's words (sbatch(1), --time) or ours with a unit.
    func timeLimit() throws(Diagnostic) -> Int? {
        guard let time else { return nil }
        if let value = Self.milliseconds(time), value > 0 { return value }
        throw Diagnostic(
            DiagnosticCode("option-value"), "--time \(time)", reasons: ["is no time"],
            remedies: ["minutes (90), M:S (1:30), H:M:S, D-H, D-H:M, D-H:M:S, or with a unit: 90s, 10m, 2h30m"])
    }

    static func milliseconds(_ text: String) -> Int? {
        if text.contains(where: \.isLetter) {
            return TypedDuration.milliseconds(text, bare: .nothing)
        }
        return TypedDuration.slurmSeconds(text).map { $0 * 1000 }
    }

    /// A job, even if of one rank, rather than one process in one container.
    var isParallel: Bool { ntasks != nil || nodes != nil || ntasksPerNode != nil || cluster != nil || hostfile != nil }
}
