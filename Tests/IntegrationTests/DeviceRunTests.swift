import Foundation
import TestSupport
import Testing

/// `--gpus`, `--device` and `--mpi host` for real: an image with a C library of its own, and a host whose
/// driver is made up (a directory that TRIREME_HOST_ROOT names, and a /dev with its nodes).
@Suite(.serialized) struct DeviceRunTests {
    private static let asks = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        int main(int count, char **words) {
            if (!strcmp(words[1], "call")) {
                void *library = dlopen(words[2], RTLD_NOW);
                if (!library) { puts(dlerror()); return 1; }
                int (*call)(unsigned) = (int (*)(unsigned))dlsym(library, "cuInit");
                if (!call) { puts("no cuInit"); return 1; }
                Dl_info place;
                dladdr((void *)call, &place);
                printf("cuInit %d from %s\\n", call(0), place.dli_fname);
                return 0;
            }
            for (int i = 1; i < count; i++) {
                if (words[i][0] == '/') printf("%s %s\\n", words[i], access(words[i], F_OK) ? "missing" : "there");
                else printf("%s=%s\\n", words[i], getenv(words[i]) ? getenv(words[i]) : "(unset)");
            }
            return 0;
        }
        """

    /// An image of one program and the libraries it needs, loaded as `asks:1`.
    private func makeImage(_ fixture: ImageFixture, compiler: String = "cc", source: String = asks) throws {
        try Data(source.utf8).write(to: URL(fileURLWithPath: fixture.path + "/asks.c"))
        try fixture.shell(
            """
            mkdir -p root/usr/bin; \(compiler) -o root/usr/bin/asks asks.c -ldl
            ldd root/usr/bin/asks | grep -o '/[^ ]*' | while read f; do
                mkdir -p root$(dirname $f); cp -L $f root$f
            done
            umoci init --layout oci; umoci new --image oci:image; tar -C root -cf a.tar .
            umoci raw add-layer --image oci:image a.tar
            skopeo copy -q oci:oci:image oci-archive:asks.tar:asks:1
            """)
        let run = try fixture.trireme("load", "-q", "-i", fixture.path + "/asks.tar")
        try #require(run.status == 0, "\(run.errorText)")
    }

    /// A driver below `host`: its nodes are files, its library answers.
    private func makeDriver(_ fixture: ImageFixture) throws {
        try fixture.shell(
            """
            L=host$(dirname $(cc -print-file-name=libc.so.6 | xargs realpath)); mkdir -p $L host/etc host/dev
            for n in libcuda libnvidia-ml; do
                echo 'int cuInit(unsigned f){return f;}' | cc -shared -fPIC -x c - -Wl,-soname,$n.so.1 -o $L/$n.so.550.54.14
                ln -s $n.so.550.54.14 $L/$n.so.1
            done
            for n in nvidiactl nvidia-uvm nvidia0 nvidia1; do : > host/dev/$n; done
            for n in 0 1; do
                mkdir -p host/proc/driver/nvidia/gpus/0000:0$n:00.0
                printf 'GPU UUID: \\t GPU-%s-a\\nDevice Minor: \\t %s\\n' $n $n > host/proc/driver/nvidia/gpus/0000:0$n:00.0/information
            done
            echo 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  x' > host/proc/driver/nvidia/version
            """)
    }

    /// trireme in a mount namespace whose /dev has the nodes of the made-up driver.
    private func onGPUHost(
        _ fixture: ImageFixture, _ arguments: String..., environment: [String: String?] = [:]
    ) throws -> ProgramRun {
        let script = """
            set -e; mkdir -p dev; mount -t tmpfs none dev
            for n in null zero full random urandom tty; do : > dev/$n; mount --bind /dev/$n dev/$n; done
            mkdir dev/pts dev/shm; for n in $(ls host/dev); do : > dev/$n; done
            mount --rbind dev /dev; exec "$@"
            """
        var merged = environment
        merged["TRIREME_STORE"] = fixture.store
        merged["TRIREME_HOST_ROOT"] = fixture.path + "/host"
        merged["SWIFT_BACKTRACE"] = "enable=no"
        if merged["CUDA_VISIBLE_DEVICES"] == nil { merged["CUDA_VISIBLE_DEVICES"] = .some(nil) }
        return try runProgram(
            ["unshare", "-U", "-r", "-m", "sh", "-c", script, "sh", try Programs.path("trireme")] + arguments,
            environment: merged, directory: fixture.path)
    }

    @Test func aDriverMadeUp() throws {
        let fixture = try ImageFixture()
        try makeImage(fixture)
        try makeDriver(fixture)
        let call = try onGPUHost(fixture, "run", "--gpus", "all", "asks:1", "asks", "call", "libcuda.so.1")
        #expect(call.outputText == "cuInit 0 from /.trireme/lib/libcuda.so.1\n", "\(call.errorText)")
        let seen = try onGPUHost(
            fixture, "run", "--gpus", "device=1", "-e", "LD_LIBRARY_PATH=/x", "asks:1", "asks",
            "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "/dev/nvidia1", "/dev/nvidiactl")
        #expect(
            seen.lines == [
                "CUDA_VISIBLE_DEVICES=1", "NVIDIA_VISIBLE_DEVICES=1", "LD_LIBRARY_PATH=/.trireme/lib:/x",
                "/dev/nvidia1 there", "/dev/nvidiactl there",
            ], "\(seen.errorText)")
        // In a /dev of the container's own only what was chosen is there.
        let own = try onGPUHost(
            fixture, "run", "--dev", "minimal", "--gpus", "device=1", "--device", "/dev/nvidia-uvm:/dev/other",
            "asks:1",
            "asks", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl", "/dev/other")
        #expect(
            own.lines == [
                "/dev/nvidia0 missing", "/dev/nvidia1 there", "/dev/nvidiactl there", "/dev/other there",
            ], "\(own.errorText)")
        let granted = try onGPUHost(
            fixture, "run", "--nv", "asks:1", "asks", "CUDA_VISIBLE_DEVICES",
            environment: ["CUDA_VISIBLE_DEVICES": "GPU-1-a"])
        #expect(granted.outputText == "CUDA_VISIBLE_DEVICES=GPU-1-a\n", "\(granted.errorText)")
        let widened = try onGPUHost(
            fixture, "run", "--gpus", "2", "asks:1", "asks", environment: ["CUDA_VISIBLE_DEVICES": "0"])
        #expect(widened.status == 125 && widened.errorText.contains("[gpu-not-granted]"), "\(widened.errorText)")
        // The container without the option has neither the library nor the variables.
        let plain = try onGPUHost(fixture, "run", "asks:1", "asks", "call", "libcuda.so.1")
        #expect(plain.status == 1 && plain.outputText.contains("cannot open shared object"))
        let container = """
            {"cdiVersion": "0.5.0", "kind": "acme.com/gpu", "containerEdits": {"env": ["ACME=yes"]},
             "devices": [{"name": "x", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}}]}
            """
        try fixture.shell("mkdir -p host/etc/cdi; cat > host/etc/cdi/a.json <<'E'\n\(container)\nE")
        let named = try onGPUHost(
            fixture, "run", "--device", "acme.com/gpu=x", "asks:1", "asks", "ACME", "/dev/nvidia0")
        #expect(named.lines == ["ACME=yes", "/dev/nvidia0 there"], "\(named.errorText)")
    }

    /// The lines of doctor, on a host with a driver made up and on one without, with a Slurm made up.
    @Test func doctor() throws {
        let fixture = try ImageFixture()
        try makeDriver(fixture)
        try fixture.shell(
            """
            mkdir bin empty; printf '#!/bin/sh\nprintf "MPI plugin types are...\\n\\tnone\\n\\tpmi2\\n" >&2\n' > bin/srun; chmod +x bin/srun
            mkdir -p host/etc/cdi host/dev/infiniband; echo '[' > host/etc/cdi/bad.yaml; : > host/dev/infiniband/uverbs0
            """)
        func lines(_ root: String) throws -> [DoctorTests.Check] {
            let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
            let run = try runProgram(
                [try Programs.path("trireme-cli"), "doctor", "--format", "json"],
                environment: [
                    "TRIREME_STORE": fixture.store, "TRIREME_HOST_ROOT": fixture.path + root,
                    "PATH": fixture.path + "/bin:" + path, "LD_LIBRARY_PATH": nil,
                    "SWIFT_BACKTRACE": "enable=no",
                ])
            return try JSONDecoder().decode(DoctorTests.Document.self, from: run.output).checks
        }
        let found = try lines("/host")
        func check(_ name: String) -> DoctorTests.Check? { found.first { $0.check == name } }
        #expect(check("gpu")?.level == "ok", "\(String(describing: check("gpu")))")
        #expect(check("gpu")?.fact.contains("NVIDIA 550.54.14, 2 GPUs, /") == true)
        #expect(check("cdi")?.level == "warn" && check("cdi")?.fact.contains("bad.yaml") == true)
        #expect(check("fabric")?.level == "warn" && check("fabric")?.fact.contains("libibverbs.so.1") == true)
        #expect(check("mpi")?.fact == "host: no MPI; Slurm: pmi2", "\(String(describing: check("mpi")))")
        let empty = try lines("/empty")
        for name in ["gpu", "cdi", "fabric"] { #expect(empty.first { $0.check == name }?.level == "skip", "\(name)") }
    }

    @Test func withoutADriver() throws {
        let fixture = try ImageFixture()
        try makeImage(fixture)
        try fixture.shell("mkdir host")
        func run(_ arguments: String...) throws -> ProgramRun {
            try runProgram(
                [try Programs.path("trireme")] + arguments,
                environment: [
                    "TRIREME_STORE": fixture.store, "TRIREME_HOST_ROOT": fixture.path + "/host",
                    "SWIFT_BACKTRACE": "enable=no",
                ])
        }
        for (option, code) in [
            ("--gpus=all", "gpu-missing"), ("--nv", "gpu-missing"), ("--rocm", "gpu-missing"),
            ("--gpus=nonsense", "option-value"), ("--device=/dev/not-there", "device-missing"),
            ("--device=a.com/b=c", "cdi-unknown"), ("--fabric=fast", "option-value"), ("--mpi=host", "mpi-host"),
        ] {
            let refused = try run("run", option, "asks:1", "asks")
            #expect(refused.status == 125 && refused.errorText.contains("[\(code)]"), "\(option): \(refused.errorText)")
        }
        let none = try run("run", "--fabric", "auto", "asks:1", "asks", "LD_LIBRARY_PATH")
        #expect(none.outputText == "LD_LIBRARY_PATH=(unset)\n" && none.errorText.contains("fabric: none"))
        let node = try runProgram(
            [try Programs.path("trireme"), "run", "--device", "/dev/null", "asks:1", "asks", "/dev/null"],
            environment: ["TRIREME_STORE": fixture.store, "SWIFT_BACKTRACE": "enable=no"])
        #expect(node.outputText == "/dev/null there\n", "\(node.errorText)")
    }

    /// One container per rank under the host's mpirun, the ranks on the host's library: a job, not singletons.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/usr/bin/mpicc.openmpi"), "no Open MPI on this host"))
    func theHostsMPI() throws {
        let fixture = try ImageFixture()
        try makeImage(
            fixture, compiler: "mpicc.openmpi",
            source: """
                #include <mpi.h>
                #include <dlfcn.h>
                #include <stdio.h>
                int main(int count, char **words) {
                    int rank, size, sum;
                    MPI_Init(&count, &words);
                    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
                    MPI_Comm_size(MPI_COMM_WORLD, &size);
                    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
                    FILE *maps = fopen("/proc/self/maps", "r");
                    char line[512];
                    const char *ours = "no";
                    while (fgets(line, sizeof line, maps)) {
                        char *at = line;
                        while (*at && *at != '/') at++;
                        if (!__builtin_strncmp(at, "/.trireme/lib/libmpi.so.40", 26)) ours = "yes";
                    }
                    printf("rank %d of %d sum %d host's %s\\n", rank, size, sum, ours);
                    MPI_Finalize();
                }
                """)
        let run = try runProgram(
            [
                "mpirun.openmpi", "--oversubscribe", "-n", "2", try Programs.path("trireme"), "run", "--mpi", "host",
                "asks:1", "asks",
            ],
            environment: [
                "TRIREME_STORE": fixture.store, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "SWIFT_BACKTRACE": "enable=no",
            ], limitSeconds: 120)
        #expect(
            run.lines.sorted() == ["rank 0 of 2 sum 1 host's yes", "rank 1 of 2 sum 1 host's yes"], "\(run.errorText)")
    }

    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/dev/nvidiactl"), "no NVIDIA GPU on this host"))
    func aRealGPU() throws {
        let fixture = try ImageFixture()
        try makeImage(fixture)
        let listed = try fixture.trireme("run", "--gpus", "all", "asks:1", "nvidia-smi", "-L")
        #expect(listed.status == 0 && listed.outputText.contains("GPU 0:"), "\(listed.outputText)\(listed.errorText)")
        #expect(listed.outputText == (try runProgram(["nvidia-smi", "-L"]).outputText))
        let call = try fixture.trireme("run", "--gpus", "all", "asks:1", "asks", "call", "libcuda.so.1")
        #expect(
            call.outputText.hasPrefix("cuInit 0 from /.trireme/lib/libcuda.so"), "\(call.outputText)\(call.errorText)")
    }
}
