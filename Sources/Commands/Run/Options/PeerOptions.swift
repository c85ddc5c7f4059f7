import Diagnostics
import OCIModel

/// Options of docker run(1), podman-run(1), apptainer exec and srun(1) that ask for what holds here,
/// that have another spelling here, or that cannot be had.
///
/// They are read before ours are parsed, so `run`, `exec`, `shell` and `run --cluster` answer alike.
enum PeerOptions {
    enum Answer: Equatable, Sendable {
        /// Our words for it; none where it holds anyway.
        case means([String])
        case refused(String, [String])
        /// One of ours, or nobody's: the parser decides.
        case ours
    }

    enum Arity: Equatable, Sendable {
        case flag, value
        /// A flag of apptainer's, and an option of docker's with one of these values behind it.
        case either([String])
    }

    /// What other options of the same line say.
    struct Context {
        var isRootInside: Bool
        var isIsolated: Bool
    }

    struct Rule: Sendable {
        var arity: Arity
        var answer: @Sendable (_ value: String) -> Answer
    }

    static let batchSystems = ["auto", "slurm", "pbs", "lsf", "sge", "condor", "flux", "ssh", "local"]

    static let rules: [String: Rule] = {
        var rules: [String: Rule] = [
            "--rm": Rule(arity: .either(batchSystems)) { value in
                if ["", "true"].contains(value) { return .means([]) }
                if value != "false" { return .ours }
                return .refused("nothing of a container remains when its command ends", ["leave it out"])
            },
            "--net": Rule(arity: .either(["host", "none", "bridge", "default", "job"]), answer: network),
            "--ipc": namespace("ipc"), "--pid": namespace("pid"), "--uts": namespace("uts"),
            "--cgroupns": namespace("cgroup"),
            "--userns": Rule(arity: .either(["host", "keep-id", "private"])) { value in
                if ["", "host", "keep-id", "private"].contains(value) { return .means([]) }
                return .refused("the container's user is always its caller", ["--fakeroot shows uid 0 inside"])
            },
            "--restart": Rule(arity: .value) { value in
                value == "no" ? .means([]) : .refused("nothing here starts a command again", ["leave it out"])
            },
            "--group-add": Rule(arity: .value) { value in
                CallerIdentity.hasGroup(value) || value == "keep-groups"
                    ? .means([]) : .refused("the caller's groups hold inside, and no others", ["leave it out"])
            },
            "--platform": Rule(arity: .value) { value in
                let own = Platform.current
                return value == "\(own.operatingSystem)/\(own.architecture)" || value == own.architecture
                    ? .means([])
                    : .refused(
                        "programs of another processor do not run here", ["trireme pull --platform \(value) NAME"])
            },
            "--pull": Rule(arity: .value) { value in
                ["missing", "never", "false"].contains(value)
                    ? .means([]) : .refused("'run' takes what the store has", ["trireme pull NAME, before"])
            },
        ]
        for name in ["--cap-drop", "--drop-caps", "--expose"] { rules[name] = Rule(arity: .value) { _ in .means([]) } }
        for name in ["--no-privs", "--no-init"] { rules[name] = Rule(arity: .flag) { _ in .means([]) } }
        for (name, ours) in spellings { rules[name] = Rule(arity: .flag) { _ in .means(ours) } }
        for name in ["--pwd", "--cwd"] { rules[name] = Rule(arity: .value) { .means(["--workdir", $0]) } }
        for refusal in refusals {
            for name in refusal.names {
                rules[name] = Rule(arity: refusal.arity) { _ in .refused(refusal.reason, refusal.remedies) }
            }
        }
        return rules
    }()

    private static let spellings: [(String, [String])] = [
        ("--cleanenv", ["--clean-env"]), ("--containall", isolated), ("-C", isolated),
        ("--compat", isolated + ["--writable-tmpfs"]), ("--contain", ["--no-home", "--tmp", "private"]),
    ]
    private static let isolated = ["--profile", "isolated"]

    private static let refusals: [(names: [String], arity: Arity, reason: String, remedies: [String])] = [
        (
            ["-p", "--publish"], .value, "the container has its host's network: its ports are the host's already",
            ["leave it out", "a partition is chosen with salloc or sbatch"]
        ),
        (
            ["-P", "--publish-all"], .flag, "the container has its host's network: its ports are the host's already",
            ["leave it out"]
        ),
        (
            ["--cap-add", "--add-caps"], .value, "a container has no right on the host that its caller lacks",
            ["--fakeroot gives the rights of a root inside its own user namespace"]
        ),
        (
            ["--privileged", "--keep-privs", "--allow-setuid"], .flag,
            "a container has no right on the host that its caller lacks",
            ["--fakeroot gives the rights of a root inside its own user namespace", "--device PATH for one device"]
        ),
        (["--writable"], .flag, "an image never changes", ["--writable-tmpfs: changes that go with the container"]),
        (
            ["--nodelist", "--partition", "--gres", "--account", "--qos", "--constraint"], .value,
            "the batch system chooses nodes, when it gives the allocation",
            ["give it to salloc or sbatch, and 'trireme run' inside"]
        ),
        (
            ["--exclusive"], .flag, "the batch system chooses nodes, when it gives the allocation",
            ["give it to salloc or sbatch, and 'trireme run' inside"]
        ),
        (["--pty"], .flag, "is srun's", ["-it gives the command a terminal"]),
        (
            ["--add-host", "--dns", "--dns-search", "--link"], .value, "a container has its host's names and network",
            ["-v FILE:/etc/hosts, -v FILE:/etc/resolv.conf"]
        ),
        (
            ["--label", "--log-driver", "--log-opt", "--cidfile"], .value,
            "no record of a container is kept beside its process", ["leave it out", "a job has one: trireme job ls"]
        ),
    ]

    /// What is typed at `at`, in our words, and how many words it took; nil for what is not in the table.
    ///
    /// - Throws: `option-value` for what cannot be had.
    static func translate(
        _ words: ArraySlice<String>, in context: Context
    ) throws(Diagnostic) -> (words: [String], taken: Int)? {
        guard let word = words.first else { return nil }
        let following = words.dropFirst().first
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        var name = parts[0]
        var value = parts.count == 2 ? parts[1] : nil
        if !word.hasPrefix("--"), word.count > 2, name.hasPrefix("-u") || name.hasPrefix("-p") {
            name = String(word.prefix(2))
            value = String(word.dropFirst(word.dropFirst(2).first == "=" ? 3 : 2))
        }
        let rule =
            ["-u", "--user"].contains(name)
            ? Rule(arity: .value) { CallerIdentity.answer($0, isRootInside: context.isRootInside) } : rules[name]
        guard let rule else { return nil }
        let taken = value == nil && takesNext(rule, following) ? 2 : 1
        if taken == 2 { value = following }
        if rule.arity == .value, value ?? "" == "" { return nil }
        if context.isRootInside, ["--cap-drop", "--drop-caps", "--no-privs"].contains(name) {
            throw Diagnostic(
                DiagnosticCode("option-value"), words.prefix(taken).joined(separator: " "),
                reasons: ["--fakeroot keeps what package managers need over your own ids"],
                remedies: ["leave one of both out: without --fakeroot a container has no capability"])
        }
        switch rule.answer(value ?? "") {
        // What the container shares with its host anyway need not be asked for, and may not be in a job.
        case .means(let ours): return (ours.first == "--share" && !context.isIsolated ? [] : ours, taken)
        case .ours: return value.map { ([name == "-u" ? "--user" : name, $0], taken) }
        case .refused(let reason, let remedies):
            throw Diagnostic(
                DiagnosticCode("option-value"), words.prefix(taken).joined(separator: " "), reasons: [reason],
                remedies: remedies)
        }
    }

    static func isTheirs(_ word: String) -> Bool { ["-u", "--user"].contains(word) || rules[word] != nil }

    /// Whether `word` is an option of theirs whose value is the next word.
    static func takesNext(_ word: String, _ following: String?) -> Bool {
        if ["-u", "--user"].contains(word) { return following != nil }
        return rules[word].map { takesNext($0, following) } ?? false
    }

    private static func takesNext(_ rule: Rule, _ following: String?) -> Bool {
        guard let following else { return false }
        return switch rule.arity {
        case .flag: false
        case .value: true
        case .either(let known): known.contains(following) || following.hasPrefix("container:")
        }
    }

    private static func network(_ value: String) -> Answer {
        if ["host", "none", "job"].contains(value) { return .means(["--network", value]) }
        return .refused(
            "a bridge to the host's network needs root",
            ["--network host (the default)", "--network none: a loopback device and nothing else"])
    }

    private static func namespace(_ name: String) -> Rule {
        Rule(arity: .either(["host", "private", "shareable"])) { value in
            switch value {
            case "host": return .means(["--share", name])
            case "", "private", "shareable": return .means(["--unshare", name])
            default:
                return .refused(
                    "another container's namespace cannot be entered by its name",
                    ["one of: host, private", "'--model node' shares one container among a node's ranks"])
            }
        }
    }
}
