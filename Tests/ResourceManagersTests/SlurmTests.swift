import Diagnostics
import JobModel
import ResourceManagers
import Testing

@Suite struct SlurmTests {
    private func allocation(_ variables: [String: String]) throws(Diagnostic) -> Allocation? {
        try Detection.allocation(in: Surroundings { variables[$0] })
    }

    @Test func noneOutsideAJob() throws {
        #expect(try allocation([:]) == nil)
        #expect(try allocation(["SLURM_CONF": "/etc/slurm.conf"]) == nil)
        #expect(try allocation(["SLURM_JOB_ID": "", "SLURM_JOB_NODELIST": "n1"]) == nil)
    }

    @Test func slotsAreTasksOrProcessors() throws {
        let found = try allocation([
            "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_TASKS_PER_NODE": "2(x2),1",
            "SLURM_JOB_CPUS_PER_NODE": "2(x3)",
        ])
        #expect(found?.jobID == "7" && found?.system == "slurm")
        // -N 3 alone says one task each, yet all processors are ours.
        #expect(found?.nodes.map(\.slots) == [2, 2, 2])
        let threaded = try allocation([
            "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_TASKS_PER_NODE": "2",
            "SLURM_JOB_CPUS_PER_NODE": "8", "SLURM_CPUS_PER_TASK": "4",
        ])
        #expect(threaded?.nodes == [.init(name: "n1", slots: 2)])
    }

    @Test func aStepsOwnCountsAreNotTheJobs() throws {
        // `srun -N 1` inside a job of two nodes: SLURM_TASKS_PER_NODE describes the step.
        let found = try allocation([
            "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "1",
            "SLURM_JOB_CPUS_PER_NODE": "2(x2)",
        ])
        #expect(found?.slots == 4)
    }

    @Test func unreadableVariablesAreNamed() {
        #expect(throws: Diagnostic.self) {
            try allocation(["SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-"])
        }
        #expect(throws: Diagnostic.self) {
            try allocation(["SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_TASKS_PER_NODE": "many"])
        }
    }

    @Test func onlyTheFirstTaskOfAStepLeads() {
        func isFollower(_ tasks: String?, _ rank: String?) -> Bool {
            Slurm.isFollower(
                Surroundings { $0 == "SLURM_STEP_NUM_TASKS" ? tasks : $0 == "SLURM_PROCID" ? rank : nil })
        }
        #expect(isFollower("4", "1") && !isFollower("4", "0") && !isFollower("1", "0") && !isFollower(nil, nil))
    }

    /// srun(1), "INPUT ENVIRONMENT VARIABLES": options of the user's own steps are none of ours.
    @Test func optionsInVariablesDoNotReachOurSteps() {
        let options = [
            "SLURM_EXPORT_ENV", "SRUN_EXPORT_ENV", "SLURM_DEBUG", "SLURM_CPU_BIND", "SLURM_MEM_PER_CPU", "SLURM_NNODES",
            "SLURM_JOB_NUM_NODES", "SLURM_NTASKS", "SLURM_STDOUTMODE", "SLURM_HINT", "SLURM_UMASK",
            "SLURM_OPTION_TO_COME",
            "SRUN_CPUS_PER_TASK", "SLURMD_DEBUG", "SBATCH_PARTITION", "SALLOC_TIMELIMIT", "SLURM_HOSTFILE",
        ]
        #expect(options.filter(Detection.passesToCommands) == [])
        let others = [
            "HOME", "PATH", "SLURM_CONF", "SLURM_JWT", "SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_SUBMIT_DIR",
            "SLURM_ARRAY_TASK_ID", "SPANK_OPTION", "_SLURM_SPANK_OPTION_x_y", "OMP_NUM_THREADS", "PE_HOSTFILE",
        ]
        #expect(others.filter(Detection.passesToCommands) == others)
    }

    @Test func argumentLists() {
        // `sbatch --export=NONE` says otherwise.
        for words in [
            SlurmCommands.fanOut(nodes: ["n1"], jobID: "7", command: []),
            SlurmCommands.ranks(
                map: TaskMap(nodes: [.init(name: "n1", tasks: 2)]), jobID: "7", processManagement: .pmix, command: []),
        ] { #expect(words.contains("--export=ALL")) }
        let fanOut = SlurmCommands.fanOut(nodes: ["n1", "n2"], jobID: "7", command: ["agent"])
        #expect(fanOut.first == "srun" && fanOut.last == "agent")
        for word in ["-K", "--nodelist=n[1-2]", "--ntasks-per-node=1", "--overlap", "--mpi=none", "--input=none"] {
            #expect(fanOut.contains(word), "\(word)")
        }
        let map = TaskMap(nodes: [.init(name: "n1", tasks: 2), .init(name: "n2", tasks: 1)])
        let ranks = SlurmCommands.ranks(map: map, jobID: "7", processManagement: .pmi2, command: ["x"])
        #expect(ranks.contains("--mpi=pmi2") && ranks.contains("-n") && ranks.contains("3"))
        let salloc = SlurmCommands.allocation(for: .init(tasks: 4, nodes: 2), command: ["trireme"])
        #expect(salloc == ["salloc", "-Q", "-N", "2", "-n", "4", "trireme"])
        // Slurm gives one task one node, whatever was asked for.
        #expect(SlurmCommands.allocation(for: .init(tasks: 1, nodes: 2), command: []).suffix(2) == ["-n", "2"])
    }
}
