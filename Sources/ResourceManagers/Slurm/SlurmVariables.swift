/// Which of Slurm's variables its commands may see when we call them.
///
/// srun and salloc take most of their options from variables, too (srun(1), "INPUT ENVIRONMENT VARIABLES"): what a
/// user exported for steps of his own, or sbatch for the script, would decide how our agents start.
/// SLURM_EXPORT_ENV=NONE, which `sbatch --export=NONE` sets, keeps the job's secret from them; SLURM_DEBUG writes into
/// the application's output. Each release adds some, so the list is of those that pass.
package enum SlurmVariables {
    /// How the controller is reached and what proves who asks, and facts about the job that no command takes as
    /// an option (sbatch(1), "OUTPUT ENVIRONMENT VARIABLES").
    private static let facts: Set<String> = [
        "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_WORKING_CLUSTER", "SLURM_STEPMGR", "SLURM_JWT", "SLURM_NODE_ALIASES",
        "SLURM_CLUSTER_NAME", "SLURM_JOBID", "SLURM_NODELIST", "SLURM_RESTART_COUNT", "SLURMD_NODENAME",
    ]
    private static let factFamilies = [
        "SLURM_SACK_", "SLURM_SPANK_", "SLURM_JOB_", "SLURM_ARRAY_", "SLURM_SUBMIT_", "SLURM_TOPOLOGY_",
    ]
    private static let families = ["SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SALLOC_"]
    /// The step sets it; before, it is the option `--nodes`.
    private static let exceptions: Set<String> = ["SLURM_JOB_NUM_NODES"]

    /// What a task may ask about its job and srun takes as an option: ranks of a step get it by another way.
    package static let described: Set<String> = [
        "SLURM_CPUS_PER_TASK", "SLURM_TRES_PER_TASK", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_MEM_PER_NODE",
        "SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK",
    ]

    package static func pass(_ name: String) -> Bool {
        guard families.contains(where: name.hasPrefix) else { return true }
        if exceptions.contains(name) { return false }
        return facts.contains(name) || factFamilies.contains(where: name.hasPrefix)
    }
}
