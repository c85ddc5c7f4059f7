import Foundation
import TestSupport
import Testing

/// One cause after the other that `trireme doctor` can name, each really brought about: by a filter that answers
/// with the error, by settings shown in the kernel's place, or by file systems that are full.
@Suite(.serialized) struct DoctorCauseTests {
    private let place: TemporaryDirectory
    init() throws { place = try TemporaryDirectory() }

    private func document(_ run: ProgramRun) throws -> DoctorTests.Examination {
        try #require(run.status == 0 || run.status == 1, "\(run.errorText)")
        return .init(
            status: run.status, document: try JSONDecoder().decode(DoctorTests.Document.self, from: run.output))
    }

    /// Doctor behind a filter that answers `errno` to `calls`, with `settings` below /proc/sys/kernel and no others.
    private func examine(
        refusing calls: [UInt32], errno: Int32, settings: [String: String] = [:], words: [String] = [],
        environment: [String: String?] = [:]
    ) throws -> DoctorTests.Examination {
        var options = settings.isEmpty ? [] : ["--tmpfs", "/proc/sys/kernel"]
        for (name, value) in settings {
            let file = place.path + "/" + name.replacingOccurrences(of: "/", with: ".")
            try Data((value + "\n").utf8).write(to: URL(fileURLWithPath: file))
            options += ["--ro-bind", file, "/proc/sys/kernel/" + name]
        }
        return try document(
            CallFilter(refusing: calls, errno: errno).run(
                words + [try Programs.path("trireme-cli"), "doctor", "--format", "json"], options: options,
                environment: environment))
    }

    /// Doctor after `preparation` in namespaces of its own.
    private func examine(after preparation: String, environment: [String: String?] = [:]) throws
        -> DoctorTests.Examination
    {
        try document(
            runProgram(
                [
                    "unshare", "-U", "-r", "-m", "sh", "-c",
                    "set -e; \(preparation)\nexec \"$0\" doctor --format json",
                    try Programs.path("trireme-cli"), place.path,
                ], environment: environment, limitSeconds: 120))
    }

    private func expect(
        _ examination: DoctorTests.Examination, _ check: String, _ level: String, cause: String, fix: String,
        location: SourceLocation = #_sourceLocation
    ) {
        let found = examination[check]
        #expect(found?.level == level, "\(String(describing: found))", sourceLocation: location)
        #expect(found?.cause?.contains(cause) == true, "\(String(describing: found))", sourceLocation: location)
        #expect(found?.fix?.contains(fix) == true, "\(String(describing: found))", sourceLocation: location)
    }

    @Test func whyThereAreNoUserNamespaces() throws {
        let unshare = [CallFilter.unshare]
        expect(
            try examine(refusing: unshare, errno: 22), "user-namespaces", "fail", cause: "CONFIG_USER_NS",
            fix: "CONFIG_USER_NS=y")
        expect(
            try examine(refusing: unshare, errno: 28), "user-namespaces", "fail", cause: "is used up",
            fix: "lsns -t user")
        expect(
            try examine(refusing: unshare, errno: 1, settings: ["unprivileged_userns_clone": "0"]), "user-namespaces",
            "fail", cause: "kernel.unprivileged_userns_clone is 0", fix: "sysctl -w kernel.unprivileged_userns_clone=1")
        for call in [CallFilter.unshare, CallFilter.mount] {
            let restricted = try examine(
                refusing: [call], errno: 13, settings: ["apparmor_restrict_unprivileged_userns": "1"])
            #expect(restricted.status == 1)
            expect(restricted, "user-namespaces", "fail", cause: "AppArmor", fix: "/etc/apparmor.d")
        }
    }

    @Test func anOldKernel() throws {
        // setarch(8): uname(2) then says 2.6.
        let old = try examine(refusing: [CallFilter.mountSetattr], errno: 38, words: ["setarch", "--uname-2.6"])
        #expect(old.status == 1)
        expect(old, "user-namespaces", "fail", cause: "mount_setattr", fix: "5.12")
        expect(old, "kernel", "warn", cause: "Linux 5.12", fix: "RHEL 9")
    }

    @Test func privilegesThatCannotBeGivenUp() throws {
        let refused = try examine(refusing: [CallFilter.prctl], errno: 1)
        #expect(refused.status == 1)
        expect(refused, "no-new-privs", "fail", cause: "setuid", fix: "prctl(2)")
    }

    @Test func memoryOfSiblingsByYama() throws {
        let yama = try examine(refusing: [CallFilter.readv], errno: 1, settings: ["yama/ptrace_scope": "1"])
        expect(yama, "ptrace-scope", "warn", cause: "CMA", fix: "kernel.yama.ptrace_scope=0")
    }

    @Test func theQuotaIsUsedUp() throws {
        let full = try examine(
            refusing: [CallFilter.mkdir, CallFilter.mkdirat], errno: 122,
            environment: ["TRIREME_STORE": place.path + "/store", "TRIREME_TMPDIR": place.path])
        #expect(full.status == 1)
        expect(full, "store", "fail", cause: "quota", fix: "free some space")
        expect(full, "temporary", "fail", cause: "unpacked", fix: "TRIREME_TMPDIR")
    }

    @Test func fewFilesOrLittleSpaceAreLeft() throws {
        let few = try examine(
            after: "mount -t tmpfs -o nr_inodes=5000,size=1g tmpfs \"$1\"", environment: ["TRIREME_STORE": place.path])
        expect(few, "store-space", "warn", cause: "10000 to 100000 files", fix: "free some space")
        let little = try examine(
            after: "mount -t tmpfs -o size=30m tmpfs \"$1\"",
            environment: ["TRIREME_STORE": place.path, "TRIREME_TMPDIR": place.path])
        #expect(little.status == 1)
        expect(little, "store-space", "fail", cause: "not even a small image", fix: "free some space")
        expect(little, "temporary", "warn", cause: "can take more", fix: "TRIREME_TMPDIR")
        let shared = try examine(
            after: "mount -t tmpfs -o size=257m tmpfs /dev/shm; head -c 2000000 /dev/zero >/dev/shm/left")
        expect(shared, "shared-memory", "warn", cause: "bus error", fix: "left behind in /dev/shm")
    }

    /// Overlays lie two deep at most: a store on the second cannot be a layer of a third.
    @Test func aStoreThatCannotBeALayer() throws {
        let stacked = try examine(
            after: """
                mount -t tmpfs tmpfs "$1"; cd "$1"; mkdir u1 w1 m1 u2 w2 m2 lower
                mount -t overlay -o userxattr,lowerdir=lower,upperdir=u1,workdir=w1 o m1
                mount -t overlay -o userxattr,lowerdir=m1:lower,upperdir=u2,workdir=w2 o m2
                """, environment: ["TRIREME_STORE": place.path + "/m2"])
        #expect(stacked.status == 1)
        expect(stacked, "store-overlay", "fail", cause: "cannot be a layer", fix: "local disk")
    }

    @Test func memoryThatCannotBeLocked() throws {
        let verbs = try examine(
            after: "mount -t tmpfs tmpfs /sys/class; mkdir -p /sys/class/infiniband/mlx5_0; ulimit -l 64")
        expect(verbs, "memlock", "warn", cause: "InfiniBand", fix: "limits.d")
        #expect(verbs["memlock"]?.fact == "limited to 64 KiB, devices: mlx5_0")
    }

    /// A driver without what belongs to it, below a directory that stands for the host's root.
    @Test func partsOfAGPUDriver() throws {
        let library = "host$(dirname $(cc -print-file-name=libc.so.6 | xargs realpath))"
        let driver = """
            rm -rf host; mkdir -p \(library) host/etc host/dev host/proc/driver/nvidia
            echo 'int cuInit(unsigned f){return f;}' | cc -shared -fPIC -x c - -Wl,-soname,libcuda.so.1 \
                -o \(library)/libcuda.so.550.54.14
            ln -s libcuda.so.550.54.14 \(library)/libcuda.so.1
            for n in nvidiactl nvidia-uvm nvidia0; do : > host/dev/$n; done
            echo 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  x' > host/proc/driver/nvidia/version

            """
        func gpu(_ change: String) throws -> DoctorTests.Check? {
            try runProgram(["sh", "-c", driver + change], directory: place.path)
            let run = try runProgram(
                [try Programs.path("trireme-cli"), "doctor", "--format", "json"],
                environment: ["TRIREME_HOST_ROOT": place.path + "/host", "LD_LIBRARY_PATH": nil])
            return try document(run)["gpu"]
        }
        #expect(try gpu("")?.level == "ok")
        let library404 = try gpu("rm \(library)/libcuda*")
        #expect(library404?.level == "warn" && library404?.fix?.contains("ldconfig") == true, "\(library404 as Any)")
        let none = try gpu("rm host/dev/nvidia0")
        #expect(none?.level == "warn" && none?.fix?.contains("nvidia-smi -L") == true, "\(none as Any)")
        let bus = "host/sys/bus/pci/devices/0000:01:00.0"
        let unloaded = try gpu(
            "rm -r host/dev host/proc; mkdir -p \(bus); echo 0x10de >\(bus)/vendor; echo 0x030200 >\(bus)/class")
        #expect(unloaded?.level == "warn" && unloaded?.fix?.contains("modprobe nvidia") == true, "\(unloaded as Any)")
        guard geteuid() != 0 else { return }
        let closed = try gpu("chmod 0 host/dev/nvidia0")
        #expect(closed?.level == "warn" && closed?.fix?.contains("srun --gpus=1") == true, "\(closed as Any)")
    }

    /// The image of Open MPI that every test run has; it asks for PMIx.
    @Test func anMPIThatSlurmDoesNotSpeak() throws {
        let line = "#!/bin/sh\nprintf 'MPI plugin types are...\\n\\tnone\\n\\tpmi2\\n' >&2\n"
        try Data(line.utf8).write(to: URL(fileURLWithPath: place.path + "/srun"))
        try runProgram(["chmod", "755", place.path + "/srun"])
        let path = place.path + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "")
        let found = try document(
            runProgram(
                [try Programs.path("trireme-cli"), "doctor", "--image", "mpi-hello:openmpi", "--format", "json"],
                environment: ["PATH": path]))
        expect(found, "mpi", "warn", cause: "every rank would be a job of its own", fix: "--model node")
    }
}
