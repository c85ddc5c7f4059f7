import CLinux
import Diagnostics
import Glibc
import JobModel
import LinuxSystem
import Processes
import ResourceManagers
import SiteConfiguration
import VirtualCluster

/// `run --cluster NAME`: this command once more, in a job of a virtual cluster's batch system.
extension RunRequest {
    /// A killed `trireme` ends the batch system's command by SIGTERM, which gives the allocation back.
    func runInCluster(_ name: String) throws(Diagnostic) -> Int32 {
        let cluster = try ClusterCommand.registry.running(name)
        try refuseOversized(for: cluster)
        let daemons = DaemonWatch(cluster, resources: resources, isQuiet: options.process.quiet)
        if let obstacle = daemons.look(isWaiting: true) { throw obstacle }
        let command = try allocation(in: cluster, without: daemons.deadNodes)
        // What the caller exports for the site's own batch system means other partitions and limits.
        var environment = CallerEnvironment.entries.filter { entry in
            !entry.hasPrefix("TRIREME_STORE=") && Detection.passesToCommands(String(entry.prefix { $0 != "=" }))
        }
        environment.append("TRIREME_STORE=\(locations.storeList)")
        let mark = "\(QueueWatch.variable)=\(RandomBytes.hex(RandomBytes.make(8)))"
        environment.append(mark)
        let queue = QueueWatch(mark: mark, cluster: cluster, isQuiet: options.process.quiet)
        let directory = ClusterDirectory.current(
            in: try ClusterEntry(cluster, node: nil), isQuiet: options.process.quiet)
        // It must hear the SIGTERM it gets when we die, whatever our own caller blocks.
        _ = linux_sigprocmask(SIG_SETMASK, 0, nil)
        return try VirtualCluster.execute(
            inCluster: name, registry: ClusterCommand.registry, command: command, environment: environment,
            directory: directory, parentDeathSignal: SIGTERM
        ) { daemons.look(isWaiting: queue.look($0)) }
    }

    /// What starts `trireme run` inside an allocation of that cluster.
    private func allocation(in cluster: ClusterRecord, without dead: [String]) throws(Diagnostic) -> [String] {
        let program: String
        do throws(SyscallError) { program = try Locations.programDirectory() + "/trireme" } catch {
            throw Diagnostic(DiagnosticCode("installation"), "/proc/self/exe", reasons: [error.sentence])
        }
        let command = [program, verb] + forwardedOptions + words.map { String(decoding: $0, as: UTF8.self) }
        switch cluster.scheduler {
        case .slurm: return SlurmCommands.allocation(for: resources, without: dead, command: command)
        case .gridengine:
            return GridEngineCommands.allocation(
                for: resources, slotsPerNode: cluster.cpusPerNode,
                environment: GridEngineConfiguration.parallelEnvironment, hasTerminal: options.process.tty,
                command: command)
        case .htcondor:
            throw Diagnostic(
                DiagnosticCode("no-allocation"), "cluster '\(cluster.name)'",
                reasons: ["HTCondor starts parallel jobs from submit files only"],
                remedies: [
                    "trireme cluster exec \(cluster.name) -- condor_submit FILE, with 'trireme run' as the executable of a job of the parallel universe"
                ])
        }
    }

    /// The caller's options but `--cluster`.
    private var forwardedOptions: [String] {
        var forwarded: [String] = []
        var skipsNext = false
        for word in optionWords.map({ String(decoding: $0, as: UTF8.self) }) {
            if skipsNext {
                skipsNext = false
            } else if word == "--cluster" {
                skipsNext = true
            } else if !word.hasPrefix("--cluster=") {
                forwarded.append(word)
            }
        }
        if options.parallel.ntasks == nil, options.parallel.nodes == nil, options.parallel.ntasksPerNode == nil {
            forwarded += ["-n", "1"]
        }
        return forwarded
    }

    /// A batch system's own answer to too large a request names neither the cluster nor what it has, or is to wait.
    private func refuseOversized(for cluster: ClusterRecord) throws(Diagnostic) {
        let nodes = cluster.nodes.filter { $0.name != "ctl" }
            .map { Allocation.Node(name: $0.name, slots: cluster.cpusPerNode) }
        let all = Allocation(system: "slurm", jobID: "", nodes: nodes)
        do throws(TaskMap.Failure) { _ = try TaskMap(placing: resources, on: all) } catch {
            var diagnostic = Self.diagnostic(error, all)
            if ["too-few-nodes", "too-few-slots"].contains(diagnostic.code.rawValue) {
                diagnostic.subject = "cluster '\(cluster.name)'"
                diagnostic.remedies = [
                    "trireme cluster create NAME --nodes NODES --cpus CPUS makes a larger one; CPUs may exceed this machine's"
                ]
            }
            throw diagnostic
        }
    }
}
