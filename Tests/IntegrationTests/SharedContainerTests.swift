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
            limitSeconds: 180)
    }

    /// What `--model rank` does with the agent of a node, by 128 ranks at once and one long after.
    @Test func ranksJoinTheAgentsContainer() throws {
        let key = "ranks-\(getpid())-\(UUID().uuidString)"
        let agent = try AgentStandIn(
            key, options: ["-B", store.home + ":/meet"], image: "prepared", store: store.path, home: store.home)
        let run = try shell(
            """
            mkdir many late; i=0; ranks=
            while [ $i -lt 128 ]; do
                "$0" run --join-agent "$1" prepared probe rank /meet/many $i 128 & ranks="$ranks $!"; i=$((i+1))
            done
            wait $ranks
            "$0" run --join-agent "$1" prepared probe rank /meet/late 0 1
            echo "$(readlink /proc/$2/ns/user) $(readlink /proc/$2/ns/mnt) agent"
            """, key, "\(agent.pid)")
        try #require(run.lines.count == 130, "\(run.outputText)\(run.errorText)")
        let namespaces = run.lines[129].replacingOccurrences(of: "agent", with: "")
        #expect(Set(run.lines[0..<129]) == [namespaces + "read"])
        agent.closeDoor()
        let late = try shell("\"$0\" run --join-agent \"$1\" prepared probe ns 2>&1; echo status $?", key)
        #expect(late.outputText.contains("[agent-unreachable]") && late.lines.last == "status 125")
    }

    /// `srun trireme run IMAGE`: every rank is a launch of its own. Slurm's variables are what makes it one.
    private static let step: [String: String?] = [
        "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "3", "SLURM_STEP_NUM_TASKS": "128", "TRIREME_JOIN": nil,
        "OMPI_COMM_WORLD_LOCAL_SIZE": nil, "MPI_LOCALNRANKS": nil,
    ]

    /// Starts `count` ranks at once that meet in the directory `many`.
    private static let together = """
        rm -rf many; mkdir many; i=0
        while [ $i -lt $1 ]; do
            "$0" run -B "$PWD:/meet" prepared probe rank /meet/many $i $1 & i=$((i+1))
        done
        wait

        """

    @Test func ranksOfAStepShareAContainer() throws {
        let run = try shell(Self.together, "128", environment: Self.step)
        #expect(run.lines.count == 128, "\(run.errorText)")
        #expect(Set(run.lines).count == 1 && run.lines.first?.hasSuffix(" read") ?? false, "\(Set(run.lines))")
        // Each by itself: the kernel refuses the other's memory. That is why they share.
        let alone = try shell(
            Self.together, "4", environment: Self.step.merging(["TRIREME_JOIN": "never"]) { $1 })
        #expect(Set(alone.lines).count == 4 && alone.lines.allSatisfy { $0.hasSuffix(" EPERM") }, "\(alone.lines)")
    }

    @Test(arguments: ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"])
    func ranksOfALauncherShareAContainer(variable: String) throws {
        var environment = Self.step
        for name in environment.keys { environment[name] = .some(nil) }
        environment[variable] = "8"
        let run = try shell(Self.together, "8", environment: environment)
        #expect(run.lines.count == 8 && Set(run.lines).count == 1, "\(run.lines)")
        #expect(run.lines.first?.hasSuffix(" read") ?? false)
    }

    /// The first is gone, and who comes late makes the container afresh; who wants another gets another.
    @Test func lateAndDifferentRanks() throws {
        let run = try shell(
            """
            "$0" run prepared probe signals 1 >said & first=$!; n=0
            while ! grep -q ready said 2>/dev/null && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done
            echo "$(readlink /proc/$first/ns/user) $(readlink /proc/$first/ns/mnt)"
            "$0" run prepared probe ns
            "$0" run -B "$PWD:/other" prepared probe ns
            "$0" run --writable-tmpfs prepared probe ns
            (cd / && "$0" run prepared probe ns)
            SLURM_STEP_ID=4 "$0" run prepared probe ns
            SLURM_STEP_NUM_TASKS=1 "$0" run prepared probe ns
            "$0" run prepared probe fds >joined; TRIREME_JOIN=never "$0" run prepared probe fds | diff - joined && echo same
            "$0" run prepared probe cat /proc/self/status | grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' | cut -f2 | tr '\\n' ' '; echo
            kill -KILL $first; wait $first 2>/dev/null
            "$0" run prepared probe ns; "$0" run prepared probe ns
            """, environment: Self.step)
        try #require(run.lines.count == 11, "\(run.outputText)\(run.errorText)")
        let first = run.lines[0]
        #expect(run.lines[1] == first)
        // A namespace's number may be given again once it is gone, never while it is there.
        for other in run.lines[2...6] { #expect(other != first) }
        #expect(run.lines[7] == "same")
        #expect(run.lines[8] == "0000000000000000 0000000000000000 1 2 ")
        #expect(run.lines[9].hasPrefix("user:") && run.lines[10].hasPrefix("user:"))
    }
}
