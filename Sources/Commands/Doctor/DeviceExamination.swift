import ContainerRuntime
import Diagnostics
import Glibc
import HostCheck
import ImageFormats
import ImageStore
import LinuxSystem
import Processes

/// Measures what `doctor` says of GPUs, fabrics and MPIs, with the code that `run` decides by.
struct DeviceExamination {
    private let host: HostLibraries
    private let image: StoredImage?
    private let libraries: ImageLibraries?

    /// - Parameter image: the one of `doctor --image`.
    init(image: StoredImage?) throws(Diagnostic) {
        do throws(SyscallError) {
            host = try HostIntegration.hostLibraries(searchesCallersPath: true)
            libraries = try image.map { image throws(SyscallError) in
                ImageLibraries(try MergedTree(image.lowerDirectories))
            }
        } catch {
            throw Diagnostic(DiagnosticCode("store-unusable"), image?.name ?? "/", reasons: [error.sentence])
        }
        self.image = image
    }

    func facts() -> DeviceFacts {
        var facts = DeviceFacts()
        examineGPUs(&facts)
        for (path, content) in CDIPlanning.specifications(host.root) {
            switch content {
            case .success(let specification):
                let count = specification.devices.count
                facts.specifications.append(
                    .init(
                        path: path, content: "\(specification.kind) (\(count) device\(count == 1 ? "" : "s"))",
                        failure: nil))
            case .failure(let failure):
                facts.specifications.append(.init(path: path, content: nil, failure: failure.reason))
            }
        }
        for fabric in Fabric.detect(host.root) {
            let adapters = fabric.adapters.isEmpty ? "" : " (\(fabric.adapters.joined(separator: ", ")))"
            let missing = FabricPlanning.libraries(of: fabric.kind).filter { host.library($0) == nil }
            facts.fabrics.append(.init(name: fabric.kind.rawValue + adapters, missing: missing))
        }
        examineMPI(&facts)
        return facts
    }

    // MARK: GPUs

    private static let vendors = ["0x10de": "NVIDIA", "0x1002": "AMD"]

    private func examineGPUs(_ facts: inout DeviceFacts) {
        let root = host.root
        for address in root.names(in: "/sys/bus/pci/devices") {
            let device = "/sys/bus/pci/devices/\(address)"
            func word(_ file: String) -> String {
                (root.text(of: "\(device)/\(file)") ?? "").split { $0.isWhitespace }.first.map(String.init) ?? ""
            }
            // 0x03: display controllers; 0x1200: processing accelerators.
            guard let vendor = Self.vendors[word("vendor")],
                word("class").hasPrefix("0x0302") || word("class").hasPrefix("0x0300")
                    || word("class").hasPrefix("0x1200")
            else { continue }
            facts.gpuHardware.append("\(vendor) (\(address))")
        }
        let renderNodes = root.names(in: "/dev/dri").filter { $0.hasPrefix("renderD") }.map { "/dev/dri/\($0)" }
        var nodes: [String] = []
        if let driver = NvidiaDriver(host) {
            facts.gpuDriver = "NVIDIA" + (driver.version.map { " \($0)" } ?? "")
            facts.gpuCount = driver.gpus.count
            facts.needsGPULibrary = true
            let cuda = driver.libraries.first { $0.name.hasPrefix("libcuda.so") }
            facts.gpuLibrary = cuda?.path
            facts.gpuObjection = cuda.flatMap { library in libraries?.objection(to: library.facts) }
            nodes = driver.controlNodes.filter { !root.isDirectory($0) } + driver.gpus.map { "/dev/nvidia\($0.minor)" }
        } else if root.exists("/dev/kfd") {
            facts.gpuDriver = "AMD"
            facts.gpuCount = renderNodes.count
            nodes = ["/dev/kfd"] + renderNodes
        } else if !renderNodes.isEmpty {
            facts.gpuDriver = "render nodes"
            facts.gpuCount = renderNodes.count
            nodes = renderNodes
        }
        facts.closedNodes = nodes.filter { access(root.outside($0), R_OK | W_OK) != 0 }
            .map { "\($0) is closed to this user" }
    }

    // MARK: MPI

    private func examineMPI(_ facts: inout DeviceFacts) {
        facts.hostMPIs = HostMPI.installations(host).map { "\(HostMPI.word($0.family)) \($0.library.path)" }
        facts.slurmTypes = SlurmTypes.listed()
        guard let image, let libraries else { return }
        let mpis = image.record.mpi.map { installation in
            let isOpenMPI = installation.family == .openMPI
            return DeviceFacts.MPI(
                name: isOpenMPI ? "Open MPI \(installation.major)" : "MPICH", wanted: isOpenMPI ? "pmix" : "pmi2",
                hasLauncher: installation.launcher != nil, hostObjection: objection(installation, libraries))
        }
        facts.image = .init(name: image.name, mpis: mpis)
    }

    private func objection(_ installation: MPIInstallation, _ libraries: ImageLibraries) -> String? {
        var plan = DevicePlan(host: host, image: libraries)
        do throws(Diagnostic) {
            try HostMPI(host: host, image: libraries).add(installation, imageName: "", to: &plan)
            return nil
        } catch { return error.reasons.last ?? error.code.rawValue }
    }
}

/// The process-management interfaces that this host's Slurm offers to its tasks.
enum SlurmTypes {
    /// Nil without srun in PATH, or when it does not answer in 10 s.
    static func listed() -> [String]? {
        let path = (getenv("PATH").map { String(cString: $0) } ?? "").split(separator: ":")
        let candidates: [String] = path.map { "\($0)/srun" }
        guard let srun = candidates.first(where: { access($0, X_OK) == 0 }),
            let helper = try? HelperProcess(
                [srun, "--mpi=list"], environment: EnvironmentBlock.forCommands())
        else { return nil }
        var said: [UInt8] = []
        var left = 100
        while helper.output >= 0, left > 0 {
            var ready = pollfd(fd: helper.output, events: Int16(POLLIN), revents: 0)
            if poll(&ready, 1, 100) <= 0 { left -= 1 }
            said += helper.readOutput()
        }
        let isSilent = helper.output >= 0
        if isSilent { helper.end(SIGKILL) }
        waitpid(helper.pid, nil, 0)
        return isSilent ? nil : types(String(decoding: said, as: UTF8.self))
    }

    /// The words of `srun --mpi=list`: one to a line below "MPI plugin types are...", in older releases
    /// behind "srun: " each; specific versions behind a colon are not told apart here.
    static func types(_ text: String) -> [String] {
        let known = ["none", "pmi2", "pmix", "cray_shasta", "openmpi", "pmi1"]
        var found: [String] = []
        for line in text.split(separator: "\n") where !line.contains(":") || line.hasPrefix("srun: ") {
            let line = line.hasPrefix("srun: ") ? line.dropFirst(6) : line
            let words = line.split { $0 == " " || $0 == "\t" || $0 == "," }.map(String.init)
            for word in words where known.contains(word) && word != "none" && !found.contains(word) {
                found.append(word)
            }
        }
        return found
    }
}
