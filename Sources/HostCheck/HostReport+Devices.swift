// GPUs, fabrics, and whether an image's MPI and this host can work together.
extension HostReport {
    static func gpu(_ facts: DeviceFacts) -> Finding {
        let name = "gpu"
        guard let driver = facts.gpuDriver else {
            if !facts.gpuHardware.isEmpty {
                return .warn(
                    name, "no driver loaded; on the bus: " + facts.gpuHardware.joined(separator: ", "),
                    cause: "--gpus needs the vendor's kernel module and its device nodes",
                    fix: "as administrator: modprobe nvidia && nvidia-modprobe -u -c=0 (AMD: modprobe amdgpu)")
            }
            return .skip(name, "none", cause: "no GPU on the bus, no /dev/nvidiactl, /dev/kfd or /dev/dri/renderD*")
        }
        let fact = "\(driver), \(facts.gpuCount) GPU\(facts.gpuCount == 1 ? "" : "s")"
        if facts.gpuCount == 0 {
            return .warn(
                name, fact, cause: "the driver is loaded and shows no GPU that has a device node",
                fix: "as administrator: nvidia-smi -L, then nvidia-modprobe -c=0")
        }
        if facts.needsGPULibrary, facts.gpuLibrary == nil {
            return .warn(
                name, "\(fact), no libcuda.so.1 of that version",
                cause: "containers use the host's driver libraries, and they are not in the loader's cache or the "
                    + "standard directories",
                fix: "as administrator: ldconfig, or install the driver's libraries of the same version")
        }
        if let closed = facts.closedNodes.first {
            return .warn(
                name, "\(fact); \(closed)", cause: "this user may not open a GPU's device node",
                fix:
                    "ask the batch system for the GPU (srun --gpus=1 …), or the administrator for the group of the node"
            )
        }
        if let objection = facts.gpuObjection {
            return .fail(
                name, "\(fact); \(facts.image?.name ?? "the image"): \(objection)",
                cause: "the driver's libraries are loaded beside the image's C library, which is too old for them",
                fix: "use an image with a newer C library")
        }
        return .ok(name, fact + (facts.gpuLibrary.map { ", \($0)" } ?? ""))
    }

    static func deviceSpecifications(_ facts: DeviceFacts) -> Finding {
        let name = "cdi"
        if let bad = facts.specifications.first(where: { $0.failure != nil }) {
            return .warn(
                name, "\(bad.path): \(bad.failure ?? "")", cause: "--device VENDOR/CLASS=NAME cannot use this file",
                fix: "as administrator: write it anew with the vendor's tool (nvidia-ctk cdi generate)")
        }
        if facts.specifications.isEmpty {
            return .skip(
                name, "none in /etc/cdi, /var/run/cdi", cause: "--gpus finds drivers without a specification")
        }
        return .ok(name, facts.specifications.map { "\($0.path): \($0.content ?? "")" }.joined(separator: ", "))
    }

    static func fabric(_ facts: DeviceFacts) -> Finding {
        let name = "fabric"
        guard !facts.fabrics.isEmpty else {
            return .skip(name, "none", cause: "no verbs, Omni-Path, Slingshot or Aries device; MPI uses TCP")
        }
        let fact = facts.fabrics.map(\.name).joined(separator: ", ")
        let missing = facts.fabrics.flatMap(\.missing)
        guard missing.isEmpty else {
            return .warn(
                name, "\(fact); missing: \(missing.joined(separator: ", "))",
                cause: "an image without the network's user-space driver gets the host's, and the host has none",
                fix: "as administrator: install the network's user-space packages (Debian: libibverbs1 "
                    + "ibverbs-providers librdmacm1, libpsm2-2, libfabric1)")
        }
        return .ok(name, fact)
    }

    static func mpi(_ facts: DeviceFacts) -> Finding {
        let name = "mpi"
        var fact = "host: " + (facts.hostMPIs.isEmpty ? "no MPI" : facts.hostMPIs.joined(separator: ", "))
        if let types = facts.slurmTypes {
            fact += "; Slurm: " + (types.isEmpty ? "none" : types.joined(separator: ","))
        }
        guard let image = facts.image else {
            if facts.hostMPIs.isEmpty, facts.slurmTypes == nil {
                return .skip(name, fact, cause: "jobs use the image's own MPI; 'doctor --image NAME' looks at one")
            }
            return .ok(name, fact)
        }
        guard let mpi = image.mpis.first else { return .ok(name, "\(image.name): no MPI; \(fact)") }
        fact = "\(image.name): " + image.mpis.map(\.name).joined(separator: ", ") + "; \(fact)"
        let reaches = image.mpis.filter { facts.slurmTypes?.contains($0.wanted) == true }
        let starts = image.mpis.filter(\.hasLauncher)
        if starts.isEmpty, reaches.isEmpty {
            return .fail(
                name, fact,
                cause: facts.slurmTypes == nil
                    ? "the image has an MPI library and no mpirun, and there is no Slurm to start its ranks"
                    : "the image has no mpirun, and Slurm does not speak \(mpi.wanted): every rank would be a job of its own",
                fix: "put the MPI's launcher (mpirun, orted or hydra) into the image")
        }
        if let types = facts.slurmTypes, reaches.isEmpty {
            return .warn(
                name, fact,
                cause: "Slurm speaks \(types.isEmpty ? "nothing" : types.joined(separator: ",")), \(mpi.name) needs "
                    + "\(mpi.wanted): with --model rank every rank would be a job of its own",
                fix: "use --model node (the default), or ask for Slurm's \(mpi.wanted) plug-in")
        }
        if mpi.wanted == "pmi2", reaches.contains(where: { $0.wanted == "pmi2" }) {
            fact += "; not by 'srun --mpi=pmi2 trireme run': \(DeviceFacts.MPI.pmi2Hang)"
        }
        if let objection = mpi.hostObjection { return .ok(name, "\(fact); --mpi host: no, \(objection)") }
        return .ok(name, "\(fact); --mpi host: fits")
    }
}
