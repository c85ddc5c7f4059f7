import Foundation
import TestSupport
import Testing

/// `trireme clean`, on directories of its own.
@Suite struct CleanTests {
    let store: HandmadeStore
    let files = FileManager.default
    private var temporary: String { store.directory.path + "/temporary" }
    private var state: String { store.directory.path + "/state" }

    init() throws {
        store = try HandmadeStore()
        // Pid 1 lives; that of a process which has ended does not.
        let dead = try runProgram(["sh", "-c", "echo $$"]).lines[0]
        for made in [
            temporary + "/trireme-convert-1", temporary + "/trireme-convert-\(dead)/below",
            temporary + "/trireme-\(geteuid())/cache/1-2-3.partial", temporary + "/trireme-\(geteuid())/cache/9-9-9",
            state + "/trireme/clusters/old", state + "/trireme/clusters/nested", store.path + "/tmp/\(dead)-abc/1",
            store.path + "/tmp/7-living",
            temporary + "/somebody-elses",
        ] {
            try files.createDirectory(atPath: made, withIntermediateDirectories: true)
        }
        // Made in a node of a cluster that is gone.
        let record = """
            {"name": "nested", "scheduler": "slurm", "created": "2026-01-02T03:04:05Z", "host": "n1", "image": "i", \
            "cpus_per_node": 1, "memory_per_node_mib": 64, "user": "u", "home": "/", "boot_id": "b", "pid": 9, \
            "start_ticks": 9, "nodes": [], "outer": "gone"}
            """
        try Data(record.utf8).write(to: URL(fileURLWithPath: state + "/trireme/clusters/nested/cluster.json"))
        for lock in [
            "/tmp/\(dead)-abc/lock", "/tmp/7-living/lock", "/../temporary/trireme-\(geteuid())/cache/lock",
        ] {
            try store.write(lock, "")
        }
    }

    /// With the lock of one unfinished load held, as by a living command.
    private func clean(_ options: String...) throws -> ProgramRun {
        try runProgram(
            [
                "flock", store.path + "/tmp/7-living/lock", "env", "TRIREME_TMPDIR=" + temporary,
                "XDG_STATE_HOME=" + state, try Programs.path("trireme"), "clean",
            ] + options, environment: ["TRIREME_STORE": store.path, "HOME": store.home], limitSeconds: 120)
    }

    private var left: [String] {
        ["convert-1", "\(geteuid())/cache/9-9-9", "\(geteuid())/cache/1-2-3.partial"]
            .filter { files.fileExists(atPath: temporary + "/trireme-" + $0) }
    }

    @Test func onlyWhatTheDeadLeft() throws {
        let planned = try clean("--dry-run")
        #expect(planned.status == 0, "\(planned.errorText)")
        #expect(left.count == 3)
        let run = try clean()
        #expect(run.status == 0, "\(run.errorText)")
        #expect(run.lines.map { $0.replacingOccurrences(of: "removed ", with: "would remove ") } == planned.lines)
        #expect(run.lines.filter { !$0.contains("control group") }.count == 3, "\(run.outputText)")
        #expect(left == ["convert-1", "\(geteuid())/cache/9-9-9"])
        #expect(try files.contentsOfDirectory(atPath: store.path + "/tmp") == ["7-living"])
        #expect(files.fileExists(atPath: state + "/trireme/clusters/old"))
        #expect(try store.trireme("run", "prepared", "probe", "exit", "4").status == 4)
    }

    /// On a terminal it is asked first, unless `--yes` or `--force` answers beforehand.
    @Test(arguments: [["clean", "--all"], ["image", "prune", "--all"]]) func aTerminalIsAsked(_ words: [String]) throws
    {
        let program = #"""
            import os, pty, sys
            answer, words = sys.argv[1], sys.argv[2:]
            pid, master = pty.fork()
            if pid == 0:
                os.execv(words[0], words)
            seen = b""
            while True:
                try: more = os.read(master, 4096)
                except OSError: break
                if not more: break
                seen += more
                if b"[y/N]" in seen and answer: os.write(master, answer.encode() + b"\n"); answer = ""
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), b"[y/N]" in seen, b"[not-confirmed]" in seen)
            """#
        func run(_ answer: String, _ more: [String] = []) throws -> String {
            let run = try runProgram(
                ["python3", "-c", program, answer, try Programs.path("trireme")] + words + more,
                environment: [
                    "TRIREME_STORE": store.path, "HOME": store.home, "TRIREME_TMPDIR": temporary,
                    "XDG_STATE_HOME": state,
                ])
            return run.outputText + run.errorText
        }
        let plans = store.path + "/plans"
        func count() -> Int { (try? files.contentsOfDirectory(atPath: plans).count) ?? 0 }
        let before = count()
        #expect(before > 0)
        #expect(try run("n") == "125 True True\n" && count() == before)
        #expect(try run("", ["--dry-run"]) == "0 False False\n" && count() == before)
        #expect(try run("y") == "0 True False\n" && count() < before)
        #expect(try run("", ["--yes"]) == "0 False False\n")
    }

    @Test func allOfIt() throws {
        #expect(try clean("--all", "--dry-run").status == 0 && files.fileExists(atPath: store.path + "/plans"))
        let run = try clean("--all", "-q")
        #expect(run.status == 0 && run.outputText.isEmpty, "\(run.errorText)\(run.outputText)")
        #expect(!files.fileExists(atPath: store.path) && !files.fileExists(atPath: state + "/trireme"))
        #expect(
            try files.contentsOfDirectory(atPath: temporary).sorted() == ["somebody-elses", "trireme-convert-1"])
        // Once more: nothing is there, and that is no error.
        #expect(
            try runProgram(
                [try Programs.path("trireme"), "clean", "--all"],
                environment: [
                    "TRIREME_STORE": store.path, "HOME": store.home, "TRIREME_TMPDIR": temporary,
                    "XDG_STATE_HOME": state,
                ]
            ).status == 0)
    }
}
