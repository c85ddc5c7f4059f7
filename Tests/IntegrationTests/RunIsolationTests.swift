import Foundation
import LaunchPlan
import TestSupport
import Testing

/// What the application cannot do, and what is left behind: nothing.
@Suite struct RunIsolationTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    @Test(arguments: ["prepared", "plain"])
    func noPrivilegeIsLeft(image: String) throws {
        let status = try store.trireme("run", image, "probe", "cat", "/proc/self/status")
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            #expect(status.field(set) == "0000000000000000", "\(set)")
        }
        #expect(status.field("NoNewPrivs") == "1")
        #expect(status.field("Threads") == "1")
    }

    @Test(arguments: [[String](), ["--writable-tmpfs"], ["--user", "image"]])
    func theHostRootIsOutOfReach(options: [String]) throws {
        let run = try runProgram(
            [try Programs.path("trireme"), "run"] + options + ["prepared", "probe", "escape"],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        for attempt in ["chroot", "mknod", "mount", "remount", "umount", "setgroups", "setuid", "sethostname"] {
            // EINVAL: setuid to an id that the namespace does not have.
            #expect(["EPERM", "EINVAL"].contains(run.field(attempt)), "\(attempt)")
        }
        #expect(run.field("dotdot") == "root")
    }

    @Test func signalStateIsTheCallers() throws {
        // A shell ignores SIGUSR2 and the application must still ignore it; nothing else changes.
        let direct = try runProgram(["sh", "-c", "trap '' USR2; exec cat /proc/self/status"])
        let inside = try runProgram(
            [
                "sh", "-c", "trap '' USR2; exec \"$0\" run prepared probe cat /proc/self/status",
                try Programs.path("trireme"),
            ],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        for set in ["SigBlk", "SigIgn", "SigCgt"] { #expect(inside.field(set) == direct.field(set), "\(set)") }
        // The test process itself may ignore others, SIGPIPE for one.
        let ignored = try #require(inside.field("SigIgn").flatMap { UInt64($0, radix: 16) })
        #expect(ignored & 1 << (UInt64(SIGUSR2) - 1) != 0)
    }

    @Test func descriptorsAndUmaskPass() throws {
        let trireme = try Programs.path("trireme")
        let environment: [String: String?] = ["TRIREME_STORE": store.path, "HOME": store.home]
        let run = try runProgram(
            [
                "sh", "-c",
                "exec 7</dev/null; \"$1\" fds; echo --; exec \"$0\" run -B /etc/hosts:/h prepared probe fds", trireme,
                store.directory.path + "/probe",
            ], environment: environment, directory: store.home)
        let halves = run.lines.split(separator: "--")
        #expect(halves.count == 2)
        #expect(halves.first == halves.last)
        #expect(halves.last?.contains("7") == true)
        let umask = try runProgram(
            ["sh", "-c", "umask 077; exec \"$0\" run plain probe cat /proc/self/status", trireme],
            environment: environment, directory: store.home)
        #expect(umask.field("Umask") == "0077")
    }

    @Test func theApplicationIsTheStartedProcess() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try Programs.path("trireme"))
        process.arguments = ["run", "prepared", "probe", "listen", "self-\(getpid())"]
        process.environment = ["TRIREME_STORE": store.path, "HOME": store.home]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        defer { kill(process.processIdentifier, SIGKILL) }
        #expect(output.fileHandleForReading.availableData == Data("listening\n".utf8))
        // The launcher became the application: same pid, one thread, no child.
        let name = try String(contentsOfFile: "/proc/\(process.processIdentifier)/comm", encoding: .utf8)
        #expect(name == "probe\n")
        let children = try String(
            contentsOfFile: "/proc/\(process.processIdentifier)/task/\(process.processIdentifier)/children",
            encoding: .utf8)
        #expect(children.isEmpty)
    }

    /// The facade for agents, from a program of its own: forking this one, which has threads, may deadlock.
    @Test func enteringThroughTheFacade() throws {
        let program = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/EntryProbe"
        var plan = store.prepared
        plan.files = [.init(destination: "/etc/hosts", content: Array("10.0.0.1 n1\n".utf8))]
        try store.write("facade", Data(try plan.encoded()))
        func enter(_ words: String...) throws -> ProgramRun {
            try runProgram(
                [program, store.path + "/facade", store.path, "probe"] + words, environment: ["HOME": store.home],
                directory: store.home, limitSeconds: 120)
        }
        #expect(try enter("cat", "/etc/hosts").outputText == "10.0.0.1 n1\n")
        #expect(try enter("write", "/x").lines == ["EROFS"])
        #expect(try enter("pwd").lines == [store.home])
        #expect(
            try Set(enter("env").strings.map { String(decoding: $0, as: UTF8.self) })
                == ["HOST=1", "OVER=2", "PATH=/bin", "FROM_IMAGE=yes"])
        let status = try enter("cat", "/proc/self/status")
        #expect(status.field("CapEff") == "0000000000000000")
        #expect(status.field("CapBnd") == "0000000000000000")
        plan.layers = ["layers/gone", "layers/base"]
        try store.write("facade", Data(try plan.encoded()))
        #expect(try enter("pwd").errorText.contains("[layer-missing]"))
    }

    @Test func joiningAnAgentsContainer() throws {
        let key = "test-\(getpid())-\(UUID().uuidString)"
        let agent = try AgentStandIn(
            key, options: ["-B", store.home + ":/only-here"], image: "prepared", store: store.path, home: store.home)
        let joined = try store.trireme("run", "--join-agent", key, "-e", "X=1", "prepared", "probe", "ns")
        #expect(joined.lines == ["\(try agent.namespace("user")) \(try agent.namespace("mnt"))"])
        #expect(try store.trireme("run", "--join-agent", key, "prepared", "probe", "stat", "/only-here").status == 0)
        #expect(try store.trireme("run", "--join-agent", key, "prepared", "probe", "pwd").lines == [store.home])
        let status = try store.trireme("run", "--join-agent=" + key, "prepared", "probe", "cat", "/proc/self/status")
        #expect(status.field("CapEff") == "0000000000000000")
        #expect(status.field("CapBnd") == "0000000000000000")
        #expect(status.field("NoNewPrivs") == "1")
        let gone = try store.trireme("run", "--join-agent", key + "-gone", "prepared", "true")
        withExtendedLifetime(agent) {}
        #expect(gone.status == 125)
        #expect(gone.errorText.contains("[agent-unreachable]"))
    }

    @Test func manyStartsLeakNothing() throws {
        let before = try Self.mounts()
        let trireme = try Programs.path("trireme")
        let run = try runProgram(
            [
                "sh", "-c", "i=0; while [ $i -lt 300 ]; do \"$0\" run plain probe exit 0 || exit 1; i=$((i+1)); done",
                trireme,
            ],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        #expect(run.status == 0)
        #expect(try Self.mounts() == before)
        #expect(try FileManager.default.contentsOfDirectory(atPath: store.path + "/tmp").isEmpty)
    }

    /// The mounts of this namespace that any launch could have leaked.
    private static func mounts() throws -> [Substring] {
        try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8).split(separator: "\n")
            .filter { $0.contains("trireme") || $0.contains("/sys ") }
    }
}
