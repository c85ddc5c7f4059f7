import ImageFormats
import Diagnostics

/// Turns a request for GPUs into mounts, libraries and variables, for whichever vendor's the host has.
package struct GPUPlanning {
    package enum Vendor: String, Sendable { case nvidia = "NVIDIA", amd = "AMD", intel = "Intel" }

    let host: HostLibraries
    private let image: ImageLibraries
    private let environment: (String) -> String?

    package init(host: HostLibraries, image: ImageLibraries, environment: @escaping (String) -> String?) {
        self.host = host
        self.image = image
        self.environment = environment
    }

    /// - Parameters:
    ///   - vendor: nil takes the first vendor found: NVIDIA, AMD, Intel.
    ///   - option: as typed, for messages.
    /// - Throws: `gpu-missing`, `gpu-libraries`, `gpu-unknown`, `gpu-not-granted`.
    package func add(
        _ request: GPURequest, vendor: Vendor?, option: String, to plan: inout DevicePlan
    ) throws(Diagnostic) {
        if case .container(let names) = request {
            return try CDIPlanning(host: host, image: image).add(names, to: &plan)
        }
        if vendor == nil || vendor == .nvidia, let driver = NvidiaDriver(host) {
            return try add(driver, request, option, to: &plan)
        }
        if vendor == nil || vendor == .amd, host.root.exists("/dev/kfd") {
            return try addAMD(request, option, to: &plan)
        }
        if vendor == nil || vendor == .intel, vendor == .intel || !renderNodes.isEmpty, !renderNodes.isEmpty {
            return try addIntel(request, to: &plan)
        }
        if vendor == nil, let names = containerNames(request) {
            return try CDIPlanning(host: host, image: image).add(names, to: &plan)
        }
        throw missing(vendor, option)
    }

    /// Drivers that show themselves in a specification only (WSL, Tegra): its GPUs by their names.
    private func containerNames(_ request: GPURequest) -> [String]? {
        for (_, content) in CDIPlanning.specifications(host.root) {
            guard case .success(let specification) = content, specification.kind.hasSuffix("/gpu") else { continue }
            let names = specification.devices.keys.filter { $0 != "all" }.sorted()
            let chosen: [String]
            switch request {
            case .all: chosen = specification.devices["all"] != nil ? ["all"] : names
            case .count(let count): chosen = names.count >= count ? Array(names.prefix(count)) : []
            case .devices(let ids): chosen = ids.allSatisfy { specification.devices[$0] != nil } ? ids : []
            case .container: chosen = []
            }
            if !chosen.isEmpty { return chosen.map { "\(specification.kind)=\($0)" } }
        }
        return nil
    }

    private func missing(_ vendor: Vendor?, _ option: String) -> Diagnostic {
        if vendor == .amd { return missingAMD(option) }
        var looked: [String] = []
        if vendor == nil || vendor == .nvidia { looked += NvidiaDriver.traces }
        if vendor == nil { looked.append("/dev/kfd") }
        if vendor == nil || vendor == .intel { looked.append("/dev/dri/renderD*") }
        if vendor == nil { looked += CDIPlanning.directories.map { "\($0)/*.{json,yaml}" } }
        let places = looked.map(host.root.outside).joined(separator: ", ")
        var remedies = [
            "run on a node with GPUs (srun --gpus=1 …)", "as administrator: modprobe nvidia, nvidia-modprobe -u",
        ]
        if vendor == nil { remedies[1] += "; of AMD: modprobe amdgpu" }
        if vendor == .nvidia, host.root.exists("/dev/kfd") {
            remedies.insert("this host's GPUs are AMD's: --rocm", at: 0)
        }
        return Diagnostic(
            DiagnosticCode("gpu-missing"), option,
            reasons: ["this host has no \(vendor.map { $0.rawValue + " " } ?? "")GPU driver", "looked for \(places)"],
            remedies: remedies + ["trireme doctor"])
    }

    // MARK: NVIDIA

    private func add(
        _ driver: NvidiaDriver, _ request: GPURequest, _ option: String, to plan: inout DevicePlan
    ) throws(Diagnostic) {
        // Slurm and others set the grant; the image may carry the variable, which is no grant.
        let selection = try GPUSelection(
            request, granted: GPUGrant(environment("CUDA_VISIBLE_DEVICES")), gpus: driver.gpus)
        for node in driver.controlNodes { plan.show(node) }
        for (index, gpu) in driver.gpus.enumerated() where selection.indices?.contains(index) ?? true {
            plan.show("/dev/nvidia\(gpu.minor)")
        }
        try addLibraries(of: driver, option, to: &plan)
        for path in driver.programs {
            if let facts = host.root.elf(host.root.realPath(path) ?? path), let reason = image.objection(to: facts) {
                plan.notes.append("\(path) is left out: \(reason)")
                continue
            }
            let name = path[path.index(after: path.lastIndex(of: "/")!)...]
            plan.show(host.root.realPath(path) ?? path, at: "/usr/bin/\(name)", readOnly: true)
        }
        for path in driver.files { plan.show(path, readOnly: true) }
        for path in driver.sockets { plan.show(path) }
        if let pipes = environment("CUDA_MPS_PIPE_DIRECTORY"), host.root.isDirectory(pipes) { plan.show(pipes) }
        if let visible = selection.visible {
            plan.variables.append(("CUDA_VISIBLE_DEVICES", visible.joined(separator: ",")))
            plan.variables.append(("NVIDIA_VISIBLE_DEVICES", visible.joined(separator: ",")))
            // Indices here count in the order of the bus; CUDA's own default order is by speed.
            if environment("CUDA_VISIBLE_DEVICES") == nil {
                plan.variables.append(("CUDA_DEVICE_ORDER", "PCI_BUS_ID"))
            }
        } else {
            plan.variables.append(("NVIDIA_VISIBLE_DEVICES", "all"))
        }
    }

    private func addLibraries(
        of driver: NvidiaDriver, _ option: String, to plan: inout DevicePlan
    ) throws(Diagnostic) {
        guard driver.libraries.contains(where: { NvidiaDriver.isEssential($0.name) }) else {
            throw Diagnostic(
                DiagnosticCode("gpu-libraries"), option,
                reasons: [
                    "the NVIDIA kernel module" + (driver.version.map { " \($0)" } ?? "")
                        + " is loaded, its libraries are not there",
                    "looked for libcuda.so.1 and libnvidia-ml.so.1"
                        + (driver.version.map { " of version \($0)" } ?? "") + " in the loader's cache "
                        + "(\(host.root.outside("/etc/ld.so.cache"))) and the standard directories",
                ],
                remedies: [
                    "as administrator: ldconfig, or install the driver's libraries of the same version",
                    "TRIREME_HOST_ROOT=DIR when the driver's files are below DIR",
                ])
        }
        for library in driver.libraries {
            plan.libraries.add(library)
        }
        let refused = plan.libraries.refused.filter { NvidiaDriver.isDriverLibrary($0.name) }
        if let essential = refused.first(where: { NvidiaDriver.isEssential($0.name) }) {
            throw Diagnostic(
                DiagnosticCode("gpu-libraries"), option,
                reasons: ["\(essential.name) of this host cannot be loaded in this image", essential.reason],
                remedies: [
                    "use an image with a newer C library", "trireme image ls",
                ])
        }
        for (name, reason) in refused { plan.notes.append("\(name) is left out: \(reason)") }
    }

    // MARK: AMD and Intel

    var renderNodes: [String] {
        host.root.names(in: "/dev/dri").filter { $0.hasPrefix("renderD") }.map { "/dev/dri/\($0)" }
    }

    /// The render nodes of the request, by place; all of them for `all`.
    private func places(_ request: GPURequest, _ count: Int, _ granted: GPUGrant) throws(Diagnostic) -> [String]? {
        try GPUSelection(
            request, granted: granted,
            gpus: (0..<count).map { NvidiaDriver.GPU(minor: $0, bus: "", uuid: nil, model: nil) }
        ).visible
    }

    private static let rocm = [
        "libhsa-runtime64.so.", "libamdhip64.so.", "librocm_smi64.so.", "libamd_smi.so.", "libamdocl64.so",
        "libamd_comgr.so.", "libhsakmt.so.", "librocprofiler-register.so.",
    ]

    private func addAMD(_ request: GPURequest, _ option: String, to plan: inout DevicePlan) throws(Diagnostic) {
        let granted = GPUGrant(environment("ROCR_VISIBLE_DEVICES") ?? environment("HIP_VISIBLE_DEVICES"))
        guard !renderNodes.isEmpty else { throw missingAMD(option) }
        let visible = try places(request, renderNodes.count, granted)
        plan.show("/dev/kfd")
        for node in renderNodes { plan.show(node) }
        plan.notes += closedNodes()
        if let visible { plan.variables.append(("ROCR_VISIBLE_DEVICES", visible.joined(separator: ","))) }
        // An image built for ROCm brings its own libraries, which need only the kernel's driver.
        let isOwn = ImageLibraries.directories + ["/opt/rocm/lib", "/opt/rocm/lib64"]
        if isOwn.contains(where: { directory in
            image.tree.names(in: directory).contains { $0.hasPrefix("libhsa-runtime64.so") }
        }) {
            plan.notes.append("the image's own ROCm libraries are used")
            return
        }
        let found = host.libraries { name in Self.rocm.contains { name.hasPrefix($0) } }
        for library in found { plan.libraries.addWithNeeds(library) }
        for (name, reason) in plan.libraries.refused { plan.notes.append("\(name) is left out: \(reason)") }
        if found.isEmpty {
            plan.notes.append(
                "neither the image nor the host has ROCm's libraries (libhsa-runtime64.so.1): "
                    + "take an image built for ROCm, or install them on the host below /opt/rocm")
        }
    }

    private func addIntel(_ request: GPURequest, to plan: inout DevicePlan) throws(Diagnostic) {
        let visible = try places(request, renderNodes.count, GPUGrant(environment("ZE_AFFINITY_MASK")))
        for node in renderNodes { plan.show(node) }
        if let visible { plan.variables.append(("ZE_AFFINITY_MASK", visible.joined(separator: ","))) }
    }
}
