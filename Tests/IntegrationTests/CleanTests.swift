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
            state + "/trireme/clusters/old", store.path + "/tmp/\(dead)-abc/1", store.path + "/tmp/7-living",
            temporary + "/somebody-elses",
        ] {
            try files.createDirectory(atPath: made, withIntermediateDirectories: true)
        }
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
