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
    static let longNames = ["--gpus", "--nv", "--rocm", "--device"]

    @Option(help: "GPUs: all, a number, or ids (0,2 · GPU-… · MIG-… · device=0).") var gpus: String?
    @Flag(help: "All NVIDIA GPUs: --gpus all.") var nv = false
    @Flag(help: "All AMD GPUs, with the host's ROCm libraries if the image has none.") var rocm = false
    @Option(help: "A device: PATH[:DST[:rwm]], or vendor.com/class=NAME (CDI).") var device: [String] = []

    var isUsed: Bool { gpus != nil || nv || rocm || !device.isEmpty }

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        guard isUsed else { return }
        let integration = try HostIntegration(context)
        var devices = integration.devicePlan()
        let planning = GPUPlanning(host: integration.libraries, image: integration.image) {
            getenv($0).map { String(cString: $0) }
        }
        if let gpus { try planning.add(GPURequest(gpus), vendor: nil, option: "--gpus \(gpus)", to: &devices) }
        if nv { try planning.add(.all, vendor: .nvidia, option: "--nv", to: &devices) }
        if rocm { try planning.add(.all, vendor: .amd, option: "--rocm", to: &devices) }
        for typed in device {
            let node = try DeviceNode(typed, root: integration.libraries.root, checksHost: !context.isJob)
            devices.show(node.source, at: node.destination, readOnly: node.isReadOnly)
        }
        devices.apply(to: &plan)
        for note in devices.notes { Output.standard.line("trireme: \(note)", to: .progress) }
    }
}

/// The two sides of every device option: this host's files and the image's.
struct HostIntegration {
    let libraries: HostLibraries
    let image: ImageLibraries

    init(_ context: LaunchContext, searchesCallersPath: Bool = false) throws(Diagnostic) {
        func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
        do throws(SyscallError) {
            let root = try HostRoot(variable("TRIREME_HOST_ROOT") ?? "/")
            let path = (searchesCallersPath ? variable("LD_LIBRARY_PATH") ?? "" : "").split(separator: ":")
            libraries = HostLibraries(
                root: root, first: path.map(String.init), extra: NvidiaDriver.libraryDirectories + ["/opt/rocm/lib"])
            image = ImageLibraries(try MergedTree(context.image.lowerDirectories))
        } catch {
            throw Diagnostic(DiagnosticCode("store-unusable"), context.image.name, reasons: [error.sentence])
        }
    }

    func devicePlan() -> DevicePlan { DevicePlan(host: libraries, image: image) }
}
