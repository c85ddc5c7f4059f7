import ContainerRuntime
import Diagnostics
import Foundation
import ImageStore
import LaunchPlan
import TestSupport
import Testing

@Suite struct HostMPITests {
    typealias Version = HostMPI.Version

    @Test func theSonameDecides() {
        func decide(_ host: String, _ image: String) -> HostMPI.Decision {
            HostMPI.decide(
                imageFamily: .openMPI, image: Version(fileName: image), hostFamily: .openMPI,
                host: Version(fileName: host))
        }
        #expect(decide("libmpi.so.40.30.4", "libmpi.so.40.30.4") == .replace)
        #expect(decide("libmpi.so.40.40.1", "libmpi.so.40.20.3") == .replace)
        #expect(decide("libmpi.so.40.30.1", "libmpi.so.40.30.4") == .replace, "patches do not matter")
        #expect(
            decide("libmpi.so.40.20.3", "libmpi.so.40.30.4")
                == .replaceByOlder(
                    host: Version(fileName: "libmpi.so.40.20.3"), image: Version(fileName: "libmpi.so.40.30.4")))
        #expect(
            decide("libmpi.so.12.0.3", "libmpi.so.40.30.4")
                == .otherMajor(
                    host: Version(fileName: "libmpi.so.12.0.3"), image: Version(fileName: "libmpi.so.40.30.4")))
        #expect(
            HostMPI.decide(
                imageFamily: .mpich, image: Version(fileName: "libmpi.so.12.1"), hostFamily: .openMPI,
                host: Version(fileName: "libmpi.so.12.1")) == .otherFamily)
        #expect(Version(fileName: "libmpi.so").major == nil)
    }

    private func openMPI(_ version: String, in directory: String = HostFixture.libraries) throws -> HostFixture {
        let fixture = try HostFixture()
        try fixture.library("libopen-pal.so.40.1.1", soname: "libopen-pal.so.40", in: directory)
        try fixture.library("libucp.so.0", soname: "libucp.so.0", in: directory)
        try fixture.library(
            "libmpi.so.\(version)", soname: "libmpi.so.\(version.prefix { $0 != "." })", in: directory,
            needs: ["libopen-pal.so.40"])
        return fixture
    }

    private func inside(_ fixture: HostFixture, glibc: String = "GLIBC_2.31") throws -> (
        ImageLibraries, MPIInstallation
    ) {
        try fixture.cLibrary(["GLIBC_2.2.5", glibc])
        let image = try fixture.image()
        return (image, try #require(MPIDetection.installations(in: image.tree).first))
    }

    private func inject(
        _ host: HostFixture, _ image: ImageLibraries, _ installation: MPIInstallation, first: [String] = []
    ) throws -> DevicePlan {
        let libraries = try host.host(first: first)
        var plan = DevicePlan(host: libraries, image: image)
        try HostMPI(host: libraries, image: image).add(installation, imageName: "x:1", to: &plan)
        return plan
    }

    @Test func sameInterfaceIsReplacedWithWhatItNeeds() throws {
        let host = try openMPI("40.30.4")
        try host.makeCache()
        try host.file(HostFixture.libraries + "/openmpi/lib/openmpi3/mca_x.txt", "x")
        try host.library(
            "mca_pml_ucx.so", soname: "mca_pml_ucx.so", in: HostFixture.libraries + "/openmpi/lib/openmpi3",
            needs: ["../../../libucp.so.0"])
        let own = try openMPI("40.30.2")
        defer { withExtendedLifetime(own) {} }
        let (image, installation) = try inside(own)
        let plan = try inject(host, image, installation)
        #expect(plan.libraries.files["libmpi.so.40"] == HostFixture.libraries + "/libmpi.so.40.30.4")
        #expect(plan.libraries.files["libopen-pal.so.40"] == HostFixture.libraries + "/libopen-pal.so.40.1.1")
        #expect(plan.libraries.files["libucp.so.0"] != nil, "what a plug-in needs")
        #expect(plan.mounts.contains { $0.destination == HostFixture.libraries + "/openmpi" && $0.isReadOnly })
        #expect(!plan.notes.contains { $0.contains("warning") })
    }

    @Test func olderIsWarnedOfAndOthersRefused() throws {
        let own = try openMPI("40.30.2")
        defer { withExtendedLifetime(own) {} }
        let (image, installation) = try inside(own)
        #expect(try inject(openMPI("40.20.1"), image, installation).notes.contains { $0.contains("warning") })
        for version in ["20.1.1", "12.0.3"] {
            let host = try openMPI(version)
            var failure: Diagnostic?
            do { _ = try inject(host, image, installation) } catch { failure = error as? Diagnostic }
            #expect(failure?.code.rawValue == "mpi-host")
            #expect(failure?.reasons.joined().contains("libmpi.so.\(version)") == true, "\(version)")
        }
        let mpich = try HostFixture()
        try mpich.library("libmpich.so.12.2.2", soname: "libmpich.so.12")
        #expect(diagnosticCode { _ = try inject(mpich, image, installation) } == "mpi-host")
        #expect(diagnosticCode { _ = try inject(HostFixture(), image, installation) } == "mpi-host")
    }

    /// Debian's MPICH is libmpich.so.12, everybody else's libmpi.so.12: one interface.
    @Test func namesOfTheMPICHFamily() throws {
        let host = try HostFixture()
        try host.library("libmpi.so.12.3.0", soname: "libmpi.so.12")
        let debian = try HostFixture()
        try debian.library("libmpich.so.12.2.2", soname: "libmpich.so.12")
        defer { withExtendedLifetime(debian) {} }
        let (image, installation) = try inside(debian)
        let plan = try inject(host, image, installation)
        #expect(plan.libraries.files["libmpich.so.12"] == HostFixture.libraries + "/libmpi.so.12.3.0")
    }

    /// A 32-bit copy in front, a cache that names what is gone, a link from elsewhere.
    @Test func findsTheRightFile() throws {
        let host = try openMPI("40.30.4", in: "/opt/ompi/lib")
        try host.link(HostFixture.libraries + "/libmpi.so.40", "/opt/ompi/lib/libmpi.so.40")
        try host.makeCache()
        var foreign = try Data(contentsOf: URL(fileURLWithPath: host.path + "/opt/ompi/lib/libmpi.so.40.30.4"))
        foreign[4] = 1
        try host.tree.write("usr/local/lib/libmpi.so.40", foreign)
        let own = try openMPI("40.30.4")
        defer { withExtendedLifetime(own) {} }
        let (image, installation) = try inside(own)
        let plan = try inject(host, image, installation, first: ["/usr/local/lib"])
        #expect(plan.libraries.files["libmpi.so.40"] == "/opt/ompi/lib/libmpi.so.40.30.4")
        #expect(plan.libraries.files["libopen-pal.so.40"] == "/opt/ompi/lib/libopen-pal.so.40.1.1")
    }

    @Test func newerCLibraryIsRefused() throws {
        let host = try openMPI("40.30.4")
        try host.library(
            "libmpi.so.40.30.4", soname: "libmpi.so.40", needs: ["libopen-pal.so.40"], glibc: "GLIBC_2.38")
        let own = try openMPI("40.30.4")
        defer { withExtendedLifetime(own) {} }
        let (image, installation) = try inside(own)
        #expect(diagnosticCode { _ = try inject(host, image, installation) } == "mpi-host")
    }
}

@Suite struct FabricTests {
    private func plan(_ host: HostFixture, _ image: HostFixture) throws -> (DevicePlan, [Fabric]) {
        let libraries = try host.host()
        var plan = DevicePlan(host: libraries, image: try image.image())
        let fabrics = FabricPlanning(host: libraries, image: try image.image()).add(to: &plan)
        return (plan, fabrics)
    }
    private func infiniBand() throws -> HostFixture {
        let host = try HostFixture()
        for node in ["uverbs0", "rdma_cm"] { try host.file("/dev/infiniband/\(node)") }
        try host.file("/sys/class/infiniband/mlx5_0/x")
        try host.file("/sys/bus/pci/drivers/mlx5_core/x")
        try host.file("/sys/class/infiniband_verbs/uverbs0/device/x")
        try host.link("/sys/class/infiniband_verbs/uverbs0/device/driver", "/sys/bus/pci/drivers/mlx5_core")
        try host.library("libibverbs.so.1.14", soname: "libibverbs.so.1")
        try host.library("librdmacm.so.1.3", soname: "librdmacm.so.1", needs: ["libibverbs.so.1"])
        try host.file("/etc/libibverbs.d/mlx5.driver", "driver mlx5\n")
        try host.file(HostFixture.libraries + "/libibverbs/libmlx5-rdmav34.so")
        return host
    }

    @Test func driversTheImageLacks() throws {
        let image = try HostFixture()
        try image.cLibrary(["GLIBC_2.31"])
        let (plan, fabrics) = try plan(infiniBand(), image)
        #expect(fabrics == [Fabric(kind: .verbs, nodes: ["/dev/infiniband"], adapters: ["mlx5_0"])])
        #expect(
            Set(plan.mounts.map(\.destination)) == [
                "/dev/infiniband", "/etc/libibverbs.d", HostFixture.libraries + "/libibverbs",
            ])
        #expect(Set(plan.libraries.files.keys).isSuperset(of: ["libibverbs.so.1", "librdmacm.so.1"]))
        #expect(plan.notes.contains("fabric: verbs (mlx5_0)"))
    }

    @Test func theImagesOwnDriversAreKept() throws {
        let image = try HostFixture()
        try image.cLibrary(["GLIBC_2.31"])
        try image.library("libibverbs.so.1.14", soname: "libibverbs.so.1")
        try image.file("/etc/libibverbs.d/mlx5.driver", "driver mlx5\n")
        let (plan, _) = try plan(infiniBand(), image)
        #expect(plan.mounts.map(\.destination) == ["/dev/infiniband"])
        #expect(plan.libraries.files.isEmpty)
        // Drivers, but none for this adapter.
        try FileManager.default.removeItem(atPath: image.path + "/etc/libibverbs.d/mlx5.driver")
        try image.file("/etc/libibverbs.d/cxgb4.driver", "driver cxgb4\n")
        #expect(try self.plan(infiniBand(), image).0.libraries.files["libibverbs.so.1"] != nil)
    }

    @Test func otherFabrics() throws {
        let host = try HostFixture()
        for node in ["hfi1_0", "cxi0", "kgni0", "xpmem", "null"] { try host.file("/dev/" + node) }
        try host.library("libcxi.so.1", soname: "libcxi.so.1")
        let (plan, fabrics) = try plan(host, HostFixture())
        #expect(fabrics.map(\.kind) == [.opa, .cxi, .ugni, .sharedMemory])
        #expect(Set(plan.mounts.map(\.destination)) == ["/dev/hfi1_0", "/dev/cxi0", "/dev/kgni0", "/dev/xpmem"])
        #expect(plan.libraries.files.keys.contains("libcxi.so.1"))
        #expect(try self.plan(HostFixture(), HostFixture()).1.isEmpty)
    }
}
