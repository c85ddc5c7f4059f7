import Foundation
import TestSupport
import Testing

/// Nodes and agents that fall silent. Each test has a cluster of its own: they wait for heartbeats, side by side.
@Suite struct JobLossTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture() }

    /// Starts a job of four ranks on n1 and n2 in a script, waits until all have spoken, and does `event`.
    private func job(_ kind: String, _ event: String, limitSeconds: Double = 180) throws -> ProgramRun {
        try fixture.script(
            """
            salloc -Q -N 2 -n 4 bash -c 'o=$(mktemp)
            trireme run -n 4 -N 2 --grace 2 mpi-hello:\(kind) mpi-hello --sleep 90 >$o </dev/null & p=$!
            i=0; while [ $(grep -c ^rank $o) != 4 ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
            grep -c ^rank $o; rm $o; start=$SECONDS; \(event); wait $p; echo status $? after $((SECONDS - start))'
            """, limitSeconds: limitSeconds)
    }

    private func seconds(_ run: ProgramRun) -> Int {
        Int(run.lines.last?.split(separator: " ").last ?? "") ?? .max
    }

    @Test(arguments: ["openmpi", "mpich"]) func aStoppedAgentIsALostNode(_ kind: String) throws {
        let run = try job(kind, "srun --overlap -Q -w n2 -N1 -n1 pkill -STOP -f trireme-agent.--serve")
        #expect(run.lines.first == "4" && run.lines.last?.hasPrefix("status 125") ?? false, "\(run.outputText)")
        #expect(run.errorText.contains("n2") && run.errorText.contains("[node-lost]"), "\(run.errorText)")
        // Three heartbeats of 5 s, the grace, and the time a lost node is given to answer after all.
        #expect(seconds(run) >= 14 && seconds(run) <= 45, "\(run.outputText)")
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test func aNodeCutOffEndsTheJobOnBothSides() throws {
        let fixture = fixture
        let cut = Thread {
            // The job's ranks are there when their node has an agent.
            _ = try? ClusterFixture.eventually(within: 30) {
                try fixture.clusters.run(["exec", JobFixture.name, "n2", "--", "pgrep", "-f", "mpi-hello --sleep"])
                    .status == 0
            }
            Thread.sleep(forTimeInterval: 1)
            do { try fixture.network("n2", ["link", "set", "eth0", "down"]) } catch { Issue.record(error) }
        }
        cut.start()
        let run = try job("mpich", "true")
        #expect(run.lines.last?.hasPrefix("status 125") ?? false, "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.contains("[node-lost]"), "\(run.errorText)")
        // The agent beyond the cut ends its ranks by itself when its leader is silent.
        let empty = try ClusterFixture.eventually(within: 30) {
            try fixture.clusters.run(["exec", JobFixture.name, "n2", "--", "pgrep", "-f", "mpi-hello|trireme-agent"])
                .status == 1
        }
        #expect(empty)
        try fixture.network("n2", ["link", "set", "eth0", "up"])
    }

    @Test func theThirdInterruptDoesNotWait() throws {
        let run = try fixture.script(
            """
            salloc -Q -N 2 -n 4 bash -c 'o=$(mktemp)
            trireme run -n 4 -N 2 --grace 60 \(JobFixture.mpich) mpi-hello --sleep 90 --stubborn >$o </dev/null & p=$!
            i=0; while [ $(grep -c ^rank $o) != 4 ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
            rm $o; start=$SECONDS; for i in 1 2 3; do kill -INT $p; sleep 0.3; done
            wait $p; echo status $? after $((SECONDS - start))'
            """)
        #expect(run.lines.last?.hasPrefix("status 130") ?? false, "\(run.outputText)\(run.errorText)")
        #expect(seconds(run) <= 20, "\(run.outputText)")
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }
}
