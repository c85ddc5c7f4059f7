import Foundation
import TestSupport
import Testing

/// One root file system that every tool is given as it is, and each tool's way to run a command in it.
final class Peers {
    let directory: TemporaryDirectory
    var home: String { directory.path + "/home" }
    /// A plain directory with the static probe and nothing else but places to mount on.
    var root: String { directory.path + "/root" }
    /// podman's own copy: it makes mount points in it.
    private var podmanRoot: String { directory.path + "/podman-root" }

    init() throws {
        directory = try TemporaryDirectory()
        let files = FileManager.default
        for made in ["home", "run", "shared/sub", "store"] {
            try files.createDirectory(atPath: directory.path + "/" + made, withIntermediateDirectories: true)
        }
        try Data("shared\n".utf8).write(to: URL(fileURLWithPath: shared + "/f"))
        try Data("below\n".utf8).write(to: URL(fileURLWithPath: shared + "/sub/f"))
        for root in [root, podmanRoot] {
            for made in ["bin", "dev", "proc", "sys", "tmp", "etc", "run", "srv/real", "var/tmp", "there", "scratch"] {
                try files.createDirectory(atPath: root + "/" + made, withIntermediateDirectories: true)
            }
            for open in ["tmp", "scratch"] {
                try files.setAttributes([.posixPermissions: 0o1777], ofItemAtPath: root + "/" + open)
            }
            let probe = root + "/bin/probe"
            try Self.probe.get().write(to: URL(fileURLWithPath: probe))
            try files.setAttributes([.posixPermissions: 0o755], ofItemAtPath: probe)
            for file in ["etc/hosts", "etc/resolv.conf", "etc/hostname", "etc/passwd", "etc/group", "etc/given"] {
                try Data().write(to: URL(fileURLWithPath: root + "/" + file))
            }
            try Data("text".utf8).write(to: URL(fileURLWithPath: root + "/bin/text"))
            try files.createSymbolicLink(atPath: root + "/out", withDestinationPath: "/var/tmp")
            try files.createSymbolicLink(atPath: root + "/relative", withDestinationPath: "srv/real")
        }
    }

    deinit {
        // podman keeps a process that holds its user namespace.
        let pause = directory.path + "/run/libpod/tmp/pause.pid"
        if let text = try? String(contentsOfFile: pause, encoding: .utf8),
            let number = pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)), number > 1
        {
            kill(number, SIGKILL)
        }
    }

    /// A directory of the host with the files `f` and `sub/f`.
    var shared: String { directory.path + "/shared" }

    var environment: [String: String?] {
        [
            "HOME": home, "XDG_RUNTIME_DIR": directory.path + "/run", "TRIREME_STORE": directory.path + "/store",
            "XDG_DATA_HOME": nil, "XDG_CONFIG_HOME": nil,
        ]
    }

    enum Tool: String, CaseIterable, Sendable { case podman, bubblewrap }

    /// podman with runc makes a control group; with crun it can do without, where those are not v2 alone.
    private static let variants = [(["--runtime", "runc"], []), (["--runtime", "crun"], ["--cgroups", "disabled"])]

    /// The tools that make containers here, each with the number of the first variant it does so with.
    private static let working: [Tool: Int] = {
        guard let peers = try? Peers() else { return [:] }
        var working: [Tool: Int] = [:]
        for tool in Tool.allCases {
            working[tool] = variants.indices.first {
                (try? peers.by(tool, [], ["exit", "7"], variant: $0))?.status == 7
            }
        }
        return working
    }()

    static func offers(_ tool: Tool) -> Bool { working[tool] != nil }
    static let needsPodman = ConditionTrait.enabled(if: offers(.podman), "podman makes no container here")
    static let needsBubblewrap = ConditionTrait.enabled(if: offers(.bubblewrap), "bubblewrap makes no container here")

    /// `probe COMMAND` in a container of `tool` with its own `options`; nil: the variant that works here.
    func by(
        _ tool: Tool, _ options: [String], _ command: [String], input: String = "", variant: Int? = nil
    ) throws -> ProgramRun {
        let variant = Self.variants[variant ?? Self.working[tool] ?? 0]
        let words: [String]
        switch tool {
        case .podman:
            words =
                [
                    "podman", "--root", directory.path + "/podman", "--runroot", directory.path + "/run/podman",
                    "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
                ] + variant.0 + [
                    "run", "--quiet", "--rm", "-i",
                    "--userns", "keep-id", "--cap-drop", "all", "--security-opt",
                    "no-new-privileges", "--read-only",
                ] + variant.1 + (options.contains("--network") ? [] : ["--network", "host"]) + options
                + ["--rootfs", podmanRoot] + probe(command)
        case .bubblewrap:
            words =
                ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--ro-bind", root, "/"]
                + ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"] + options + probe(command)
        }
        return try launched(words, input)
    }

    /// `trireme run OPTIONS DIRECTORY probe COMMAND` inside a container of `tool`, which shows the programs.
    func nested(_ tool: Tool, _ outer: [String], _ options: [String], _ command: [String]) throws -> ProgramRun {
        let programs = URL(fileURLWithPath: try Programs.path("trireme")).deletingLastPathComponent().path
        let words = ["/there/trireme", "run"] + options + ["/scratch", "/bin/probe"] + command
        switch tool {
        case .podman:
            return try by(
                tool,
                outer + [
                    "-v", programs + ":/there:ro", "-v", root + ":/scratch:ro", "-e", "TRIREME_STORE=/tmp/store", "-e",
                    "HOME=/tmp", "--tmpfs", "/tmp",
                ], words)
        case .bubblewrap:
            return try by(
                tool,
                outer + [
                    "--ro-bind", programs, "/there", "--ro-bind", root, "/scratch", "--setenv", "TRIREME_STORE",
                    "/tmp/store", "--setenv", "HOME", "/tmp",
                ], words)
        }
    }

    /// `probe COMMAND` in an isolated container of ours.
    func ours(_ options: [String], _ command: [String], input: String = "") throws -> ProgramRun {
        let trireme = try Programs.path("trireme")
        return try launched([trireme, "run", "--profile", "isolated"] + options + [root] + probe(command), input)
    }

    /// Words that begin with `/` are a command of their own, and behind `=` those for an entry point.
    private func probe(_ command: [String]) -> [String] {
        if command.first == "=" { return Array(command.dropFirst()) }
        return command.first?.hasPrefix("/") ?? false ? command : ["/bin/probe"] + command
    }

    private func launched(_ words: [String], _ input: String) throws -> ProgramRun {
        // An open directory on 7, as careless callers leave it.
        try runProgram(
            ["sh", "-c", "exec 7<\"$HOME\"; exec \"$0\" \"$@\""] + words, environment: environment, directory: home,
            input: Data(input.utf8), limitSeconds: 120)
    }

    private static let probe = Result {
        let workshop = try TemporaryDirectory()
        let built = workshop.path + "/probe"
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../Probe/probe.c"
        let run = try runProgram(["cc", "-O1", "-static", source, "-o", built])
        guard run.status == 0 else { throw Failed(what: run.errorText) }
        return try Data(contentsOf: URL(fileURLWithPath: built))
    }

    struct Failed: Error { var what: String }
}
