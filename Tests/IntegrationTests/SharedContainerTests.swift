import Foundation
import TestSupport
import Testing

/// Many ranks, one container: they are in one user namespace, so that they may read each other's memory
/// (process_vm_readv, what MPI libraries copy large messages with inside a node).
@Suite struct SharedContainerTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    private func shell(_ script: String, _ words: String..., environment: [String: String?] = [:]) throws -> ProgramRun
    {
        var merged = environment
        merged["TRIREME_STORE"] = store.path
        merged["HOME"] = store.home
        return try runProgram(
            ["bash", "-c", script, try Programs.path("trireme")] + words, environment: merged, directory: store.home,
            limitSeconds: 90)
    }

    /// What `--model rank` does with the agent of a node, by 128 ranks at once and one long after.
    @Test func ranksJoinTheAgentsContainer() throws {
        let key = "ranks-\(getpid())-\(UUID().uuidString)"
        let run = try shell(
            """
            "$0" run -B "$PWD:/meet" prepared probe listen "$1" >said & agent=$!; n=0
            while ! grep -q listening said 2>/dev/null && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done
            mkdir many late; i=0; ranks=
            while [ $i -lt 128 ]; do
                "$0" run --join-agent "$1" prepared probe rank /meet/many $i 128 & ranks="$ranks $!"; i=$((i+1))
            done
            wait $ranks
            "$0" run --join-agent "$1" prepared probe rank /meet/late 0 1
            echo "$(readlink /proc/$agent/ns/user) $(readlink /proc/$agent/ns/mnt) agent"
            kill -KILL $agent; wait $agent 2>/dev/null
            "$0" run --join-agent "$1" prepared probe ns 2>&1; echo status $?
            """, key)
        try #require(run.lines.count > 131, "\(run.outputText)\(run.errorText)")
        let agent = run.lines[129].replacingOccurrences(of: "agent", with: "")
        #expect(Set(run.lines[0..<129]) == [agent + "read"])
        #expect(run.outputText.contains("[agent-unreachable]") && run.lines.last == "status 125")
    }
}
