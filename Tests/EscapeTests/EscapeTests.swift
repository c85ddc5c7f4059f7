import Foundation
import TestSupport
import Testing

/// Attempts to get out of a container, or up in rights, from inside. What can be switched off is also
/// tried switched off: the attempt must then get further, or the test would prove nothing.
@Suite struct EscapeTests {
    let hull: Hull

    init() throws { hull = try Hull() }

    /// Refused in every container of ours, whatever its options.
    private static let refused = [
        "mknod", "mount", "remount-rw", "umount-proc", "pivot-root", "write-root", "write-exe", "open-mem",
        "open-kcore",
        "write-core-pattern", "write-modprobe", "write-sysrq", "write-uevent-helper", "write-binfmt", "disk",
        "release-agent", "setuid", "sethostname", "packet-socket", "raw-socket", "nested-remount-rw",
        "nested-umount-proc", "nested-umount-sys", "nested-unmask-sysctl", "nested-core-pattern", "nested-mknod",
        "nested-mount-block", "nested-cgroup-v1", "nested-packet-socket", "outside-ptrace", "outside-root",
        "outside-cwd", "outside-mem", "outside-vm-readv", "outside-setns", "marker",
    ]
    private static let filtered = [
        "keyctl", "add-key", "bpf", "io-uring", "userfaultfd", "kexec", "open-by-handle", "tiocsti",
    ]

    private func expectHeld(_ said: [String: String], _ options: String) {
        for attempt in Self.refused {
            let answer = said[attempt]
            #expect(answer != nil && answer != "done", "\(options): \(attempt): \(answer ?? "no answer")")
        }
        #expect(said["nested-chroot-dotdot"] ?? "inside" == "inside")
        #expect(said["nested-chroot-again"] ?? "inside" == "inside")
        #expect(said["marker-through-proc"] == "0")
        #expect(said["inherited-directories"] == "0")
        #expect(said["no-new-privs"] == "1")
    }

    @Test func hpc() throws {
        let said = try hull.attempts()
        expectHeld(said, "hpc")
        for attempt in Self.filtered { #expect(said[attempt] == "EPERM", "\(attempt)") }
        for attempt in ["chroot", "setgroups"] { #expect(said[attempt] == "EPERM", "\(attempt)") }
        // noroot, no_setuid_fixup, keep_caps off, no_cap_ambient_raise: set and locked.
        #expect(said["securebits"] == "ef")
        // The host's processes are in sight in this profile; that is documented.
        #expect(said["outside-signal"] == "done")
    }

    @Test func isolated() throws {
        let said = try hull.attempts("--profile", "isolated")
        expectHeld(said, "isolated")
        for attempt in Self.filtered { #expect(said[attempt] == "EPERM", "\(attempt)") }
        #expect(said["outside-signal"] == "ESRCH")
        #expect(said["inherited-descriptors"] == "0")
        // Each part of it switched off lets the same attempt through.
        let shared = try hull.attempts("--profile", "isolated", "--share", "pid")
        #expect(shared["outside-signal"] == "done")
        let kept = try hull.attempts("--profile", "isolated", "--preserve-fds", "5", "-B", "/var/tmp:/var/tmp")
        #expect(kept["marker"] == "done")
        #expect(kept["inherited-directories"] == "0")
    }

    @Test func theFilterIsWhatRefuses() throws {
        let said = try hull.attempts("--seccomp", "off")
        expectHeld(said, "--seccomp off")
        // ENOSYS: this kernel has no such call. What the kernel's own settings refuse is not the filter's.
        for attempt in Self.filtered where !Self.isRefusedOutside(attempt) {
            #expect(said[attempt] != "EPERM", "\(attempt)")
        }
        #expect(try hull.attempts("--security-opt", "seccomp=unconfined")["open-by-handle"] == said["open-by-handle"])
    }

    @Test(.enabled(if: geteuid() != 0, "root's own attempts would change the machine; the probe refuses them"))
    func withoutAContainerTheAttemptsSucceed() throws {
        let said = try hull.attempts(by: [hull.store + "/layers/l/bin/escape"])
        for attempt in ["outside-signal", "outside-root", "outside-cwd", "marker"] {
            #expect(said[attempt] == "done", "\(attempt)")
        }
        #expect(said["inherited-directories"] == "1")
        #expect(said["marker-through-proc"] != "0")
        #expect(said["no-new-privs"] == "0")
        #expect(said["open-by-handle"] != "EPERM")
    }

    @Test func fakeRootIsNoRoot() throws {
        for option in ["--fakeroot", "--fakeroot-single"] {
            let said = try hull.attempts(option)
            expectHeld(said, option)
            for attempt in Self.filtered { #expect(said[attempt] == "EPERM", "\(option) \(attempt)") }
        }
    }

    /// The reference: what bubblewrap refuses with the same means, ours refuses too.
    @Test(
        .enabled(
            if: (try? runProgram(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]))?.status == 0,
            "bubblewrap makes no container here"))
    func asBubblewrap() throws {
        let theirs = try hull.attempts(by: [
            "bwrap", "--unshare-all", "--ro-bind", hull.store + "/layers/l", "/", "/bin/escape",
        ])
        let ours = try hull.attempts("--profile", "isolated")
        for attempt in Self.refused + Self.filtered {
            guard let answer = theirs[attempt], answer != "done" else { continue }
            #expect(ours[attempt] != "done", "\(attempt): bwrap \(answer)")
        }
    }

    @Test func bindsDoNotFollowTheImageOut() throws {
        // The image's own link leads out through /proc's magic links: refused, and nothing is made there.
        let run = try hull.trireme(
            "run", "-B", "/var/tmp:/way-out/caught", "--writable-tmpfs", "hull", "escape", "ls", "/")
        #expect(run.status == 125 && run.outputText.isEmpty)
        #expect(run.errorText.contains("[mount-refused]"), "\(run.errorText)")
        #expect(!FileManager.default.fileExists(atPath: "/caught"))
    }

    /// A source that is swapped for a link while containers start is followed never or before: what was
    /// opened is what is mounted.
    @Test func aSwappedSourceIsTheOneOrTheOther() throws {
        let source = hull.home + "/source"
        let other = hull.directory.path + "/other"
        for (path, text) in [(source, "right"), (other, "right")] {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/f"))
        }
        let swapper = Process()
        swapper.executableURL = URL(fileURLWithPath: "/bin/sh")
        swapper.arguments = [
            "-c",
            "cd \"$1\"; while [ -d source ] || [ -h source ]; do mv -T source s; ln -s ../other source; "
                + "rm source; mv -T s source; done", "sh", hull.home,
        ]
        try swapper.run()
        defer {
            kill(swapper.processIdentifier, SIGKILL)
            swapper.waitUntilExit()
        }
        for _ in 0..<20 {
            let run = try hull.trireme("run", "-B", source + ":/sub", "hull", "escape", "cat", "/sub/f")
            #expect(run.status == 125 || run.outputText == "right", "\(run.outputText)\(run.errorText)")
        }
    }

    private static func isRefusedOutside(_ attempt: String) -> Bool {
        func number(_ path: String) -> Int? {
            (try? String(contentsOfFile: path, encoding: .utf8)).flatMap {
                Int($0.trimmingCharacters(in: .whitespacesAndNewlines))
            }
        }
        switch attempt {
        case "io-uring": return (number("/proc/sys/kernel/io_uring_disabled") ?? 0) > 0
        case "bpf": return (number("/proc/sys/kernel/unprivileged_bpf_disabled") ?? 0) > 0
        case "userfaultfd": return (number("/proc/sys/vm/unprivileged_userfaultfd") ?? 1) == 0
        case "kexec", "open-by-handle": return false
        case "tiocsti": return number("/proc/sys/dev/tty/legacy_tiocsti") == 0
        default: return false
        }
    }
}
