import Foundation
import TestSupport
import Testing

/// Our own processes among a container's: nothing of them can be had from inside, neither the host's program
/// behind /proc/PID/exe nor what they know or hold (ptrace(2), access mode checking).
@Suite struct NeighbourTests {
    let hull: Hull
    init() throws { hull = try Hull() }

    private func expectClosed(_ run: ProgramRun, location: SourceLocation = #_sourceLocation) {
        #expect(run.status == 0, "\(run.errorText)", sourceLocation: location)
        let seen = run.lines.filter { $0.hasPrefix("seen: ") }
        #expect(!seen.isEmpty && !seen.contains("seen: 0"), "\(run.outputText)", sourceLocation: location)
        #expect(run.lines.filter { $0.hasSuffix(": done") } == [], sourceLocation: location)
    }

    /// The attempts can succeed: a child of the same user that is no program of ours to hide.
    @Test func theAttemptsAreRealOnes() throws {
        let run = try runProgram(
            [
                "sh", "-c",
                "cp \"$0\" open-process; ./open-process wait >ready & p=$!; sleep 0.2; \"$0\" neighbours open-process; kill $p",
                hull.image + "/bin/escape",
            ], directory: hull.home)
        #expect(run.lines.contains { $0.hasSuffix(" open-process environ: done") }, "\(run.outputText)")
    }

    @Test(arguments: [[], ["--profile", "isolated"]]) func aJobsAgent(options: [String]) throws {
        let run = try runProgram(
            [try Programs.path("trireme"), "run", "-n", "2"] + options + [hull.image, "escape", "neighbours"],
            environment: hull.environment, directory: hull.home, limitSeconds: 120)
        expectClosed(run)
        #expect(run.lines.contains { $0.contains(" trireme-agent ") }, "\(run.outputText)")
    }

    @Test(.enabled(if: access("/dev/fuse", R_OK | W_OK) == 0, "/dev/fuse is shut"))
    func theServerOfASingleFileImage() throws {
        let file = hull.home + "/hull.sqfs"
        try runProgram(["mksquashfs", hull.image, file, "-quiet", "-no-progress"])
        for options in [[], ["-n", "2"]] {
            let run = try runProgram(
                [try Programs.path("trireme"), "run"] + options + [file, "escape", "neighbours"],
                environment: hull.environment, directory: hull.home, limitSeconds: 120)
            expectClosed(run)
            #expect(run.lines.contains { $0.contains(" trireme-mount ") }, "\(run.outputText)")
        }
    }
}
