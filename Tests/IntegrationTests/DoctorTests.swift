import Foundation
import TestSupport
import Testing

/// `trireme doctor` on this machine, with one facility after the other really taken away.
///
/// The way to take something away is a user namespace around the program (unshare(1)), in which
/// sysctls, mounts and filters can be spoiled without privileges.
@Suite(.serialized) struct DoctorTests {
    struct Check: Decodable, Sendable {
        var check: String
        var level: String
        var fact: String
        var cause: String?
        var fix: String?
    }
    struct Document: Decodable, Sendable {
        var checks: [Check]
        var summary: [String: Int]
    }
    struct Examination: Sendable {
        var status: Int32
        var document: Document
        subscript(_ check: String) -> Check? { document.checks.first { $0.check == check } }
    }

    /// Runs `preparation` in a shell inside a user namespace of its own (none when empty), then doctor.
    private func examine(
        _ preparation: String = "", unshare: [String] = ["-U", "-r", "-m", "-n"], environment: [String: String?] = [:]
    ) throws -> Examination {
        let doctor = try Programs.path("trireme-cli")
        let script = "set -e; \(preparation)\nexec \"$0\" doctor --format json"
        let outer = preparation.isEmpty ? [] : ["unshare"] + unshare
        let run = try runProgram(outer + ["sh", "-c", script, doctor], environment: environment, limitSeconds: 120)
        try #require(run.status == 0 || run.status == 1, "\(run.errorText)")
        let document = try JSONDecoder().decode(Document.self, from: run.output)
        return Examination(status: run.status, document: document)
    }

    private func expect(
        _ examination: Examination, _ check: String, _ level: String, cause: String, fix: String,
        location: SourceLocation = #_sourceLocation
    ) {
        let found = examination[check]
        #expect(found?.level == level, "\(String(describing: found))", sourceLocation: location)
        #expect(found?.cause?.contains(cause) == true, "\(String(describing: found))", sourceLocation: location)
        #expect(found?.fix?.contains(fix) == true, "\(String(describing: found))", sourceLocation: location)
    }

    @Test func thisMachineCanRunContainers() throws {
        let examination = try examine()
        #expect(examination.status == 0)
        let expected = [
            "user-namespaces", "overlay", "overlay-upper", "seccomp", "no-new-privs", "store", "programs",
            "ptrace-scope",
        ]
        for check in expected {
            #expect(examination[check]?.level == "ok", "\(String(describing: examination[check]))")
        }
        // Yama of level 0, or none, and no filter: then ranks can, root or not.
        let yama = try? String(contentsOfFile: "/proc/sys/kernel/yama/ptrace_scope", encoding: .utf8)
        #expect(examination["ptrace-scope"]?.level == ((yama ?? "0").hasPrefix("0") ? "ok" : "warn"))
        let counted = Dictionary(grouping: examination.document.checks, by: \.level).mapValues(\.count)
        for level in ["ok", "warn", "fail", "skip"] {
            #expect(examination.document.summary[level] == counted[level, default: 0])
        }
    }

    @Test func theTableSaysTheSame() throws {
        let run = try runProgram([Programs.path("trireme-cli"), "doctor"])
        #expect(run.status == 0)
        #expect(run.errors.isEmpty)
        #expect(run.lines.contains { $0.hasPrefix("ok    user-namespaces ") })
        let counts = try #require(run.lines.last)
        #expect(counts.contains(" ok, ") && counts.hasSuffix(" skip"))
        #expect(!run.outputText.utf8.contains(0x1B))
    }

    @Test func leavesNothingBehind() throws {
        let scratch = try TemporaryDirectory()
        _ = try examine(environment: ["TRIREME_STORE": scratch.path + "/a/b", "TRIREME_TMPDIR": scratch.path])
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).isEmpty)
    }

    @Test func anUnknownFormatIsRefused() throws {
        let run = try runProgram([Programs.path("trireme-cli"), "doctor", "--format", "xml"])
        #expect(run.status == 125)
        #expect(run.errorText.contains("table") && run.errorText.contains("json"))
    }

    @Test func userNamespacesSwitchedOff() throws {
        let examination = try examine("echo 0 > /proc/sys/user/max_user_namespaces")
        #expect(examination.status == 1)
        expect(examination, "user-namespaces", "fail", cause: "switched off", fix: "max_user_namespaces=65536")
        expect(examination, "user-namespace-limit", "fail", cause: "switched off", fix: "max_user_namespaces=65536")
        for check in ["overlay", "overlay-upper", "pid-namespaces", "virtual-network", "store-overlay"] {
            #expect(examination[check]?.level == "skip")
        }
    }

    @Test func userNamespaceLimitLow() throws {
        let examination = try examine("echo 20 > /proc/sys/user/max_user_namespaces")
        #expect(examination.status == 0)
        expect(examination, "user-namespace-limit", "warn", cause: "use the limit up", fix: "65536")
    }

    @Test func insideAChroot() throws {
        let place = try TemporaryDirectory()
        let examination = try examine(
            """
            mount -t tmpfs tmpfs '\(place.path)'
            for entry in /*; do
                if [ -h $entry ]; then mkdir -p '\(place.path)/root'; cp -P $entry '\(place.path)/root'/.
                elif [ -d $entry ]; then mkdir -p '\(place.path)'/root$entry; mount --rbind $entry '\(place.path)'/root$entry
                fi
            done
            exec chroot '\(place.path)/root' "$0" doctor --format json
            """)
        #expect(examination.status == 1)
        expect(examination, "user-namespaces", "fail", cause: "chroot", fix: "outside the chroot")
    }

    @Test func procCovered() throws {
        // A covered file of /proc makes the kernel refuse a fresh proc, as under docker.
        let examination = try examine(
            "mount -t tmpfs tmpfs /proc/scsi 2>/dev/null || mount --bind /dev/null /proc/kallsyms")
        expect(examination, "pid-namespaces", "warn", cause: "covered", fix: "unmask=ALL")
    }

    @Test func networkNamespacesUsedUp() throws {
        let examination = try examine("echo 0 > /proc/sys/user/max_net_namespaces")
        expect(examination, "virtual-network", "warn", cause: "network namespace", fix: "max_net_namespaces")
    }

    @Test func congestionControlFixed() throws {
        let examination = try examine(
            "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys", unshare: ["-U", "-r", "-m"])
        let found = examination["tcp-congestion-control"]
        // Read-only, the host's own choice decides whether that is well.
        let host = try String(contentsOfFile: "/proc/sys/net/ipv4/tcp_congestion_control", encoding: .utf8)
        let isWell = host.hasPrefix("reno") || host.hasPrefix("cubic")
        #expect(found?.level == (isWell ? "ok" : "warn"), "\(String(describing: found))")
        #expect(isWell || found?.fact.contains("read-only") == true, "\(String(describing: found))")
    }

    @Test func fuseMissingOrClosed() throws {
        let missing = try examine("mount -t tmpfs tmpfs /dev; : > /dev/null")
        expect(missing, "fuse", "warn", cause: "single-file", fix: "modprobe fuse")
        expect(missing, "shared-memory", "warn", cause: "ranks", fix: "mount -t tmpfs")
        // A device node that the namespace's mount forbids to open.
        let closed = try examine(
            "mount -t tmpfs -o mode=755 tmpfs /mnt; : > /mnt/f; chmod 0 /mnt/f; mount --bind /mnt/f /dev/fuse; exec setpriv --bounding-set -all --inh-caps -all \"$0\" doctor --format json || true"
        )
        let fuse = closed["fuse"]
        #expect(fuse?.level == "warn" && fuse?.fix?.contains("chmod 0666") == true, "\(String(describing: fuse))")
    }

    @Test func sharedMemorySmall() throws {
        let examination = try examine("mount -t tmpfs -o size=64m tmpfs /dev/shm")
        expect(examination, "shared-memory", "warn", cause: "bus error", fix: "--shm-size")
    }

    @Test func storeFull() throws {
        let examination = try examine(
            "mount -t tmpfs -o size=1m tmpfs /mnt; head -c 2000000 /dev/zero > /mnt/fill || true",
            environment: ["TRIREME_STORE": "/mnt/store"])
        #expect(examination.status == 1)
        expect(examination, "store", "fail", cause: "full", fix: "free some space")
        #expect(examination["store-xattr"]?.level == "skip")
    }

    @Test func storeReadOnly() throws {
        let examination = try examine(
            "mount -t tmpfs -o ro tmpfs /mnt", environment: ["TRIREME_STORE": "/mnt/store"])
        #expect(examination.status == 1)
        expect(examination, "store", "fail", cause: "cannot be kept", fix: "TRIREME_STORE")
        #expect(examination["store"]?.fact.contains("read-only") == true)
    }

    @Test func storeOnTmpfsNoexecAndSmall() throws {
        let memory = try examine("mount -t tmpfs -o size=100m tmpfs /mnt", environment: ["TRIREME_STORE": "/mnt/store"])
        expect(memory, "store", "warn", cause: "gone after a restart", fix: "local disk")
        expect(memory, "store-space", "warn", cause: "10 GiB", fix: "free some space")
        let noexec = try examine("mount -t tmpfs -o noexec tmpfs /mnt", environment: ["TRIREME_STORE": "/mnt/store"])
        expect(noexec, "store", "fail", cause: "executed", fix: "noexec")
    }

    @Test func storeWithoutAttributes() throws {
        // ramfs knows no user attributes; /proc/self/... cannot be written at all.
        let examination = try examine("mount -t ramfs ramfs /mnt", environment: ["TRIREME_STORE": "/mnt/store"])
        expect(examination, "store-xattr", "fail", cause: "attribute", fix: "user attributes")
    }

    @Test func temporaryNoexecMissingOrFull() throws {
        let noexec = try examine("mount -t tmpfs -o noexec tmpfs /mnt", environment: ["TRIREME_TMPDIR": "/mnt"])
        expect(noexec, "temporary", "warn", cause: "build or unpack code", fix: "noexec")
        let missing = try examine(environment: ["TRIREME_TMPDIR": "/nonexistent/place"])
        expect(missing, "temporary", "fail", cause: "unpacked", fix: "mkdir -p /nonexistent/place")
        let full = try examine(
            "mount -t tmpfs -o size=1m tmpfs /mnt; head -c 2000000 /dev/zero > /mnt/fill || true",
            environment: ["TRIREME_TMPDIR": "/mnt"])
        expect(full, "temporary", "fail", cause: "unpacked", fix: "TRIREME_TMPDIR")
    }

    @Test func noControlGroups() throws {
        // Everything of this machine but /sys.
        let script = """
            set --; for entry in /*; do [ $entry = /sys ] || set -- "$@" --dev-bind $entry $entry; done
            exec bwrap "$@" "$0" doctor --format json
            """
        let run = try runProgram(["bash", "-c", script, Programs.path("trireme-cli")])
        let document = try JSONDecoder().decode(Document.self, from: run.output)
        let found = document.checks.first { $0.check == "cgroup" }
        #expect(found?.level == "warn" && found?.fact == "no control groups mounted", "\(String(describing: found))")
        #expect(found?.fix?.contains("cgroup2") == true)
    }

    @Test func programsIncomplete() throws {
        let place = try TemporaryDirectory()
        let source = try Programs.path("trireme-cli")
        try FileManager.default.copyItem(atPath: source, toPath: place.path + "/trireme-cli")
        let run = try runProgram([place.path + "/trireme-cli", "doctor", "--format", "json"])
        #expect(run.status == 1)
        let document = try JSONDecoder().decode(Document.self, from: run.output)
        let found = document.checks.first { $0.check == "programs" }
        #expect(found?.level == "fail")
        #expect(found?.fix?.contains("trireme and trireme-agent") == true)
    }

    @Test func schedulerAndAllocation() throws {
        let place = try TemporaryDirectory()
        let none = try examine(environment: ["PATH": "/usr/bin:/bin", "SLURM_JOB_ID": nil])
        let bare = try examine(environment: ["PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "4711"])
        if !FileManager.default.fileExists(atPath: "/usr/bin/srun") {
            #expect(none["scheduler"]?.level == "skip" || none["scheduler"]?.level == "ok")
            expect(bare, "scheduler", "warn", cause: "srun", fix: "module load slurm")
        }
        try Data("#!/bin/sh\n".utf8).write(to: URL(fileURLWithPath: place.path + "/srun"))
        try runProgram(["chmod", "755", place.path + "/srun"])
        let inside = try examine(environment: ["PATH": place.path + ":/usr/bin:/bin", "SLURM_JOB_ID": "4711"])
        #expect(inside["scheduler"]?.fact == "Slurm, inside allocation 4711, srun found")
        let outside = try examine(environment: ["PATH": place.path + ":/usr/bin:/bin", "SLURM_JOB_ID": nil])
        #expect(outside["scheduler"]?.fact.contains("Slurm (\(place.path)/srun)") == true)
    }

    @Test func clockBehind() throws {
        // A clock cannot be set without privileges; programs from the future look the same.
        let place = try TemporaryDirectory()
        for name in ["trireme", "trireme-cli", "trireme-agent"] {
            try FileManager.default.copyItem(atPath: Programs.path(name), toPath: place.path + "/" + name)
        }
        try runProgram(["touch", "-d", "2090-01-01T00:00:00Z", place.path + "/trireme"])
        let run = try runProgram([place.path + "/trireme-cli", "doctor", "--format", "json"])
        let document = try JSONDecoder().decode(Document.self, from: run.output)
        let found = document.checks.first { $0.check == "clock" }
        #expect(found?.level == "warn" && found?.cause?.contains("2090-01-01T00:00:00Z") == true)
    }
}

/// Facilities taken away by a system call filter from outside, as an outer container does it.
@Suite(.serialized) struct DoctorBehindAFilterTests {
    /// Runs doctor behind a filter that answers `errno` (EPERM) to the system calls `numbers`.
    private func examine(
        refusing numbers: [UInt32], errno: Int32 = 1, options: [String] = [], environment: [String: String?] = [:]
    ) throws -> DoctorTests.Examination {
        let run = try CallFilter(refusing: numbers, errno: errno).run(
            [try Programs.path("trireme-cli"), "doctor", "--format", "json"], options: options,
            environment: environment)
        try #require(run.status == 0 || run.status == 1, "\(run.errorText)")
        return .init(
            status: run.status, document: try JSONDecoder().decode(DoctorTests.Document.self, from: run.output))
    }

    @Test func unshareRefused() throws {
        let examination = try examine(refusing: [CallFilter.unshare])
        #expect(examination.status == 1)
        #expect(examination["user-namespaces"]?.level == "fail")
        #expect(examination["user-namespaces"]?.cause?.contains("filter from outside") == true)
        #expect(examination["overlay"]?.level == "skip")
    }

    @Test func mountRefused() throws {
        let examination = try examine(refusing: [CallFilter.mount])
        #expect(examination["user-namespaces"]?.level == "fail")
        #expect(examination["user-namespaces"]?.fact.contains("mount") == true)
    }

    @Test func filtersRefused() throws {
        let examination = try examine(refusing: [CallFilter.seccomp])
        #expect(examination.status == 1)
        #expect(examination["seccomp"]?.level == "fail")
        #expect(examination["user-namespaces"]?.level == "ok")
    }

    @Test func siblingMemoryRefused() throws {
        let examination = try examine(refusing: [CallFilter.readv])
        #expect(examination["ptrace-scope"]?.level == "warn")
        #expect(examination.status == 0)
    }

    @Test func whiteoutsAndAttributesRefused() throws {
        let examination = try examine(refusing: [CallFilter.mknodat, CallFilter.lsetxattr])
        #expect(examination.status == 1)
        #expect(examination["store-whiteout"]?.level == "fail")
        #expect(examination["store-xattr"]?.level == "fail")
        #expect(examination["store"]?.level == "ok")
    }
}
