import Foundation
import TestSupport
import Testing

/// The same cases by another tool first and then by ours: what can be observed from inside is the same.
@Suite(.serialized) struct PeerReferenceTests {
    /// One question, and the words for each tool; nil where it offers no such thing.
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        /// The same words mean the same for podman (docker's spelling) and for ours.
        var options: [String] = []
        var bubblewrap: [String]? = []
        /// False where podman's application is the namespace's first process, which the kernel spares.
        var isPodmans = true
        var command: [String]
        var input = ""
        /// What both must say; nil: whatever the peer says.
        var expected: String?
        var status: Int32 = 0
        /// Only these of the lines count; all when empty.
        var lines: [String] = []
        var testDescription: String { name }
    }

    static let own = "\(getuid()) \(geteuid()) \(getgid()) \(getegid())\n"
    static let odd = ["", " ", "a b", "'\"$HOME`*", "-x", "--", "new\nline", "é"]

    /// `SHARED` stands for a directory of the host with the files `f` and `sub/f`.
    static let cases: [Case] = [
        Case(name: "ids are the caller's", command: ["id"], expected: own),
        Case(
            name: "words pass byte for byte", command: ["argv"] + odd,
            expected: (["/bin/probe", "argv"] + odd).map { $0 + "\0" }.joined()),
        Case(name: "standard input", command: ["cat", "/proc/self/fd/0"], input: "in\n", expected: "in\n"),
        Case(name: "exit 3", command: ["exit", "3"], expected: "", status: 3),
        Case(name: "exit 255", command: ["exit", "255"], expected: "", status: 255),
        Case(name: "SIGTERM", isPodmans: false, command: ["kill", "15"], expected: "", status: 143),
        Case(name: "SIGKILL", isPodmans: false, command: ["kill", "9"], expected: "", status: 137),
        Case(name: "no such command", bubblewrap: nil, command: ["/bin/missing"], expected: "", status: 127),
        Case(name: "not executable", bubblewrap: nil, command: ["/bin/text"], expected: "", status: 126),
        Case(
            name: "a variable", options: ["-e", "ODD=a=b 'c' \"d\" $e"],
            bubblewrap: ["--setenv", "ODD", "a=b 'c' \"d\" $e"], command: ["env"], expected: "ODD=a=b 'c' \"d\" $e\0",
            lines: ["ODD="]),
        Case(
            name: "a start directory", options: ["-w", "/srv"], bubblewrap: ["--chdir", "/srv"], command: ["pwd"],
            expected: "/srv\n"),
        Case(name: "the root is read-only", command: ["write", "/x"], expected: "EROFS\n"),
        Case(name: "/tmp is not", command: ["write", "/tmp/x"], expected: "written\n"),
        Case(
            name: "a bind is seen", options: ["-v", "SHARED:/there"], bubblewrap: ["--bind", "SHARED", "/there"],
            command: ["cat", "/there/sub/f"], expected: "below\n"),
        Case(
            name: "a read-only bind", options: ["-v", "SHARED:/there:ro"],
            bubblewrap: ["--ro-bind", "SHARED", "/there"], command: ["write", "/there/new"], expected: "EROFS\n"),
        Case(
            name: "docker's --mount", options: ["--mount", "type=bind,src=SHARED,dst=/there,ro"], bubblewrap: nil,
            command: ["write", "/there/new"], expected: "EROFS\n"),
        Case(
            name: "a file on a file", options: ["-v", "SHARED/f:/etc/given:ro"],
            bubblewrap: ["--ro-bind", "SHARED/f", "/etc/given"], command: ["cat", "/etc/given"], expected: "shared\n"),
        Case(
            name: "a place that the image lacks", options: ["-v", "SHARED:/made/for/it"], bubblewrap: nil,
            command: ["cat", "/made/for/it/f"], expected: "shared\n"),
        Case(
            name: "a place behind the image's absolute link", options: ["-v", "SHARED:/out/caught"], bubblewrap: nil,
            command: ["cat", "/var/tmp/caught/f"], expected: "shared\n"),
        Case(
            name: "a place behind a relative link", options: ["-v", "SHARED:/relative"],
            bubblewrap: ["--ro-bind", "SHARED", "/relative"], command: ["cat", "/srv/real/f"], expected: "shared\n"),
        Case(
            name: "a tmpfs", options: ["--tmpfs", "/scratch"], bubblewrap: ["--tmpfs", "/scratch"],
            command: ["write", "/scratch/x"], expected: "written\n"),
        Case(
            name: "a host name", options: ["--hostname", "inner"], bubblewrap: ["--hostname", "inner"],
            command: ["cat", "/proc/sys/kernel/hostname"], expected: "inner\n"),
        Case(
            name: "a limit of the process", options: ["--ulimit", "nofile=100:200"], bubblewrap: nil,
            command: ["limit", "7"], expected: "100 200\n"),
        Case(
            name: "shared memory ends", options: ["--shm-size", "1m"], bubblewrap: nil,
            command: ["fill", "/dev/shm/x"], expected: "ENOSPC\n"),
        Case(
            name: "an entry point", options: ["--entrypoint", "/bin/probe"], bubblewrap: nil,
            command: ["=", "argv", "x"], expected: "/bin/probe\0argv\0x\0"),
        Case(
            name: "no privilege and no way up", command: ["cat", "/proc/self/status"],
            lines: ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:"]),
        Case(
            name: "what root could", command: ["escape"],
            expected: """
                chroot: EPERM
                mknod: EPERM
                mount: EPERM
                remount: EPERM
                umount: EPERM
                setgroups: EPERM
                setuid: EPERM
                sethostname: EPERM
                dotdot: root

                """),
    ]

    let peers: Peers
    init() throws { peers = try Peers() }

    @Test(Peers.needsPodman) func asPodman() throws { try expectTheSame(as: .podman) }
    @Test(Peers.needsBubblewrap) func asBubblewrap() throws { try expectTheSame(as: .bubblewrap) }

    private func expectTheSame(as tool: Peers.Tool) throws {
        for row in Self.cases {
            guard let options = tool == .podman ? (row.isPodmans ? row.options : nil) : row.bubblewrap else { continue }
            let theirs = try peers.by(tool, filled(options), row.command, input: row.input)
            let ours = try peers.ours(filled(row.options), row.command, input: row.input)
            let (reference, answer) = (counted(theirs, row), counted(ours, row))
            if let expected = row.expected {
                #expect(reference == expected, "\(tool): \(row.name): \(theirs.errorText)")
            } else {
                #expect(!reference.isEmpty, "\(tool): \(row.name): \(theirs.errorText)")
            }
            #expect(answer == reference, "\(row.name), ours is not as \(tool)'s: \(ours.errorText)")
            // bubblewrap's own convention for a signal is the shell's, as podman's.
            #expect(theirs.status == row.status, "\(tool): \(row.name)")
            #expect(ours.status == row.status, "\(row.name): \(ours.errorText)")
        }
    }

    private func filled(_ words: [String]) -> [String] {
        words.map { $0.replacingOccurrences(of: "SHARED", with: peers.shared) }
    }

    private func counted(_ run: ProgramRun, _ row: Case) -> String {
        // Which of two refusals comes first (EINVAL for an id that has no mapping) is nobody's promise.
        if row.command == ["escape"] { return run.outputText.replacing("EINVAL", with: "EPERM") }
        if row.lines.isEmpty { return run.outputText }
        let separator: Character = row.command == ["env"] ? "\0" : "\n"
        return run.outputText.split(separator: separator).map(String.init)
            .filter { line in row.lines.contains { line.hasPrefix($0) } }.map { $0 + String(separator) }.joined()
    }

    /// Of /proc and /sys nothing tells or takes more than in podman's container.
    @Test(Peers.needsPodman) func whatIsMaskedThereIsMaskedHere() throws {
        let paths = [
            "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/proc/sched_debug", "/proc/acpi",
            "/proc/scsi", "/proc/asound", "/proc/interrupts", "/sys/firmware", "/sys/devices/virtual/powercap",
            "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
            "/proc/sys/vm/drop_caches",
            "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/dev/mem", "/dev/kmsg", "/dev/sda",
            "/dev/null",
        ]
        let theirs = try peers.by(.podman, [], ["facts"] + paths).lines
        let ours = try peers.ours([], ["facts"] + paths).lines
        try #require(theirs.count == paths.count && ours.count == paths.count, "\(theirs) \(ours)")
        for (reference, answer) in zip(theirs, ours) {
            if !reference.hasSuffix("writable") {
                #expect(!answer.hasSuffix("writable"), "podman \(reference), \(answer)")
            }
            if !reference.contains(": told") { #expect(!answer.contains(": told"), "podman \(reference), \(answer)") }
        }
        #expect(ours.last == "/dev/null: silent null")
    }

    /// An isolated container has the descriptors and devices of podman's, none of them more than ours need.
    @Test(Peers.needsPodman) func descriptorsAndDevices() throws {
        let descriptors = try peers.by(.podman, [], ["fds"]).lines
        #expect(try peers.ours([], ["fds"]).lines == descriptors && descriptors == ["0", "1", "2"])
        let theirs = Set(try peers.by(.podman, [], ["ls", "/dev"]).lines)
        let ours = Set(try peers.ours([], ["ls", "/dev"]).lines)
        #expect(theirs.isSuperset(of: ["null", "zero", "full", "random", "urandom", "tty", "pts", "shm"]))
        #expect(ours.isSuperset(of: theirs.subtracting(["console", "mqueue", "core"])), "\(theirs) \(ours)")
        #expect(ours.subtracting(theirs).subtracting(["core"]).isEmpty, "\(ours.subtracting(theirs))")
    }

    /// A network namespace of its own has the loopback device and whatever the kernel puts there itself.
    @Test func noNetwork() throws {
        func devices(_ run: ProgramRun) -> Set<Substring> {
            Set(run.lines.dropFirst(2).compactMap { $0.split(separator: ":").first.map { $0.drop { $0 == " " } } })
        }
        let ours = devices(try peers.ours(["--unshare", "net"], ["cat", "/proc/net/dev"]))
        #expect(ours.contains("lo"))
        if Peers.offers(.podman) {
            let run = try peers.by(.podman, ["--network", "none"], ["cat", "/proc/net/dev"])
            #expect(devices(run) == ours, "\(run.errorText)")
        }
        if Peers.offers(.bubblewrap) {
            let run = try peers.by(.bubblewrap, ["--unshare-net"], ["cat", "/proc/net/dev"])
            #expect(devices(run) == ours, "\(run.errorText)")
        }
    }

    /// Docker's format of variables in a file.
    @Test(Peers.needsPodman) func filesOfVariables() throws {
        let file = peers.home + "/variables"
        try Data("# comment\n\nA=1\nB=two words\nC=\nD==\nE='q'\n".utf8).write(to: URL(fileURLWithPath: file))
        func variables(_ run: ProgramRun) -> [String] {
            run.outputText.split(separator: "\0").map(String.init).filter {
                "ABCDE".contains($0.first!) && $0.dropFirst().first == "="
            }
            .sorted()
        }
        let theirs = variables(try peers.by(.podman, ["--env-file", file], ["env"]))
        let ours = variables(try peers.ours(["--env-file", file], ["env"]))
        #expect(theirs == ["A=1", "B=two words", "C=", "D==", "E='q'"])
        #expect(ours == theirs)
    }
}
