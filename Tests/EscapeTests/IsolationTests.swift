import Foundation
import TestSupport
import Testing

/// Each namespace and option does what it says, and nothing else.
@Suite struct IsolationTests {
    let hull: Hull

    init() throws { hull = try Hull() }

    private func namespaces(_ options: String...) throws -> [String: String] {
        let run = try runProgram(
            [try Programs.path("trireme-cli"), "run"] + options + [hull.image, "escape", "namespaces"],
            environment: hull.environment, directory: hull.home)
        #expect(run.status == 0, "\(run.errorText)")
        return Dictionary(
            run.lines.map { ($0.split(separator: ":")[0].description, $0) }, uniquingKeysWith: { $1 })
    }

    @Test func eachNamespaceByItself() throws {
        let names = ["pid", "ipc", "uts", "net", "cgroup"]
        let host = Dictionary(
            uniqueKeysWithValues: try names.map {
                ($0, try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/" + $0))
            })
        let plain = try namespaces()
        for name in names { #expect(plain[name] == host[name], "\(name)") }
        for name in names {
            let own = try namespaces("--unshare", name)
            for other in names { #expect((own[other] == host[other]) == (other != name), "\(name) \(other)") }
        }
        let isolated = try namespaces("--profile", "isolated", "--share", "uts,ipc")
        for name in names {
            #expect((isolated[name] == host[name]) == ["net", "uts", "ipc"].contains(name), "\(name)")
        }
    }

    @Test func hostNameAndLoopback() throws {
        let run = try runProgram(
            [
                try Programs.path("trireme-cli"), "run", "--unshare", "net", "--hostname", "deck-1", hull.image,
                "escape",
                "names",
            ], environment: hull.environment, directory: hull.home)
        #expect(run.lines.contains("hostname: deck-1"), "\(run.errorText)")
        #expect(run.lines.contains("resolves: yes"))
        #expect(run.lines.contains("loopback: up"))
        #expect(run.lines.contains("interfaces: 1"))
        for wrong in ["-x", "a b", "", String(repeating: "x", count: 65), "$(id)"] {
            let refused = try hull.trireme("run", "--hostname=" + wrong, hull.image, "escape", "names")
            #expect(refused.status != 0 && refused.outputText.isEmpty, "\(wrong)")
        }
    }

    @Test(arguments: [(0, "7"), (1, "0"), (2, "137"), (3, "143")])
    func statusOfAContainerWithItsOwnProcesses(row: Int, status: String) throws {
        let words = [["exit", "7"], ["exit", "0"], ["kill", "9"], ["kill", "15"]][row]
        let run = try runProgram(
            [try Programs.path("trireme-cli"), "run", "--profile", "isolated", hull.image, "escape"] + words,
            environment: hull.environment, directory: hull.home)
        #expect("\(run.status)" == status, "\(run.errorText)")
    }

    @Test func ownProcessesEndWithTheLauncher() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try Programs.path("trireme-cli"))
        process.arguments = ["run", "--profile", "isolated", hull.image, "escape", "hold"]
        process.environment = ProcessInfo.processInfo.environment.merging(
            hull.environment.compactMapValues { $0 }
        ) { $1 }
        process.currentDirectoryURL = URL(fileURLWithPath: hull.home)
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        #expect(output.fileHandleForReading.availableData == Data("held\n".utf8))
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        // Only the application holds the pipe now: its end is the container's end.
        #expect(try output.fileHandleForReading.readToEnd() ?? Data() == Data())
    }

    @Test func signalsReachTheApplication() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try Programs.path("trireme-cli"))
        process.arguments = ["run", "--unshare", "pid", hull.image, "escape", "hold"]
        process.environment = ProcessInfo.processInfo.environment.merging(
            hull.environment.compactMapValues { $0 }
        ) { $1 }
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        #expect(output.fileHandleForReading.availableData == Data("held\n".utf8))
        kill(process.processIdentifier, SIGTERM)
        process.waitUntilExit()
        // Whoever waits outside ends as the application did: 143 in a shell.
        #expect(process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGTERM)
    }

    @Test func nothingOfTheHostsFiles() throws {
        try Data("private".utf8).write(to: URL(fileURLWithPath: hull.home + "/secret"))
        let plain = try hull.trireme("run", hull.image, "escape", "cat", hull.home + "/secret")
        #expect(plain.outputText == "private")
        let isolated = try hull.trireme(
            "run", "--profile", "isolated", hull.image, "escape", "cat", hull.home + "/secret")
        #expect(isolated.status == 1 && isolated.outputText.isEmpty)
        let devices = try hull.trireme("run", "--profile", "isolated", hull.image, "escape", "ls", "/dev")
        #expect(
            devices.lines.sorted() == [
                "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
                "urandom", "zero",
            ], "\(devices.errorText)")
    }

    @Test func fakeRootsFilesAreTheCallers() throws {
        for option in ["--fakeroot", "--fakeroot-single"] {
            let file = hull.home + "/made" + option
            let run = try hull.trireme("run", option, hull.image, "escape", "make", file)
            #expect(run.lines == ["uid 0 gid 0 owner 0"], "\(run.errorText)")
            let attributes = try FileManager.default.attributesOfItem(atPath: file)
            #expect(attributes[.ownerAccountID] as? UInt32 == geteuid())
        }
    }

    /// A container in a container, with the inner store reached through a bind.
    @Test(.enabled(if: Programs.isStatic("trireme"), "a dynamic program does not start in an image without libraries"))
    func nested() throws {
        let bin = URL(fileURLWithPath: try Programs.path("trireme")).deletingLastPathComponent().path
        let run = try hull.trireme(
            "run", "-B", bin + ":/trireme", "hull", "/trireme/trireme", "run", "hull", "escape", "cat",
            "/proc/self/comm")
        #expect(run.status == 0, "\(run.errorText)")
        #expect(run.outputText == "escape\n")
    }

    /// Called by root: the host's files and device nodes are shown, and changed by nobody inside. Root of a user
    /// namespace stands for root, with files of its own where the host's are.
    @Test func rootsContainerChangesNothingOfTheHosts() throws {
        let paths = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/localtime", "/dev/full", "/dev/null"]
        // /dev/full has no end to be read.
        let script = """
            own=$1; shift
            for path; do
                file=$own/$(basename $path); head -c 100000 $path >$file 2>/dev/null </dev/null; chmod 644 $file
                mount --bind $file $path || exit 1
            done
            "$0" run --profile isolated "$image" escape change "$@"
            cd $own; stat -c '%a %n' *
            """
        let own = try TemporaryDirectory()
        var environment = hull.environment
        environment["image"] = hull.image
        let run = try runProgram(
            ["unshare", "-U", "-r", "-m", "sh", "-c", script, try Programs.path("trireme"), own.path] + paths,
            environment: environment, directory: hull.home)
        for path in paths {
            #expect(run.lines.contains("\(path) chmod: EROFS"), "\(path): \(run.outputText)\(run.errorText)")
            #expect(run.lines.contains("644 \((path as NSString).lastPathComponent)"), "\(path)")
        }
        #expect(!run.lines.contains { $0.hasSuffix(": done") }, "\(run.outputText)")
    }

    @Test func wrongWordsAreRefused() throws {
        for words in [
            ["--profile", "tight"], ["--unshare", "pids"], ["--share", "user"], ["--seccomp", "on"],
            ["--security-opt", "apparmor=x"], ["--dev", "all"], ["--hostname", "x", "--share", "uts"],
            ["-n", "1", "--unshare", "pid"],
        ] {
            let run = try runProgram(
                [try Programs.path("trireme-cli"), "run"] + words + [hull.image, "escape"],
                environment: hull.environment, directory: hull.home)
            #expect(run.status != 0 && run.outputText.isEmpty, "\(words)")
            #expect(run.errorText.contains("["), "\(words): \(run.errorText)")
        }
    }
}
