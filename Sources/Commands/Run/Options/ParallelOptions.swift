import ArgumentParser
import CoordinationStore
import Diagnostics
import Glibc
import JobModel
import ResourceManagers

/// Parallel jobs: how many ranks, where, and what starts them.
struct ParallelOptions: ParsableArguments {
    static let longNames = [
        "--ntasks", "--nodes", "--ntasks-per-node", "--model", "--launcher", "--mpi", "--cluster", "--label-io",
        "--grace", "--join-timeout", "--port", "--rm", "--hostfile", "--kvs", "--kvs-cacert", "--kvs-cert", "--kvs-key",
    ]

    @Option(name: [.customShort("n"), .long], help: "Ranks of a parallel job.") var ntasks: Int?
    @Option(name: [.customShort("N"), .long], help: "Nodes of a parallel job.") var nodes: Int?
    @Option(help: "Ranks per node.") var ntasksPerNode: Int?
    @Option(help: "Who shares a container: 'node' (all ranks of a node) or 'rank'.") var model: String = "node"
    @Option(help: "What starts the ranks: auto, direct, mpirun, srun.") var launcher: String = "auto"
    @Option(help: "With --model rank: auto, pmi2, pmix, none. 'host' puts the host's MPI in the image's place.")
    var mpi: String = "auto"
    @Option(help: "Run the job in this virtual cluster.") var cluster: String?
    @Flag(name: [.customShort("l"), .long], help: "Put 'RANK: ' in front of every output line.") var labelIo = false
    @Option(help: "Seconds between TERM and KILL when a job is stopped.") var grace: Int = 5
    @Option(help: "Seconds to wait until every node has joined the job.") var joinTimeout: Int = 120
    @Option(help: "TCP port the job's nodes report to (default: a free one).") var port: Int = 0

    @Option(
        name: .customLong("rm"),
        help: "Whose allocation: auto, slurm, pbs, lsf, sge, flux, ssh (with --hostfile), local.")
    var resourceManager: String = "auto"
    @Option(help: "Machines reached by ssh, a line each: HOST, HOST:SLOTS or HOST slots=SLOTS.") var hostfile: String?

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
            if let allocation = try manager.allocation(in: surroundings) { return allocation }
            throw Diagnostic(
                DiagnosticCode("no-allocation"), "--rm \(resourceManager)",
                reasons: ["this process does not stand in one of its allocations"],
                remedies: resourceManager == "ssh" ? ["--hostfile FILE"] : ["trireme alloc show"])
        }
    }

    /// A job, even if of one rank, rather than one process in one container.
    var isParallel: Bool { ntasks != nil || nodes != nil || ntasksPerNode != nil || cluster != nil || hostfile != nil }
}
