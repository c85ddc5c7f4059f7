import Glibc

/// Keeps an MPI launcher that runs in a container from a batch system whose commands the container does not show.
///
/// mpirun and mpiexec learn from the batch system's variables that it has nodes for them, and would start their
/// daemons there with `srun` or `qrsh`, even for ranks on this node alone: Open MPI then ends, Hydra hangs. What the
/// caller, the image or `-e` says about the same settings stands.
enum LonelyLauncher {
    /// A variable that describes an allocation, and the command its launchers would call.
    private static let systems: [(variable: StaticString, command: StaticString)] = [
        ("SLURM_JOB_ID", "srun"), ("PE_HOSTFILE", "qrsh"), ("PBS_NODEFILE", "pbs_tmrsh"), ("LSB_MCPU_HOSTS", "blaunch"),
    ]

    /// Open MPI's run-time layer until 4 and that of 5, and Hydra. Without the batch system's count of slots there
    /// are as many as processors, fewer than virtual nodes have.
    private static let settings: [StaticString] = [
        "OMPI_MCA_plm=^slurm,tm,lsf,alps", "OMPI_MCA_ras=^slurm,gridengine,tm,lsf,alps,loadleveler",
        "OMPI_MCA_plm_rsh_disable_qrsh=1", "OMPI_MCA_rmaps_base_oversubscribe=1", "PRTE_MCA_plm=^slurm,tm,lsf,pals",
        "PRTE_MCA_ras=^slurm,gridengine,pbs,lsf,flux", "HYDRA_LAUNCHER=fork", "HYDRA_RMK=user",
    ]

    /// Call inside the container, before the application starts.
    static func settle(_ environment: inout ContainerEnvironment) {
        guard let system = systems.first(where: { environment.value($0.variable) != nil }),
            !shows(system.command, environment)
        else { return }
        for setting in settings { environment.setDefault(c(setting)) }
    }

    private static func shows(_ command: StaticString, _ environment: ContainerEnvironment) -> Bool {
        var rest = environment.value("PATH") ?? c("")
        while rest[0] != 0 {
            let length = strcspn(rest, c(":"))
            var path = ByteBuffer(capacity: 128)
            path.append(rest, count: Int(length))
            path.append(slash)
            path.append(command)
            if access(path.cString, X_OK) == 0 { return true }
            rest += Int(length)
            if rest[0] == colon { rest += 1 }
        }
        return false
    }
}
