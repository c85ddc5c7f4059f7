import Foundation
import TestSupport
import Testing

/// Starts that fail say which daemon and why, and leave nothing.
@Suite(.serialized) struct ClusterFailureTests {
    let fixture: ClusterFixture
    init() throws { fixture = try ClusterFixture() }

    @Test func kindsVerbsAreAnsweredWithOurs() throws {
        for (words, line) in [
            (["create", "cluster", "--name", "dev"], "trireme cluster create dev"),
            (["get", "clusters"], "trireme cluster ls"),
            (["get", "nodes", "--name=dev"], "trireme cluster status dev"),
            (["delete", "cluster", "dev"], "trireme cluster delete dev"),
        ] {
            let run = try runProgram([Programs.path("trireme")] + words)
            #expect(run.status == 125 && run.errorText.contains("hint: \(line)\n"), "\(run.errorText)")
            #expect(run.errorText.contains("[unknown-verb]"))
        }
    }

    private func expectNothingLeft() throws {
        #expect(try fixture.run(["ls", "-q"]).lines.isEmpty)
        // The inits are copies of 'create' and show its environment; the daemons die with them.
        let wanted = "XDG_STATE_HOME=" + fixture.directory.path
        let left = try FileManager.default.contentsOfDirectory(atPath: "/proc").filter { pid in
            guard Int32(pid) != nil else { return false }
            let environment = FileManager.default.contents(atPath: "/proc/\(pid)/environ") ?? Data()
            return environment.split(separator: 0).contains { String(decoding: $0, as: UTF8.self) == wanted }
        }
        #expect(left.isEmpty)
    }

    @Test func aDaemonThatExits() throws {
        let run = try fixture.create("bad", nodes: 2, ["--slurm-setting", "SelectType=select/nonexistent"])
        #expect(run.status == 125)
        #expect(run.errorText.contains("✗ controller: munged, slurmctld on ctl\n"))
        #expect(run.errorText.contains("slurmctld on ctl exited 1"))
        #expect(run.errorText.contains("| slurmctld: fatal: Can't find plugin for select/nonexistent"))
        #expect(run.errorText.contains("[cluster-start-failed]"))
        try expectNothingLeft()
    }

    @Test func aNodeDaemonThatExits() throws {
        let run = try fixture.create("bad", nodes: 2, ["--slurm-setting", "SlurmdSpoolDir=/proc/nowhere"])
        #expect(run.status == 125)
        #expect(run.errorText.contains("slurmd on n") && run.errorText.contains("fatal: mkdir(/proc/nowhere)"))
        try expectNothingLeft()
    }

    /// Where agents ask for tunnels: without a descriptor the supervisor does not turn for nothing, and answers
    /// when it has one.
    @Test func aSupervisorWithoutDescriptorsRests() throws {
        try fixture.create("thin", nodes: 1)
        defer { _ = try? fixture.run(["delete", "thin"]) }
        let pid = try fixture.status("thin").pid
        let famine = try DescriptorFamine(of: pid)
        let client = Process()
        client.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        client.arguments = ["-c", Self.knock, "/proc/\(pid)/root" + fixture.directory.path]
        let output = Pipe()
        client.standardOutput = output
        try client.run()
        #expect(output.fileHandleForReading.availableData == Data("connected\n".utf8))
        let before = try processorSeconds(of: pid)
        usleep(1_000_000)
        #expect(try processorSeconds(of: pid) - before < 0.2)
        #expect(client.isRunning)
        try famine.end()
        // What is no request is answered by the end of the connection.
        #expect(output.fileHandleForReading.availableData == Data("b''\n".utf8))
        client.waitUntilExit()
    }

    /// Connects to the door of the cluster below a directory, and says what comes.
    private static let knock = """
        import glob, os, socket, sys
        os.chdir(os.path.dirname(glob.glob(sys.argv[1] + "/**/space/network", recursive=True)[0]))
        door = socket.socket(socket.AF_UNIX)
        door.connect("network")
        door.send(b"0" * 16)
        print("connected", flush=True)
        print(door.recv(8), flush=True)
        """

    @Test func retainKeepsTheLogs() throws {
        let run = try fixture.create(
            "kept", nodes: 1, ["--retain", "--slurm-setting", "SelectType=select/nonexistent"])
        #expect(run.status == 125 && run.errorText.contains("kept for inspection"))
        #expect(try fixture.run(["logs", "kept", "slurmctld"]).outputText.contains("select/nonexistent"))
        #expect(try fixture.run(["ls"]).outputText.contains("stopped"))
        #expect(try fixture.run(["delete", "kept"]).status == 0)
        try expectNothingLeft()
    }

    @Test func imagesThatAreNone() throws {
        let empty = try TemporaryDirectory()
        let unfit = try fixture.run(["create", "bad", "--rootfs", empty.path])
        #expect(unfit.status == 125)
        #expect(unfit.errorText.contains("[node-image-unfit]") && unfit.errorText.contains("/usr/sbin/munged"))
        let missing = try fixture.run(
            ["create", "bad", "--image", "nothere"], environment: ["TRIREME_STORE": empty.path])
        #expect(missing.status == 125 && missing.errorText.contains("[image-not-found]"))
        try expectNothingLeft()
    }

    @Test(arguments: [
        ["Upper"], ["-x"], ["../up"], ["ok", "--nodes", "0"], ["ok", "--nodes", "1001"], ["ok", "--cpus", "0"],
        ["ok", "--mem", "lots"], ["ok", "--bind", "/nonexistent"], ["ok", "--bind", "/tmp:relative"],
    ])
    func optionsThatCannotBe(arguments: [String]) throws {
        let run = try fixture.run(["create"] + arguments + fixture.image)
        #expect(run.status == 125)
        #expect(
            run.errorText.contains("hint:") || run.errorText.contains("Usage:") || run.errorText.contains("no such"))
        try expectNothingLeft()
    }

    @Test func noUserNamespaces() throws {
        // Inside a user namespace whose own limit is zero the kernel refuses another one.
        let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\""
        let run = try runProgram(
            ["unshare", "-Ur", "sh", "-c", script, "sh", fixture.program, "cluster", "create", "none"] + fixture.image,
            environment: ["XDG_STATE_HOME": fixture.directory.path])
        #expect(run.status == 125)
        #expect(
            run.errorText.contains("[no-user-namespaces]") && run.errorText.contains("clone3: no space left on device"))
        try expectNothingLeft()
    }

    @Test func noSpace() throws {
        let full = try TemporaryDirectory()
        let script =
            "mount -t tmpfs -o size=16k,nr_inodes=8 full \"$0\" && XDG_STATE_HOME=$0 \"$@\"; s=$?; ls $0/trireme/clusters; exit $s"
        let run = try runProgram(
            ["unshare", "-Urm", "sh", "-c", script, full.path, fixture.program, "cluster", "create", "none"]
                + fixture.image)
        #expect(run.status == 125)
        #expect(run.errorText.contains("no space left on device"))
        #expect(run.outputText.isEmpty)
    }

    @Test(arguments: ["INT", "TERM"]) func interruptedStartsAreUndone(signal: String) throws {
        // A start that cannot finish: no slurmd ever reaches a controller on another port.
        let run = try runProgram(
            [
                "timeout", "--preserve-status", "-s", signal, "4", fixture.program, "cluster", "create", "cut",
                "--nodes", "2", "--slurm-setting", "SlurmctldPort=7000",
            ] + fixture.image, environment: ["XDG_STATE_HOME": fixture.directory.path])
        #expect(run.status == 125)
        #expect(run.errorText.contains("interrupted"))
        try expectNothingLeft()
    }

    @Test func aStartThatIsNotReadyInTimeSaysWhatItWaitsFor() throws {
        let run = try fixture.create("slow", nodes: 2, ["--timeout", "1", "--slurm-setting", "SlurmctldPort=7000"])
        #expect(run.status == 125)
        #expect(run.errorText.contains("not ready after 1 s: waiting for slurmctld on ctl"))
        try expectNothingLeft()
    }

    @Test func twoStartsOfOneName() throws {
        let script = """
            "$@" & first=$!
            "$@"; second=$?
            wait $first; echo $((($? == 0) + (second == 0)))
            """
        let run = try runProgram(
            ["sh", "-c", script, "sh", fixture.program, "cluster", "create", "same", "--nodes", "1"] + fixture.image,
            environment: ["XDG_STATE_HOME": fixture.directory.path])
        #expect(run.lines == ["1"])
        #expect(run.errorText.contains("[cluster-busy]") || run.errorText.contains("[cluster-exists]"))
        #expect(try fixture.exec("same", "--", "srun", "hostname").lines == ["n1"])
    }
}
