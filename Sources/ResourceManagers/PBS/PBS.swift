import Diagnostics
import JobModel

/// OpenPBS, PBS Professional and Torque.
///
/// PBS_NODEFILE names a file with one line per place, host names repeated (qsub(1), OpenPBS "Job
/// environment"; Torque qsub(1)). OpenPBS starts a process on a host with `pbs_tmrsh HOST COMMAND`,
/// Torque with `pbsdsh -h HOST COMMAND`. Both hand the request to the node's MOM, which knows the job's
/// environment but not the caller's, and no standard input: the secret goes by file.
package enum PBS: ResourceManager {
    package static let name = "pbs"

    package static func allocation(in surroundings: Surroundings) throws(Diagnostic) -> Allocation? {
        guard let id = surroundings.environment("PBS_JOBID"), let path = surroundings.environment("PBS_NODEFILE")
        else { return nil }
        guard let text = surroundings.file(path) else {
            throw .unreadable("PBS_NODEFILE=\(path)", "the file cannot be read", remedy: "qstat -f \(id)")
        }
        var hosts = HostCounts()
        for line in text.split(whereSeparator: \.isNewline) {
            let name = line.prefix { !$0.isWhitespace }
            if !name.isEmpty { hosts.add(String(name)) }
        }
        guard !hosts.nodes.isEmpty else {
            throw .unreadable("PBS_NODEFILE=\(path)", "the file names no host", remedy: "qstat -f \(id)")
        }
        // An OpenPBS chunk without mpiprocs is one line whatever its ncpus: `ncpus` of this chunk is in NCPUS.
        if let processors = surroundings.environment("NCPUS").flatMap({ Int($0) }), (2...1_000_000).contains(processors),
            !isTorque(surroundings), hosts.nodes.allSatisfy({ $0.slots == 1 })
        {
            return Allocation(
                system: name, jobID: id,
                nodes: hosts.nodes.map { Allocation.Node(name: $0.name, slots: processors) },
                arrayTask: surroundings.environment("PBS_ARRAY_INDEX"))
        }
        return Allocation(
            system: name, jobID: id, nodes: hosts.nodes,
            arrayTask: surroundings.environment("PBS_ARRAY_INDEX") ?? surroundings.environment("PBS_ARRAYID"))
    }

    /// `select` is of OpenPBS and PBS Pro, `nodes` of Torque (qsub(1B)).
    package static func request(nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings) -> String? {
        let places = nodes ?? tasks ?? 1
        return isTorque(surroundings)
            ? "qsub -l nodes=\(places) SCRIPT, with '\(command)' in it"
            : "qsub -l select=\(places):ncpus=1:mpiprocs=1 SCRIPT, with '\(command)' in it"
    }

    package static func advice(for allocation: Allocation) -> SystemAdvice {
        let node = allocation.nodes.last?.name ?? "HOST"
        return SystemAdvice(
            whenUnreached: ["pbs_tmrsh \(node) hostname (Torque: pbsdsh hostname)"],
            whenLost: ["qstat -f \(allocation.jobID) and pbsnodes -a show whether the node or the job was taken away"])
    }

    package static func fanOut(_ agent: AgentStart, in surroundings: Surroundings) -> [FanOutCommand] {
        agent.eachNode(
            { isTorque(surroundings) ? ["pbsdsh", "-h", $0] : ["pbs_tmrsh", $0] }, secret: .file)
    }

    /// Torque says so in PBS_VERSION ("TORQUE-6.1.2"); OpenPBS does not set it in jobs.
    private static func isTorque(_ surroundings: Surroundings) -> Bool {
        surroundings.environment("PBS_VERSION")?.hasPrefix("TORQUE") ?? false
    }
}
