/// What `trireme doctor` knows about GPUs, fabrics and MPIs. `ContainerRuntime` looks for them with the
/// code that `run` uses, and the command fills this in; tests make it up.
package struct DeviceFacts: Sendable {
    /// The GPU driver found, `NVIDIA 550.54.14`; nil when there is none.
    package var gpuDriver: String?
    package var gpuCount = 0
    /// GPUs on the PCI bus, whoever drives them: `NVIDIA (0000:01:00.0)`.
    package var gpuHardware: [String] = []
    /// `libcuda.so.1` of the driver's version, as found; nil when it is missing. Only NVIDIA's is needed.
    package var gpuLibrary: String?
    package var needsGPULibrary = false
    /// Nodes that this user may not open, with the reason.
    package var closedNodes: [String] = []
    /// Why the driver's libraries cannot be loaded in the image that was named.
    package var gpuObjection: String?

    /// Specification files: what each defines, or why it cannot be used.
    package var specifications: [Specification] = []
    package var fabrics: [Fabric] = []

    /// The host's MPIs in words: `Open MPI /usr/lib/…/libmpi.so.40.30.4`.
    package var hostMPIs: [String] = []
    /// What `srun --mpi=list` names; nil without srun.
    package var slurmTypes: [String]?
    package var image: Image?

    package init() {}

    package struct Specification: Sendable {
        package var path: String
        /// `nvidia.com/gpu (2 devices)`; nil when it cannot be used.
        package var content: String?
        package var failure: String?
        package init(path: String, content: String?, failure: String?) {
            self.path = path
            self.content = content
            self.failure = failure
        }
    }

    package struct Fabric: Sendable {
        /// `verbs (mlx5_0)`
        package var name: String
        /// Libraries that neither the host has.
        package var missing: [String]
        package init(name: String, missing: [String]) {
            self.name = name
            self.missing = missing
        }
    }

    /// The MPI of the image that was named.
    package struct Image: Sendable {
        package var name: String
        package var mpis: [MPI]
        package init(name: String, mpis: [MPI]) {
            self.name = name
            self.mpis = mpis
        }
    }
    package struct MPI: Sendable {
        /// `Open MPI 4`
        package var name: String
        /// Of MPICH 4.0 over UCX (pmodels/mpich pull request 6596); our own launchers undo the deadlock.
        package static let pmi2Hang =
            "there MPICH may hang in MPI_Finalize, in containers and without; 'trireme run -n RANKS' does not"
        /// `pmix` or `pmi2`: what Slurm must speak to start its ranks.
        package var wanted: String
        package var hasLauncher: Bool
        /// Why the host's MPI cannot take its place; nil when it can.
        package var hostObjection: String?
        package init(name: String, wanted: String, hasLauncher: Bool, hostObjection: String?) {
            self.name = name
            self.wanted = wanted
            self.hasLauncher = hasLauncher
            self.hostObjection = hostObjection
        }
    }
}
