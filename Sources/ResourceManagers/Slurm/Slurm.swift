import Diagnostics
import JobModel

/// Reads the variables sbatch, salloc and srun set (sbatch(1), "OUTPUT ENVIRONMENT VARIABLES").
package enum Slurm: ResourceManager {
    package static let name = "slurm"

    package static func allocation(in surroundings: Surroundings) throws(Diagnostic) -> Allocation? {
        let value = surroundings.environment
        guard let id = value("SLURM_JOB_ID") ?? value("SLURM_JOBID"),
            let list = value("SLURM_JOB_NODELIST") ?? value("SLURM_NODELIST")
        else { return nil }
        guard let names = (try? HostList(parsing: list))?.names, !names.isEmpty else {
            throw Diagnostic(
                DiagnosticCode("allocation-unreadable"), "SLURM_JOB_NODELIST='\(list)'",
                reasons: ["not a host list"], remedies: ["scontrol show job \(id)"])
        }
        let tasks = try counts("SLURM_TASKS_PER_NODE", for: names.count, value)
        let processors = try counts("SLURM_JOB_CPUS_PER_NODE", for: names.count, value)
        let perTask = value("SLURM_CPUS_PER_TASK").flatMap(Int.init).map { max(1, $0) } ?? 1
        let nodes = names.indices.map { index in
            // Asked for with -N alone, Slurm says one task per node though all its processors are ours.
            let byProcessors = (processors.map { $0[index] } ?? 0) / perTask
            return Allocation.Node(name: names[index], slots: max(tasks.map { $0[index] } ?? 1, byProcessors))
        }
        return Allocation(
            system: name, jobID: id, nodes: nodes, arrayTask: value("SLURM_ARRAY_TASK_ID"),
            // Set since Slurm 23.02.
            endTime: value("SLURM_JOB_END_TIME").flatMap { Int($0) })
    }

    private static func counts(
        _ name: String, for nodes: Int, _ environment: (String) -> String?
    ) throws(Diagnostic) -> [Int]? {
        guard let text = environment(name) else { return nil }
        guard let counts = CountsPerNode(parsing: text)?.counts else {
            throw Diagnostic(
                DiagnosticCode("allocation-unreadable"), "\(name)='\(text)'", reasons: ["not a list of counts"])
        }
        // Inside a step srun overwrites SLURM_TASKS_PER_NODE with the step's own, which may cover fewer nodes.
        guard counts.count >= nodes else { return nil }
        return counts
    }

    package static func request(nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings) -> String? {
        "salloc" + (nodes.map { " -N \($0)" } ?? "") + (tasks.map { " -n \($0)" } ?? "") + " \(command)"
    }

    package static func advice(for allocation: Allocation) -> SystemAdvice {
        SystemAdvice(
            whenUnreached: ["srun -N \(allocation.nodes.count) hostname"],
            whenLost: ["squeue and sinfo -N show whether the node or the job was taken away"])
    }

    /// scontrol(1): a job's owner may change its comment.
    package static func comment(_ text: String, on allocation: Allocation) -> [String]? {
        ["scontrol", "--quiet", "update", "JobId=\(allocation.jobID)", "Comment=\(text)"]
    }

    package static func fanOut(_ agent: AgentStart, in surroundings: Surroundings) -> [FanOutCommand] {
        [
            FanOutCommand(
                words: SlurmCommands.fanOut(nodes: agent.nodes, jobID: agent.jobID, command: agent.words(for: -1)),
                secret: .environment)
        ]
    }

    package static func passesToCommands(_ name: String) -> Bool { SlurmVariables.pass(name) }

    /// True in every process of a step but the first: `srun -n 4 trireme run -n 4 …` means one job, not four.
    package static func isFollower(_ surroundings: Surroundings) -> Bool {
        guard let tasks = surroundings.environment("SLURM_STEP_NUM_TASKS").flatMap({ Int($0) }), tasks > 1,
            let rank = surroundings.environment("SLURM_PROCID").flatMap({ Int($0) })
        else { return false }
        return rank > 0
    }
}
