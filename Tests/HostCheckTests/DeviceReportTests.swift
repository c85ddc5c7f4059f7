import Testing

@testable import HostCheck

/// What doctor says of GPUs, specifications, fabrics and MPIs: one fact taken away per case.
@Suite struct DeviceReportTests {
    private static func healthy() -> DeviceFacts {
        var facts = DeviceFacts()
        facts.gpuDriver = "NVIDIA 550.54.14"
        facts.gpuCount = 2
        facts.gpuHardware = ["NVIDIA (0000:01:00.0)"]
        facts.needsGPULibrary = true
        facts.gpuLibrary = "/usr/lib/libcuda.so.550.54.14"
        facts.specifications = [
            .init(path: "/etc/cdi/nvidia.yaml", content: "nvidia.com/gpu (2 devices)", failure: nil)
        ]
        facts.fabrics = [.init(name: "verbs (mlx5_0)", missing: [])]
        facts.hostMPIs = ["Open MPI /usr/lib/libmpi.so.40.30.4"]
        facts.slurmTypes = ["pmi2", "pmix"]
        facts.image = .init(
            name: "x:1", mpis: [.init(name: "Open MPI 4", wanted: "pmix", hasLauncher: true, hostObjection: nil)])
        return facts
    }

    private func findings(_ devices: DeviceFacts) -> [String: Finding] {
        var facts = HostFacts()
        facts.devices = devices
        return Dictionary(uniqueKeysWithValues: HostReport(facts).findings.map { ($0.check, $0) })
    }

    @Test func aHealthyHost() {
        let found = findings(Self.healthy())
        for check in ["gpu", "cdi", "fabric", "mpi"] {
            #expect(found[check]?.level == .ok, "\(String(describing: found[check]))")
            #expect(found[check]?.fix == nil)
        }
        #expect(found["mpi"]?.fact.contains("--mpi host: fits") == true)
    }

    @Test func nothingThereIsNoFault() {
        let found = findings(DeviceFacts())
        for check in ["gpu", "cdi", "fabric", "mpi"] {
            #expect(found[check]?.level == .skip && found[check]?.cause != nil, "\(check)")
        }
        #expect(HostReport(HostFacts()).findings.allSatisfy { $0.check != "gpu" }, "nobody looked")
    }

    struct Case: Sendable, CustomTestStringConvertible {
        var check: String
        var level: Finding.Level
        var cause: String
        var fix: String
        var spoil: @Sendable (inout DeviceFacts) -> Void
        var testDescription: String { "\(check): \(cause)" }
    }

    static let cases: [Case] = [
        Case(check: "gpu", level: .warn, cause: "kernel module", fix: "modprobe nvidia") { $0.gpuDriver = nil },
        Case(check: "gpu", level: .warn, cause: "no GPU that has a device node", fix: "nvidia-smi -L") {
            $0.gpuCount = 0
        },
        Case(check: "gpu", level: .warn, cause: "driver libraries", fix: "ldconfig") { $0.gpuLibrary = nil },
        Case(check: "gpu", level: .warn, cause: "may not open", fix: "srun --gpus=1") {
            $0.closedNodes = ["/dev/nvidia0 is closed to this user"]
        },
        Case(check: "gpu", level: .fail, cause: "too old", fix: "newer C library") {
            $0.gpuObjection = "needs glibc 2.34, the image has 2.31"
        },
        Case(check: "cdi", level: .warn, cause: "cannot use this file", fix: "nvidia-ctk") {
            $0.specifications.append(.init(path: "/etc/cdi/b.yaml", content: nil, failure: "line 3"))
        },
        Case(check: "fabric", level: .warn, cause: "user-space driver", fix: "ibverbs-providers") {
            $0.fabrics[0].missing = ["libibverbs.so.1"]
        },
        Case(check: "mpi", level: .warn, cause: "job of its own", fix: "--model node") { $0.slurmTypes = ["pmi2"] },
        Case(check: "mpi", level: .fail, cause: "Slurm does not speak pmix", fix: "launcher") {
            $0.slurmTypes = ["pmi2"]
            $0.image?.mpis[0].hasLauncher = false
        },
        Case(check: "mpi", level: .fail, cause: "no Slurm to start its ranks", fix: "launcher") {
            $0.slurmTypes = nil
            $0.image?.mpis[0].hasLauncher = false
        },
    ]

    @Test(arguments: cases) func aFaultHasOneCauseAndOneFix(_ item: Case) {
        var facts = Self.healthy()
        item.spoil(&facts)
        let found = findings(facts)[item.check]
        #expect(found?.level == item.level, "\(String(describing: found))")
        #expect(found?.cause?.contains(item.cause) == true, "\(String(describing: found))")
        #expect(found?.fix?.contains(item.fix) == true, "\(String(describing: found))")
    }

    @Test func whatDoesNotMatterIsSaid() {
        var facts = Self.healthy()
        facts.image?.mpis[0].hostObjection = "the host has only MPICH's interface"
        #expect(findings(facts)["mpi"]?.level == .ok)
        #expect(findings(facts)["mpi"]?.fact.contains("--mpi host: no, the host has only") == true)
        facts.image?.mpis = []
        #expect(findings(facts)["mpi"]?.fact.hasPrefix("x:1: no MPI") == true)
    }

    @Test func controllersThatAreNotPassedDown() {
        var facts = HostFacts()
        facts.cgroup.mode = .v2
        facts.cgroup.isDelegated = true
        facts.cgroup.ownDirectory = "/sys/fs/cgroup/x"
        facts.cgroup.controllers = ["memory", "pids"]
        let found = HostReport.controlGroups(facts)
        #expect(found.level == .warn && found.fact.contains("without cpu") && found.fix?.contains("Delegate=") == true)
        facts.cgroup.controllers = ["cpu", "memory", "pids"]
        #expect(HostReport.controlGroups(facts).level == .ok)
    }
}
