import JobModel

/// The argument lists trireme gives Slurm's commands (srun(1), salloc(1)).
package enum SlurmCommands {
    /// One `command` on each of `nodes`, once.
    ///
    /// `--overlap` lets the step share processors with the step we may stand in and with the
    /// ranks; `-K` ends the step when one agent dies; bindings would pin every rank to the agent's core. `--export`:
    /// without it a job of `sbatch --export=NONE` would keep its environment, and the secret in it, to itself.
    package static func fanOut(nodes: [String], jobID: String, command: [String]) -> [String] {
        [
            "srun", "--jobid=\(jobID)", "-K", "-N", "\(nodes.count)", "-n", "\(nodes.count)",
            "--ntasks-per-node=1", "--nodelist=\(HostList(nodes).description)", "--mpi=none", "--overlap",
            "--export=ALL", "--cpu-bind=none", "--mem=0", "--input=none", "--unbuffered", "--quiet",
        ] + command
    }

    /// The ranks of `map`, started by Slurm, each joining its node's container.
    package static func ranks(
        map: TaskMap, jobID: String, processManagement: ProcessManagement, command: [String]
    ) -> [String] {
        let mostTasks = map.nodes.map(\.tasks).max() ?? 1
        return [
            "srun", "--jobid=\(jobID)", "-K", "-N", "\(map.nodes.count)", "-n", "\(map.size)",
            "--ntasks-per-node=\(mostTasks)", "--nodelist=\(HostList(map.nodes.map(\.name)).description)",
            "--mpi=\(processManagement.rawValue)", "--overlap", "--export=ALL", "--mem=0",
            "--input=none", "--quiet",
        ] + command
    }

    /// `command` inside a fresh allocation that ends with it.
    ///
    /// - Parameter excluded: nodes that would not answer.
    package static func allocation(
        for request: ResourceRequest, without excluded: [String] = [], command: [String]
    ) -> [String] {
        var words = ["salloc", "-Q"]
        if !excluded.isEmpty { words.append("--exclude=\(HostList(excluded))") }
        if let nodes = request.nodes { words += ["-N", "\(nodes)"] }
        // With fewer tasks than nodes it would give as few nodes.
        if let tasks = request.tasks { words += ["-n", "\(max(tasks, request.nodes ?? 1))"] }
        if let perNode = request.tasksPerNode { words += ["--ntasks-per-node=\(perNode)"] }
        if let processors = request.cpusPerTask { words += ["-c", "\(processors)"] }
        return words + command
    }
}
