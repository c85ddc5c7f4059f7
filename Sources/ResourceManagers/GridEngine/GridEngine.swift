import Diagnostics
import JobModel

/// Grid Engine and its descendants (SGE, Son of Grid Engine, Univa, Altair).
///
/// A parallel environment describes itself in the file PE_HOSTFILE, a line `HOST SLOTS QUEUE PROCESSORS`
/// per host and queue (sge_pe(5)). `qrsh -inherit HOST COMMAND` starts a task of the job there; it needs
/// a parallel environment with `control_slaves TRUE`, and carries standard input. The words after HOST are
/// joined and read by a shell there, as ssh has it (8.1.9: `qrsh -inherit HOST sh -c 'exit 7'` ends with 0).
package enum GridEngine: ResourceManager {
    package static let name = "sge"

    package static func allocation(in surroundings: Surroundings) throws(Diagnostic) -> Allocation? {
        guard let id = surroundings.environment("JOB_ID"),
            surroundings.environment("SGE_ROOT") != nil
                || surroundings.environment("SGE_CELL") != nil || surroundings.environment("PE_HOSTFILE") != nil
        else { return nil }
        // "undefined" outside arrays (qsub(1), SGE_TASK_ID).
        let task = surroundings.environment("SGE_TASK_ID").flatMap { $0 == "undefined" ? nil : $0 }
        guard let path = surroundings.environment("PE_HOSTFILE") else {
            guard let here = surroundings.environment("HOSTNAME") ?? surroundings.environment("HOST") else {
                return nil
            }
            return Allocation(system: name, jobID: id, nodes: [.init(name: here, slots: 1)], arrayTask: task)
        }
        guard let text = surroundings.file(path) else {
            throw .unreadable("PE_HOSTFILE=\(path)", "the file cannot be read", remedy: "qstat -j \(id)")
        }
        var hosts = HostCounts()
        for line in text.split(whereSeparator: \.isNewline) {
            let fields = line.split(whereSeparator: \.isWhitespace)
            guard fields.count >= 2, let slots = Int(fields[1]), (0...1_000_000).contains(slots) else {
                throw .unreadable("PE_HOSTFILE=\(path)", "'\(line)' is not HOST SLOTS …", remedy: "qstat -j \(id)")
            }
            hosts.add(String(fields[0]), slots: slots)
        }
        guard hosts.nodes.contains(where: { $0.slots > 0 }) else {
            throw .unreadable("PE_HOSTFILE=\(path)", "the file gives no slot", remedy: "qstat -j \(id)")
        }
        return Allocation(
            system: name, jobID: id, nodes: hosts.nodes.filter { $0.slots > 0 }, arrayTask: task)
    }

    /// Slots are all it counts (qsub(1), -pe); which parallel environments there are, `qconf -spl` tells.
    package static func request(nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings) -> String? {
        let environment = surroundings.environment("PE") ?? "ENVIRONMENT"
        let slots = tasks.map { "\($0)" } ?? nodes.map { "SLOTS-OF-\($0)-NODES" } ?? "SLOTS"
        return "qrsh -pe \(environment) \(slots) \(command)"
    }

    package static func advice(for allocation: Allocation) -> SystemAdvice {
        let node = allocation.nodes.last?.name ?? "HOST"
        return SystemAdvice(
            whenUnreached: ["qrsh -inherit \(node) hostname (the parallel environment needs control_slaves TRUE)"],
            whenLost: ["qstat -j \(allocation.jobID) and qhost show whether the node or the job was taken away"])
    }

    /// Its debug output goes to standard error, which is the application's (qrsh(1), "ENVIRONMENTAL VARIABLES").
    package static func passesToCommands(_ name: String) -> Bool { name != "SGE_DEBUG_LEVEL" }

    /// `-V` would put the whole environment on a command line everybody can read; the agents need none of it.
    package static func fanOut(_ agent: AgentStart, in surroundings: Surroundings) -> [FanOutCommand] {
        agent.eachNode(through: { ["qrsh", "-inherit", $0] }, secret: .input)
    }
}
