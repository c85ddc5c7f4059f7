import Foundation
import TestSupport
import Testing

/// Real clusters: creation, use, deletion, and every way they can end.
@Suite(.serialized) struct ClusterLifeTests {
    let fixture: ClusterFixture
    init() throws { fixture = try ClusterFixture() }

    @Test func fourNodesAnswer() throws {
        let created = try fixture.create("four", nodes: 4, ["--cpus", "3", "--mem", "1G"])
        try #require(created.status == 0, "\(created.errorText)")
        #expect(created.outputText.isEmpty)
        #expect(created.errorText.contains("✓ 4 of 4 nodes idle\n"))
        #expect(created.errorText.hasSuffix("  trireme cluster exec four -- srun -N 4 hostname\n"))
        #expect(try fixture.exec("four", "--", "sinfo", "-h", "-o", "%D %t %c %m").lines == ["4 idle 3 1024"])
        #expect(
            try fixture.exec("four", "--", "srun", "-N4", "hostname").lines.sorted() == ["n1", "n2", "n3", "n4"])
        let identity = try fixture.exec("four", "--", "srun", "-N2", "id", "-u").lines
        let expected = getuid() == 0 ? "1000" : "\(getuid())"
        #expect(identity == [expected, expected])
        // Nodes reach each other by name, and each has namespaces of its own.
        let namespaces = try fixture.exec(
            "four", "--", "srun", "-N4", "sh", "-c", "cd /proc/self/ns && readlink net pid ipc uts mnt"
        ).lines
        #expect(Set(namespaces).count == 20)
    }

    @Test func filesAreShared() throws {
        let shared = try TemporaryDirectory()
        let home = try TemporaryDirectory()
        let created = try fixture.run(
            ["create", "files", "--nodes", "2", "--bind", "\(shared.path):/scratch/shared"] + fixture.image,
            environment: ["HOME": home.path])
        try #require(created.status == 0, "\(created.errorText)")
        let script =
            "echo $(hostname) > /scratch/shared/$(hostname); echo $(hostname) > ~/home-$(hostname); pwd > /tmp/mine; ls /tmp/mine"
        let run = try fixture.exec("files", "--", "srun", "-N2", "sh", "-c", script)
        #expect(run.status == 0, "\(run.errorText)")
        for name in ["n1", "n2"] {
            #expect(try String(contentsOfFile: shared.path + "/" + name, encoding: .utf8) == name + "\n")
            #expect(try String(contentsOfFile: home.path + "/home-" + name, encoding: .utf8) == name + "\n")
        }
        // /tmp is each node's own, and the cluster's inner tmpfs is not carried into the nodes.
        #expect(try fixture.exec("files", "ctl", "--", "ls", "/tmp/mine").status != 0)
        #expect(try !fixture.exec("files", "n1", "--", "cat", "/proc/self/mountinfo").outputText.contains("/space "))
    }

    @Test func twoSideBySide() throws {
        try #require(try fixture.create("one", nodes: 2).status == 0)
        try #require(try fixture.create("two", nodes: 3).status == 0)
        #expect(try fixture.exec("one", "--", "srun", "-N2", "hostname").lines.sorted() == ["n1", "n2"])
        #expect(try fixture.exec("two", "--", "srun", "-N3", "hostname").lines.sorted() == ["n1", "n2", "n3"])
        #expect(try fixture.run(["ls", "-q"]).lines == ["one", "two"])
        let both = try fixture.run(["delete", "one", "two"])
        #expect(both.status == 0)
        #expect(try fixture.run(["ls", "-q"]).lines.isEmpty)
    }

    @Test func namesTakenAndMissing() throws {
        try #require(try fixture.create("taken", nodes: 1).status == 0)
        let before = try fixture.status("taken").pid
        let again = try fixture.create("taken", nodes: 1)
        #expect(again.status == 125)
        #expect(
            again.errorText.contains("[cluster-exists]") && again.errorText.contains("trireme cluster delete taken"))
        #expect(try fixture.status("taken").pid == before)
        for arguments in [["exec", "takn", "--", "true"], ["status", "takn"], ["logs", "takn"]] {
            let missing = try fixture.run(arguments)
            #expect(missing.status == 125)
            #expect(missing.errorText.contains("[cluster-not-found]") && missing.errorText.contains("'taken'"))
        }
        let node = try fixture.exec("taken", "n7", "--", "true")
        #expect(node.status == 125 && node.errorText.contains("[node-not-found]"))
        #expect(try fixture.run(["delete", "never-was"]).status == 0)
    }

    @Test func deletingLeavesNothing() throws {
        try #require(try fixture.create("gone", nodes: 2).status == 0)
        let status = try fixture.status("gone")
        let namespaces = Set(([status.pid] + status.nodes.map(\.pid)).compactMap(ClusterFixture.networkNamespace))
        #expect(namespaces.count == 4)
        // A job that would run on, ignoring polite signals.
        _ = try fixture.exec("gone", "--", "sbatch", "--wrap", "trap '' TERM; sleep 300")
        #expect(ClusterFixture.processes(in: namespaces).count > 8)
        #expect(try fixture.run(["delete", "gone"]).status == 0)
        #expect(ClusterFixture.processes(in: namespaces).isEmpty)
        let mounts = try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)
        #expect(!mounts.contains(fixture.directory.path))
        #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.directory.path + "/trireme/clusters") == [])
    }

    @Test func killingTheSupervisorEndsAll() throws {
        try #require(try fixture.create("shot", nodes: 2).status == 0)
        let status = try fixture.status("shot")
        let namespaces = Set(([status.pid] + status.nodes.map(\.pid)).compactMap(ClusterFixture.networkNamespace))
        #expect(kill(status.pid, SIGKILL) == 0)
        #expect(ClusterFixture.eventually { ClusterFixture.processes(in: namespaces).isEmpty })
        #expect(try fixture.run(["ls"]).outputText.contains("stopped"))
        let dead = try fixture.exec("shot", "--", "true")
        #expect(dead.status == 125 && dead.errorText.contains("[cluster-stopped]"))
        // The name is free again.
        try #require(try fixture.create("shot", nodes: 1).status == 0)
        #expect(try fixture.exec("shot", "--", "srun", "hostname").lines == ["n1"])
    }

    @Test func aDaemonThatDiesLaterIsSeen() throws {
        try #require(try fixture.create("ill", nodes: 2).status == 0)
        _ = try fixture.exec("ill", "n1", "--", "pkill", "-9", "slurmd")
        let isSeen = try ClusterFixture.eventually {
            try fixture.status("ill").nodes.first { $0.name == "n1" }?.services.first { $0.name == "slurmd" }?.state
                == "killed by signal 9"
        }
        #expect(isSeen)
        #expect(try fixture.run(["status", "ill"]).outputText.contains("ill: slurmd on n1 killed by signal 9"))
        #expect(try fixture.exec("ill", "n1", "--", "hostname").lines == ["n1"])
        #expect(try fixture.run(["logs", "ill", "ctl.slurmctld"]).outputText.contains("slurmctld"))
    }

    /// What waits for a daemon that is gone ends with its name, and what fits elsewhere runs.
    @Test func whatWaitsForADeadDaemonEnds() throws {
        let trireme = try Programs.path("trireme")
        func run(_ words: String...) throws -> ProgramRun {
            try runProgram(
                [trireme, "run", "--cluster", "ill"] + words + ["mpi-hello:mpich", "hostname"],
                environment: ["XDG_STATE_HOME": fixture.directory.path], limitSeconds: 60)
        }
        try #require(try fixture.create("ill", nodes: 2, ["--cpus", "1"]).status == 0)
        // Both nodes are taken: the second job waits in the queue when one of them loses its daemon.
        let script = """
            "$0" cluster exec ill -- salloc -Q -N 2 sleep 30 & holder=$!
            until "$0" cluster exec ill -- squeue -h -t R | grep -q .; do sleep 0.1; done
            "$1" run --cluster ill -n 2 -N 2 mpi-hello:mpich true & waiting=$!
            until "$0" cluster exec ill -- squeue -h -t PD | grep -q .; do sleep 0.1; done
            "$0" cluster exec ill n1 -- pkill -9 slurmd
            begin=$SECONDS; wait $waiting; echo "status $? $((SECONDS - begin < 10))"
            "$0" cluster exec ill -- scancel -u "$(id -un)"; wait $holder; exit 0
            """
        let queued = try runProgram(
            ["bash", "-c", script, fixture.program, trireme],
            environment: ["XDG_STATE_HOME": fixture.directory.path], limitSeconds: 100)
        #expect(queued.lines == ["status 125 1"], "\(queued.outputText)\(queued.errorText)")
        #expect(queued.errorText.contains("slurmd on n1 killed by signal 9"), "\(queued.errorText)")
        #expect(queued.errorText.contains("[daemon-ended]"), "\(queued.errorText)")
        let tooMany = try run("-n", "2", "-N", "2")
        #expect(tooMany.status == 125 && tooMany.errorText.contains("[daemon-ended]"), "\(tooMany.errorText)")
        let fits = try run("-n", "1")
        #expect(fits.lines == ["n2"] && fits.errorText.contains("slurmd on n1"), "\(fits.errorText)")
        _ = try fixture.exec("ill", "ctl", "--", "pkill", "-9", "slurmctld")
        #expect(
            try ClusterFixture.eventually {
                try fixture.run(["status", "ill"]).outputText.contains("slurmctld on ctl")
            })
        let none = try run("-n", "1")
        #expect(none.status == 125 && none.errorText.contains("slurmctld on ctl killed"), "\(none.errorText)")
        #expect(none.seconds < 10)
    }

    /// slurmd's own arithmetic over jobs of more than 64 nodes (EpilogMsgTime) must not end it.
    @Test func jobsOverManyNodesLeaveEveryDaemonAlive() throws {
        try #require(try fixture.create("wide", nodes: 65, ["--cpus", "1"]).status == 0)
        for _ in 0..<2 { #expect(try fixture.exec("wide", "--", "srun", "-N", "65", "hostname").lines.count == 65) }
        usleep(500_000)
        let services = try fixture.status("wide").nodes.flatMap(\.services)
        #expect(services.count == 132 && services.allSatisfy { $0.state == "up" }, "\(services)")
        // Each knows every other's hardware address for good: what nodes learn by asking is one table for all
        // networks of this machine, and 65 that talk to each other overflow it (arp(7): 0x2 known, 0x4 for good).
        let known = try fixture.exec("wide", "n7", "--", "cat", "/proc/net/arp").lines.dropFirst()
        let isPermanent = known.allSatisfy { $0.split(separator: " ").dropFirst(2).first == "0x6" }
        #expect(known.count == 65 && isPermanent, "\(known)")
        guard LaunchMatrix.isFull else { return }
        let hello = try fixture.exec(
            "wide", "--", "salloc", "-Q", "-N", "65", Programs.path("trireme"), "run", "-n", "65", "-N", "65",
            JobFixture.mpich, "mpi-hello")
        #expect(hello.lines.filter { $0.hasSuffix(" sum 2080") }.count == 65, "\(hello.outputText)\(hello.errorText)")
    }

    @Test func memoryPerNode() throws {
        try #require(try fixture.create("small", nodes: 4).status == 0)
        usleep(300_000)
        for node in try fixture.status("small").nodes where node.name != "ctl" {
            let namespace = try #require(ClusterFixture.networkNamespace(of: node.pid))
            let kibibytes = ClusterFixture.processes(in: [namespace]).reduce(0) { sum, pid in
                let text = (try? String(contentsOfFile: "/proc/\(pid)/smaps_rollup", encoding: .utf8)) ?? ""
                let line = text.split(separator: "\n").first { $0.hasPrefix("Pss:") } ?? ""
                return sum + (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0)
            }
            #expect(kibibytes > 0 && kibibytes <= 4096, "\(node.name): \(kibibytes) KiB")
        }
    }
}
