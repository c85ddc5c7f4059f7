import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem

/// Devices: GPUs, fabrics and single device nodes, with the host libraries that drive them.
struct DeviceOptions: ContainerOptionGroup {
    static let longNames = ["--gpus", "--nv", "--rocm", "--device", "--fabric"]

    @Option(help: "GPUs: all, a number, or ids (0,2 · GPU-… · MIG-… · device=0).") var gpus: String?
    @Flag(help: "All NVIDIA GPUs: --gpus all.") var nv = false
    @Flag(help: "All AMD GPUs, with the host's ROCm libraries if the image has none.") var rocm = false
    @Option(help: "A device: PATH[:DST[:rwm]], or vendor.com/class=NAME (CDI).") var device: [String] = []

    @Option(help: "Fast networks: 'auto' (the default in jobs) or 'none'.") var fabric: String?

    private var isUsed: Bool { gpus != nil || nv || rocm || !device.isEmpty }

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        guard fabric == nil || fabric == "auto" || fabric == "none" else {
            throw Diagnostic(
                DiagnosticCode("option-value"), "--fabric \(fabric ?? "")", reasons: ["neither auto nor none"],
                remedies: ["--fabric auto", "--fabric none"])
        }
        let wantsFabric = fabric == "auto" || fabric == nil && context.isJob
        guard isUsed || wantsFabric else { return }
        let integration = try HostIntegration(context)
        var devices = integration.devicePlan()
        let planning = GPUPlanning(host: integration.libraries, image: integration.image) {
            getenv($0).map { String(cString: $0) }
        }
        if let gpus { try planning.add(GPURequest(gpus), vendor: nil, option: "--gpus \(gpus)", to: &devices) }
        if nv { try planning.add(.all, vendor: .nvidia, option: "--nv", to: &devices) }
        if rocm { try planning.add(.all, vendor: .amd, option: "--rocm", to: &devices) }
        let names = device.filter(CDIPlanning.isName)
        if !names.isEmpty {
            try CDIPlanning(host: integration.libraries, image: integration.image).add(names, to: &devices)
        }
        for typed in device where !CDIPlanning.isName(typed) {
            let node = try DeviceNode(typed, root: integration.libraries.root, checksHost: !context.isJob)
            devices.show(node.source, at: node.destination, readOnly: node.isReadOnly)
        }
        if wantsFabric { addFabric(integration, to: &devices, isJob: context.isJob) }
        devices.apply(to: &plan)
        Self.tell(devices.notes)
    }

    /// Notes for people. Of many ranks that each start a container, the first speaks.
    static func tell(_ notes: [String]) {
        for name in ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"] {
            if let rank = getenv(name), String(cString: rank) != "0" { return }
        }
        for note in notes { Output.standard.line("trireme: \(note)", to: .progress) }
    }
}

extension DeviceOptions {
    private func addFabric(_ integration: HostIntegration, to devices: inout DevicePlan, isJob: Bool) {
        var own = integration.devicePlan()
        own.libraries = devices.libraries
        let fabrics = FabricPlanning(host: integration.libraries, image: integration.image).add(to: &own)
        devices.libraries = own.libraries
        // Nodes of a job need not be alike: what this one has another may lack.
        devices.mounts += own.mounts.map { mount in
            var mount = mount
            mount.isOptional = isJob
            return mount
        }
        guard fabric != nil else { return }
        devices.notes += own.notes
        if fabrics.isEmpty { devices.notes.append("fabric: none on this host; TCP is used") }
    }
}

/// The two sides of every device option: this host's files and the image's.
struct HostIntegration {
    let libraries: HostLibraries
    let image: ImageLibraries

    init(_ context: LaunchContext, searchesCallersPath: Bool = false) throws(Diagnostic) {
        do throws(SyscallError) {
            libraries = try Self.hostLibraries(searchesCallersPath: searchesCallersPath)
            image = ImageLibraries(try MergedTree(context.image.lowerDirectories))
        } catch {
            throw Diagnostic(DiagnosticCode("store-unusable"), context.image.name, reasons: [error.sentence])
        }
    }

    /// - Parameter searchesCallersPath: what a module put into LD_LIBRARY_PATH comes first.
    static func hostLibraries(searchesCallersPath: Bool) throws(SyscallError) -> HostLibraries {
        func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
        let path = (searchesCallersPath ? variable("LD_LIBRARY_PATH") ?? "" : "").split(separator: ":")
        return HostLibraries(
            root: try HostRoot(variable("TRIREME_HOST_ROOT") ?? "/"), first: path.map(String.init),
            extra: NvidiaDriver.libraryDirectories + ["/opt/rocm/lib"] + HostMPI.libraryDirectories)
    }

    func devicePlan() -> DevicePlan { DevicePlan(host: libraries, image: image) }
}
