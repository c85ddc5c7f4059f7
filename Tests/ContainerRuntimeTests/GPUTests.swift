import ContainerRuntime
import Diagnostics
import Foundation
import ImageFormats
import LaunchPlan
import TestSupport
import Testing

enum MergedRoot {
    static func system() throws -> MergedTree { try MergedTree(["/"]) }
}

/// The code of the diagnostic that `body` throws; nil when it throws none.
func diagnosticCode(_ body: () throws -> Void) -> String? {
    do { try body() } catch let error as Diagnostic { return error.code.rawValue } catch { return "\(error)" }
    return nil
}

@Suite struct GPURequestTests {
    @Test(
        arguments: [
            ("all", .all), ("2", .count(2)), ("0,1", .devices(["0", "1"])), ("device=0", .devices(["0"])),
            ("\"device=0,2\"", .devices(["0", "2"])), ("count=3", .count(3)), ("all,capabilities=utility", .all),
            ("count=-1", .all), ("GPU-8ab,MIG-1", .devices(["GPU-8ab", "MIG-1"])), ("0:1", .devices(["0:1"])),
            ("0,0", .devices(["0"])), ("nvidia.com/gpu=all", .container(["nvidia.com/gpu=all"])),
            ("capabilities=compute", .all),
        ] as [(String, GPURequest)]) func spellings(_ typed: String, _ request: GPURequest) throws
    {
        #expect(try GPURequest(typed) == request)
    }

    @Test(arguments: ["", "0", "-1", "foo", "all,0", "device=", "count=x", "colour=red", "1,,2", "device=0;rm"])
    func refused(_ typed: String) { #expect(diagnosticCode { _ = try GPURequest(typed) } == "option-value") }
}

@Suite struct GPUSelectionTests {
    private let gpus = (0...3).map { NvidiaDriver.GPU(minor: $0, bus: "", uuid: "GPU-\($0)000-x", model: nil) }

    private func visible(_ request: GPURequest, _ grant: String?) throws -> [String]? {
        try GPUSelection(request, granted: GPUGrant(grant), gpus: gpus).visible
    }

    @Test func withoutAGrant() throws {
        #expect(try visible(.all, nil) == nil)
        #expect(try visible(.count(2), nil) == ["0", "1"])
        #expect(try visible(.devices(["3", "GPU-1"]), nil) == ["3", "GPU-1"])
        #expect(try GPUSelection(.devices(["3", "GPU-1"]), granted: .unlimited, gpus: gpus).indices == [1, 3])
        #expect(diagnosticCode { _ = try visible(.count(5), nil) } == "gpu-unknown")
        #expect(diagnosticCode { _ = try visible(.devices(["9"]), nil) } == "gpu-unknown")
        #expect(diagnosticCode { _ = try visible(.devices(["GPU-9"]), nil) } == "gpu-unknown")
    }

    @Test func aGrantIsNeverWidened() throws {
        #expect(try visible(.all, "2,3") == ["2", "3"])
        #expect(try visible(.count(1), "2,3") == ["2"])
        #expect(try visible(.devices(["GPU-3"]), "2,3") == ["GPU-3"])
        #expect(diagnosticCode { _ = try visible(.count(3), "2,3") } == "gpu-not-granted")
        #expect(diagnosticCode { _ = try visible(.devices(["0"]), "2,3") } == "gpu-not-granted")
        for none in ["", "-1", "NoDevFiles"] {
            #expect(diagnosticCode { _ = try visible(.all, none) } == "gpu-not-granted", "\(none)")
        }
        #expect(try visible(.all, "0,-1,1") == ["0"], "CUDA ends the list at the first invalid entry")
    }

    /// A part of a GPU that was granted whole may be asked for, and not the other way round.
    @Test func partsOfGPUs() throws {
        #expect(try visible(.devices(["MIG-abc"]), nil) == ["MIG-abc"])
        #expect(try GPUSelection(.devices(["MIG-abc"]), granted: .unlimited, gpus: gpus).indices == nil)
        #expect(try visible(.all, "MIG-abc") == ["MIG-abc"])
        #expect(try visible(.devices(["2:0"]), "2") == ["2:0"])
        #expect(try visible(.devices(["MIG-GPU-2000-x/1/0"]), "2") == ["MIG-GPU-2000-x/1/0"])
        #expect(diagnosticCode { _ = try visible(.devices(["2"]), "2:0") } == "gpu-not-granted")
        #expect(diagnosticCode { _ = try visible(.devices(["MIG-abc"]), "MIG-def") } == "gpu-not-granted")
    }
}

@Suite struct GPUPlanningTests {
    private func plan(
        _ host: HostFixture, _ image: HostFixture, _ request: GPURequest = .all, vendor: GPUPlanning.Vendor? = nil,
        environment: [String: String] = [:]
    ) throws -> (DevicePlan, LaunchPlan) {
        let libraries = try host.host()
        var devices = DevicePlan(host: libraries, image: try image.image())
        try GPUPlanning(host: libraries, image: image.image()) { environment[$0] }
            .add(request, vendor: vendor, option: "--gpus", to: &devices)
        var plan = LaunchPlan()
        plan.environment = [Array("LD_LIBRARY_PATH=/usr/local/nvidia/lib".utf8)]
        devices.apply(to: &plan)
        LibraryInjection.finish(&plan)
        return (devices, plan)
    }
    private func image(_ glibc: String = "GLIBC_2.31") throws -> HostFixture {
        let image = try HostFixture()
        try image.cLibrary(["GLIBC_2.2.5", glibc])
        return image
    }
    private func texts(_ entries: [[UInt8]]) -> Set<String> { Set(entries.map { String(decoding: $0, as: UTF8.self) }) }

    @Test func everythingOfADriver() throws {
        let host = try HostFixture()
        try host.driver()
        try host.makeCache()
        let (_, plan) = try plan(host, image())
        let mounts = Dictionary(uniqueKeysWithValues: plan.mounts.map { ($0.destination, $0) })
        for node in ["nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1", "nvidia-caps"] {
            #expect(mounts["/dev/\(node)"]?.source == host.path + "/dev/\(node)")
            #expect(mounts["/dev/\(node)"]?.isReadOnly == false)
        }
        let libraries = host.path + HostFixture.libraries
        for name in ["libcuda.so", "libcuda.so.1", "libcuda.so.550.54.14"] {
            #expect(mounts["/.trireme/lib/\(name)"]?.source == libraries + "/libcuda.so.550.54.14")
            #expect(mounts["/.trireme/lib/\(name)"]?.isReadOnly == true)
        }
        #expect(mounts["/.trireme/lib/libnvidia-ml.so.1"] != nil)
        #expect(mounts["/usr/bin/nvidia-smi"]?.isReadOnly == true)
        #expect(plan.mounts.first { $0.isTemporary }?.destination == "/.trireme")
        #expect(
            texts(plan.overrides) == [
                "NVIDIA_VISIBLE_DEVICES=all", "LD_LIBRARY_PATH=/.trireme/lib:/usr/local/nvidia/lib",
            ])
        #expect(try LaunchPlan(decoding: plan.encoded()) == plan)
    }

    @Test func oneGPU() throws {
        let host = try HostFixture()
        try host.driver()
        let (_, plan) = try plan(host, image(), .devices(["GPU-1"]))
        #expect(!plan.mounts.contains { $0.destination == "/dev/nvidia0" })
        #expect(plan.mounts.contains { $0.destination == "/dev/nvidia1" })
        #expect(
            texts(plan.overrides).isSuperset(of: [
                "CUDA_VISIBLE_DEVICES=GPU-1", "NVIDIA_VISIBLE_DEVICES=GPU-1", "CUDA_DEVICE_ORDER=PCI_BUS_ID",
            ]))
    }

    @Test func theGrantOfTheBatchSystemPasses() throws {
        let host = try HostFixture()
        try host.driver()
        let (_, plan) = try plan(host, image(), environment: ["CUDA_VISIBLE_DEVICES": "1"])
        #expect(texts(plan.overrides).contains("CUDA_VISIBLE_DEVICES=1"))
        #expect(!plan.mounts.contains { $0.destination == "/dev/nvidia0" })
    }

    /// Two drivers lie beside each other: the kernel's module decides.
    @Test func librariesOfTheLoadedVersion() throws {
        let host = try HostFixture()
        try host.driver("535.1.2")
        try host.driver("550.54.14")
        try host.library("libcuda.so.535.1.2", soname: "libcuda.so.1")
        try host.link(HostFixture.libraries + "/libcuda.so.1", "libcuda.so.550.54.14")
        let (_, plan) = try plan(host, image())
        #expect(plan.mounts.contains { $0.source.hasSuffix("libcuda.so.550.54.14") })
        #expect(!plan.mounts.contains { $0.source.contains("535.1.2") })
    }

    @Test func oldImageIsRefused() throws {
        let host = try HostFixture()
        try host.driver()
        try host.library("libcuda.so.550.54.14", soname: "libcuda.so.1", glibc: "GLIBC_2.34")
        var failure: Diagnostic?
        do { _ = try plan(host, image("GLIBC_2.31")) } catch { failure = error as? Diagnostic }
        #expect(failure?.code.rawValue == "gpu-libraries")
        #expect(failure?.reasons.joined().contains("needs glibc 2.34, the image has 2.31") == true)
        #expect(try !plan(host, image("GLIBC_2.34")).1.mounts.isEmpty)
        let musl = try HostFixture()
        try musl.file("/lib/ld-musl-x86_64.so.1")
        #expect(diagnosticCode { _ = try plan(host, musl) } == "gpu-libraries")
    }

    /// What is not essential is left out, and said.
    @Test func unloadableExtrasAreLeftOut() throws {
        let host = try HostFixture()
        try host.driver()
        try host.library("libnvidia-fbc.so.550.54.14", soname: "libnvidia-fbc.so.1", glibc: "GLIBC_2.38")
        let (devices, plan) = try plan(host, image())
        #expect(!plan.mounts.contains { $0.destination.contains("fbc") })
        #expect(devices.notes.contains { $0.contains("libnvidia-fbc.so.1") && $0.contains("2.38") })
    }

    @Test func nothingThere() throws {
        let empty = try HostFixture()
        var failure: Diagnostic?
        do { _ = try plan(empty, image()) } catch { failure = error as? Diagnostic }
        #expect(failure?.code.rawValue == "gpu-missing")
        let words = failure?.reasons.joined() ?? ""
        for place in ["/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/kfd", "/dev/dri/renderD*", "/etc/cdi"] {
            #expect(words.contains(empty.path + place), "\(place)")
        }
        let bare = try HostFixture()
        try bare.file("/dev/nvidiactl")
        #expect(diagnosticCode { _ = try plan(bare, image()) } == "gpu-libraries")
        #expect(diagnosticCode { _ = try plan(bare, image(), vendor: .amd) } == "gpu-missing")
    }

    @Test func amd() throws {
        let host = try HostFixture()
        for node in ["kfd", "dri/renderD128", "dri/renderD129", "dri/card0"] { try host.file("/dev/" + node) }
        try host.library("libhsa-runtime64.so.1.9", soname: "libhsa-runtime64.so.1")
        let (_, plan) = try plan(host, image(), .count(1))
        #expect(plan.mounts.contains { $0.destination == "/dev/kfd" })
        #expect(plan.mounts.contains { $0.destination == "/.trireme/lib/libhsa-runtime64.so.1" })
        #expect(texts(plan.overrides).contains("ROCR_VISIBLE_DEVICES=0"))
        let own = try image()
        try own.library("libhsa-runtime64.so.1", soname: "libhsa-runtime64.so.1")
        #expect(try !self.plan(host, own).1.mounts.contains { $0.destination.hasPrefix("/.trireme") })
    }

    /// What is missing for `--rocm`, from the bus up to the nodes, and nothing of another vendor's driver.
    @Test func amdThatIsNotThere() throws {
        func said(_ files: [(String, String)]) throws -> String {
            let host = try HostFixture()
            for (place, text) in files { try host.file(place, text) }
            do { _ = try plan(host, image(), vendor: .amd) } catch let error as Diagnostic {
                #expect(error.code.rawValue == "gpu-missing")
                let text = (error.reasons + error.remedies).joined(separator: "\n")
                #expect(text.contains("--device /dev/kfd") && text.contains("--gpus all"), "\(text)")
                #expect(!text.contains("nvidia-modprobe"), "\(text)")
                return text
            }
            return ""
        }
        let bus = "/sys/bus/pci/devices/0000:03:00.0/"
        let card = [(bus + "vendor", "0x1002\n"), (bus + "class", "0x038000\n")]
        #expect(try said([]).contains("/dev/kfd"))
        let asleep = try said(card)
        #expect(asleep.contains("0000:03:00.0") && asleep.contains("modprobe amdgpu"), "\(asleep)")
        let hidden = try said(card + [("/sys/module/amdgpu/version", "")])
        #expect(hidden.contains("amdgpu is loaded") && !hidden.contains("modprobe"), "\(hidden)")
        #expect(try said([("/dev/kfd", "")]).contains("renderD*"))
        #expect(try said([("/dev/nvidiactl", ""), ("/proc/driver/nvidia/version", "x")]).contains("--nv"))
    }

    @Test("A node that does not open for the caller is said", .enabled(if: geteuid() != 0)) func amdThatIsClosed()
        throws
    {
        let host = try HostFixture()
        for node in ["kfd", "dri/renderD128"] { try host.file("/dev/" + node) }
        try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: host.path + "/dev/kfd")
        let (devices, _) = try plan(host, image(), vendor: .amd)
        #expect(
            devices.notes.contains { $0.contains("/dev/kfd is closed") && $0.contains("group") }, "\(devices.notes)")
    }

    @Test func intel() throws {
        let host = try HostFixture()
        try host.file("/dev/dri/renderD128")
        let (_, plan) = try plan(host, image(), .count(1))
        #expect(plan.mounts.map(\.destination) == ["/dev/dri/renderD128"])
        #expect(texts(plan.overrides) == ["ZE_AFFINITY_MASK=0"])
    }
}

@Suite struct DeviceNodeTests {
    @Test func spellings() throws {
        let root = try HostRoot("/")
        let plain = try DeviceNode("/dev/null", root: root, checksHost: true)
        #expect(plain.source == "/dev/null" && plain.destination == "/dev/null" && !plain.isReadOnly)
        let full = try DeviceNode("/dev/null:/dev/x:r", root: root, checksHost: true)
        #expect(full.destination == "/dev/x" && full.isReadOnly)
        #expect(try DeviceNode("/dev/null:rwm", root: root, checksHost: true) == plain)
        for wrong in ["null", "/dev/null:x", "/dev/null:/dev/x:q", "", "/dev/a:/dev/b:r:w"] {
            #expect(
                diagnosticCode { _ = try DeviceNode(wrong, root: root, checksHost: true) } == "option-value", "\(wrong)"
            )
        }
        #expect(
            diagnosticCode { _ = try DeviceNode("/dev/not-there", root: root, checksHost: true) } == "device-missing")
        #expect(try DeviceNode("/dev/not-there", root: root, checksHost: false).source == "/dev/not-there")
    }
}
