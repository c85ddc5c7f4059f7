import Diagnostics
import Glibc

/// What is missing for an AMD GPU, from the bus up to the device nodes: the kernel's driver amdgpu makes `/dev/kfd`
/// for computing and `/dev/dri/renderD*` for each GPU, open to the groups `render` and `video` (ROCm's installation guide).
extension GPUPlanning {
    func missingAMD(_ option: String) -> Diagnostic {
        let root = host.root
        let isLoaded = root.exists("/sys/module/amdgpu")
        var reasons: [String] = []
        var remedies: [String] = []
        if root.exists("/dev/kfd") {
            reasons.append("\(root.outside("/dev/kfd")) is there, and no \(root.outside("/dev/dri/renderD*")) of a GPU")
            remedies.append("the batch system may have granted none: srun --gpus=1 …")
        } else if isLoaded {
            reasons.append("the driver amdgpu is loaded, and there is no \(root.outside("/dev/kfd"))")
            remedies.append(
                "as administrator: a kernel with CONFIG_HSA_AMD; in a container or a job: have /dev/kfd passed")
        } else if let address = hardware.first {
            reasons.append("there is an AMD GPU (\(address)), and its driver amdgpu is not loaded")
            remedies.append("as administrator: modprobe amdgpu")
        } else {
            reasons.append("this host has no AMD GPU driver")
            let places = ["/dev/kfd", "/sys/module/amdgpu", Self.bus].map(root.outside)
            reasons.append("looked for " + places.joined(separator: ", "))
            if NvidiaDriver(host) != nil { remedies.append("this host's GPUs are NVIDIA's: --nv, or --gpus all") }
        }
        if remedies.isEmpty || isLoaded { remedies.append("run on a node with AMD GPUs (srun --gpus=1 …)") }
        return Diagnostic(
            DiagnosticCode("gpu-missing"), option, reasons: reasons,
            remedies: remedies + [
                "--gpus all takes the GPUs of whichever vendor; --device /dev/kfd --device /dev/dri/renderD128 takes nodes by hand",
                "trireme doctor",
            ])
    }

    /// Nodes that are there and do not open for this user.
    func closedNodes() -> [String] {
        (["/dev/kfd"] + renderNodes).map(host.root.outside).filter { access($0, R_OK | W_OK) != 0 }.map {
            "\($0) is closed to this user: ask to be in the groups render and video"
        }
    }

    private static let bus = "/sys/bus/pci/devices"

    /// Addresses of AMD's display controllers and accelerators (class 0x03, 0x12; vendor 0x1002).
    private var hardware: [String] {
        host.root.names(in: Self.bus).sorted().filter { address in
            func word(_ file: String) -> String {
                (host.root.text(of: "\(Self.bus)/\(address)/\(file)") ?? "").split { $0.isWhitespace }.first.map(
                    String.init)
                    ?? ""
            }
            return word("vendor") == "0x1002" && (word("class").hasPrefix("0x03") || word("class").hasPrefix("0x12"))
        }
    }
}
