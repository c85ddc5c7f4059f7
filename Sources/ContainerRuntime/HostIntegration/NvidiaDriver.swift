/// The NVIDIA driver of a host: what its kernel module shows, and its files in user space.
package struct NvidiaDriver {
    package struct GPU: Equatable, Sendable {
        /// Minor number of its device node: `/dev/nvidia0`. CUDA's index counts in the order of the bus.
        package var minor: Int
        package var bus: String
        package var uuid: String?
        package var model: String?

        package init(minor: Int, bus: String, uuid: String?, model: String?) {
            self.minor = minor
            self.bus = bus
            self.uuid = uuid
            self.model = model
        }
    }
    /// `550.54.14`; nil when the module does not say.
    package var version: String?
    /// In the order of the bus, which is CUDA's with CUDA_DEVICE_ORDER=PCI_BUS_ID and nvidia-smi's.
    package var gpus: [GPU]
    /// Device nodes that every user of a GPU needs.
    package var controlNodes: [String]
    package var libraries: [HostLibrary]
    package var programs: [String]
    /// Files and directories that go to the same path inside.
    package var files: [String]
    /// Sockets of daemons that are running.
    package var sockets: [String]

    /// What is looked for to tell that there is a driver at all.
    package static let traces = ["/dev/nvidiactl", "/proc/driver/nvidia/version"]

    private static let controls = [
        "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset",
    ]
    private static let programNames = [
        "nvidia-smi", "nvidia-debugdump", "nvidia-persistenced", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server",
    ]
    private static let configuration = [
        "/etc/OpenCL/vendors/nvidia.icd", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
        "/usr/share/vulkan/icd.d/nvidia_icd.json", "/etc/vulkan/icd.d/nvidia_icd.json",
        "/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json",
        "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
    ]
    private static let daemons = ["/run/nvidia-persistenced/socket", "/run/nvidia-fabricmanager/socket"]
    /// Where drivers keep libraries outside the loader's standard directories.
    package static let libraryDirectories = [
        "/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib/aarch64-linux-gnu/nvidia/current", "/usr/lib64/nvidia",
        "/usr/lib/nvidia", "/usr/lib/wsl/lib",
    ]

    /// Libraries of the driver; those of the container toolkit (libnvidia-container) run on the host.
    package static func isDriverLibrary(_ name: String) -> Bool {
        guard name.contains(".so") else { return false }
        if name.hasPrefix("libnvidia-") { return !name.hasPrefix("libnvidia-container") }
        let stems = [
            "libcuda", "libcudadebugger", "libnvcuvid", "libnvoptix", "libGLX_nvidia", "libEGL_nvidia",
            "libGLESv2_nvidia", "libGLESv1_CM_nvidia", "libvdpau_nvidia",
        ]
        return stems.contains { name.hasPrefix($0 + ".so") }
    }

    /// Without them no program can use a GPU.
    package static func isEssential(_ name: String) -> Bool {
        name.hasPrefix("libcuda.so") || name.hasPrefix("libnvidia-ml.so")
    }

    /// Nil when the host has no driver loaded.
    package init?(_ host: HostLibraries) {
        let root = host.root
        guard Self.traces.contains(where: root.exists) else { return nil }
        version = Self.version(root)
        gpus = Self.gpus(root)
        controlNodes = Self.controls.filter(root.exists)
        if root.isDirectory("/dev/nvidia-caps") { controlNodes.append("/dev/nvidia-caps") }
        if root.isDirectory("/dev/nvidia-caps-imex-channels") { controlNodes.append("/dev/nvidia-caps-imex-channels") }
        libraries = Self.matching(version, host.libraries(where: Self.isDriverLibrary))
        programs = Self.programNames.compactMap { name in
            ["/usr/bin", "/bin", "/usr/local/bin", "/usr/lib/nvidia/current", "/opt/bin"].lazy
                .map { "\($0)/\(name)" }.first(where: root.exists)
        }
        files = Self.configuration.filter(root.exists)
        if let version {
            files +=
                ["/lib/firmware/nvidia/\(version)", "/usr/lib/firmware/nvidia/\(version)"]
                .first { root.isDirectory($0) }.map { [$0] } ?? []
        }
        sockets = Self.daemons.filter(root.exists)
    }

    /// Several drivers' libraries may lie beside each other: the kernel's module decides. Those whose file
    /// names carry no version of a driver (libnvidia-egl-gbm.so.1.1.0) stay.
    private static func matching(_ version: String?, _ all: [HostLibrary]) -> [HostLibrary] {
        guard let version else { return all }
        return all.filter { library in
            guard let own = fileVersion(library.fileName) else { return true }
            return own == version
        }
    }

    /// `550.54.14` of `libcuda.so.550.54.14`: three digits first, as drivers are numbered.
    static func fileVersion(_ file: String) -> String? {
        guard let mark = file.firstRange(of: ".so.") else { return nil }
        let text = file[mark.upperBound...]
        let parts = text.split(separator: ".")
        guard parts.count >= 2, parts[0].count >= 3, parts.allSatisfy({ $0.allSatisfy(\.isNumber) }) else { return nil }
        return String(text)
    }

    /// The first number with two dots or one in a line like
    /// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 …`.
    private static func version(_ root: HostRoot) -> String? {
        if let line = root.text(of: "/sys/module/nvidia/version") {
            return line.split { $0.isWhitespace }.first.map(String.init)
        }
        guard let line = root.text(of: "/proc/driver/nvidia/version")?.split(separator: "\n").first else { return nil }
        return line.split(separator: " ").map(String.init).first { word in
            let parts = word.split(separator: ".", omittingEmptySubsequences: false)
            return (2...3).contains(parts.count) && parts.allSatisfy { !$0.isEmpty && $0.allSatisfy(\.isNumber) }
        }
    }

    private static func gpus(_ root: HostRoot) -> [GPU] {
        let directory = "/proc/driver/nvidia/gpus"
        var found = root.names(in: directory).map { bus in
            var gpu = GPU(minor: -1, bus: bus, uuid: nil, model: nil)
            for line in (root.text(of: "\(directory)/\(bus)/information") ?? "").split(separator: "\n") {
                let parts = line.split(separator: ":", maxSplits: 1).map { trimmed($0) }
                guard parts.count == 2 else { continue }
                switch parts[0] {
                case "GPU UUID": gpu.uuid = parts[1].contains("?") ? nil : parts[1]
                case "Device Minor": gpu.minor = Int(parts[1]) ?? -1
                case "Model": gpu.model = parts[1]
                default: break
                }
            }
            return gpu
        }
        if found.isEmpty {
            // The module's proc files may be hidden; the nodes tell how many there are.
            found = root.names(in: "/dev").compactMap { name in
                name.hasPrefix("nvidia") ? Int(name.dropFirst(6)) : nil
            }.sorted().map { GPU(minor: $0, bus: "", uuid: nil, model: nil) }
        }
        return found.filter { $0.minor >= 0 && root.exists("/dev/nvidia\($0.minor)") }
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}
