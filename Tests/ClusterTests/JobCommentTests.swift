import Foundation
import TestSupport
import Testing

/// A job that is slow to start says so where the batch system's users look.
@Suite struct JobCommentTests {
    @Test func slurmShowsWhichNodesAreAwaited() throws {
        let fixture = try JobFixture(nodes: 2)
        let slurmd = try #require(
            try fixture.clusters.status(JobFixture.name).nodes.first { $0.name == "n2" }?.services
                .first { $0.name.contains("slurmd") }?.pid)
        func comment(_ wanted: String) throws -> String {
            var seen = ""
            _ = try ClusterFixture.eventually(within: 40) {
                seen = try fixture.script("scontrol show job | sed -n 's/^ *Comment=//p'").outputText
                return seen.contains(wanted)
            }
            return seen
        }
        // Its number means something in its node. The agent of n2 starts when its slurmd goes on.
        func tell(_ signal: String) throws {
            let run = try fixture.clusters.run(["exec", JobFixture.name, "n2", "--", "kill", signal, "\(slurmd)"])
            #expect(run.status == 0, "\(run.errorText)")
        }
        try tell("-STOP")
        let job = DispatchGroup()
        job.enter()
        // Not a queue's: Dispatch starts no thread while tests that compute keep the processors busy.
        Thread.detachNewThread {
            _ = try? fixture.script("salloc -Q -N 2 -n 2 trireme run -N 2 mpi-hello:mpich sleep 300", limitSeconds: 120)
            job.leave()
        }
        let waiting = try comment("1/2")
        #expect(waiting.contains("trireme: rendezvous 1/2"), "\(waiting)")
        try tell("-CONT")
        let running = try comment("running")
        #expect(running.contains("trireme: running"), "\(running)")
        _ = try fixture.script("scancel -u $(id -un)")
        job.wait()
        #expect(try fixture.isClean(nodes: ["ctl", "n1", "n2"]))
    }
}
