import CLinux
import Foundation
import JobModel
import JobWire
import LinuxSystem
import Processes
import TestSupport
import Testing

/// The real agent as a process, led by the test over the real wire, without a container.
@Suite(.serialized) struct AgentProgramTests {
    @Test func runsARankAndReportsItsEnd() throws {
        let leader = try TestLeader()
        try leader.begin()
        leader.launch(
            ["sh", "-c", "cat; echo $TRIREME_RANK of $TRIREME_SIZE; echo no >&2; exit 42"], rank: 0, input: true)
        leader.send(.input(channel: 1, bytes: Array("in ".utf8)))
        leader.send(.input(channel: 1, bytes: []))
        let seen = try leader.wait { if case .exited(1, let status) = $0 { status == .exited(42) } else { false } }
        #expect(seen.output(1) == "0: in 0 of 1\n" && seen.output(2) == "0: no\n")
        #expect(seen.contains(.rankExited(rank: 0, .exited(42))))
        #expect(seen.contains(.consumed(channel: 1, count: 3)))
    }

    @Test func programsThatCannotRunAreRefused() throws {
        let leader = try TestLeader()
        try leader.begin()
        leader.launch(["no-such-program"], rank: -1)
        _ = try leader.wait { $0 == .refused(channel: 1, errno: Int(ENOENT), subject: "no-such-program") }
        leader.launch(["/etc/passwd"], rank: -1, channel: 2)
        _ = try leader.wait { $0 == .refused(channel: 2, errno: Int(EACCES), subject: "/etc/passwd") }
    }

    @Test func stopGivesGraceAndThenKills() throws {
        let leader = try TestLeader()
        try leader.begin()
        leader.launch(["sh", "-c", "trap 'echo polite; exit 0' TERM; echo up; sleep 60 & wait"], rank: 0)
        leader.launch(["sh", "-c", "trap '' TERM; echo up; sleep 4712 & wait; wait"], rank: 1, channel: 2)
        _ = try leader.wait { if case .output(1, 1, _) = $0 { true } else { false } }
        _ = try leader.wait { if case .output(2, 1, _) = $0 { true } else { false } }
        let start = Date()
        leader.send(.stop(graceMilliseconds: 2500))
        let seen = try leader.wait { $0 == .empty(unkillable: 0) }
        #expect(seen.output(1).contains("polite"))
        #expect(Date().timeIntervalSince(start) > 2.4 && Date().timeIntervalSince(start) < 15)
        #expect(try leader.agentHasGone() && processes("sleep 4712").isEmpty)
    }

    @Test func aLostLeaderEndsEverything() throws {
        let leader = try TestLeader()
        try leader.begin(grace: 300)
        // A process that left its parent, its session and its group is still a descendant.
        leader.launch(
            ["sh", "-c", "setsid sh -c 'trap \"\" TERM; while :; do sleep 4713; done' & echo up; wait"], rank: 0)
        _ = try leader.wait { if case .output(1, 1, _) = $0 { true } else { false } }
        leader.hangUp()
        #expect(try leader.agentHasGone() && processes("sleep 4713").isEmpty)
    }

    @Test func aKilledWorkerLeavesNothing() throws {
        let leader = try TestLeader()
        try leader.begin()
        leader.launch(["sh", "-c", "setsid sleep 4714 & echo up; wait"], rank: 0)
        _ = try leader.wait { if case .output(1, 1, _) = $0 { true } else { false } }
        for worker in ProcessTree.descendants(of: leader.pid).prefix(1) { kill(worker, SIGKILL) }
        #expect(try leader.agentHasGone() && processes("sleep 4714").isEmpty)
    }

    @Test func aLeaderWithAnotherSecretIsNotObeyed() throws {
        let leader = try TestLeader(tells: RandomBytes.make(32))
        #expect(throws: TestLeader.Failure.self) { try leader.begin() }
        #expect(try leader.agentHasGone())
    }

    /// What somebody on another node asked for: its output waits for its reader, and its end is its asker's.
    @Test func askedForOutputWaitsForItsReader() throws {
        let leader = try TestLeader()
        try leader.begin()
        var launch = Launch(arguments: ["sh", "-c", "head -c 3000000 /dev/zero; exit 3"].map { Array($0.utf8) })
        launch.hasWindow = true
        leader.send(.launch(channel: 1, launch))
        _ = try leader.wait { if case .output(1, 1, _) = $0 { true } else { false } }
        usleep(300_000)
        leader.send(.ping)
        #expect(try leader.wait { $0 == .pong }.output(1).utf8.count <= (512 + 64) << 10)
        try leader.takeAll(of: 1) { $0 == .exited(channel: 1, .exited(3)) }
        #expect(try leader.wait { $0 == .exited(channel: 1, .exited(3)) }.output(1).utf8.count == 3_000_000)
    }

    @Test func anAskerThatIsGoneEndsItsProcess() throws {
        let leader = try TestLeader()
        try leader.begin()
        var launch = Launch(arguments: ["sh", "-c", "echo up; cat; sleep 4718"].map { Array($0.utf8) })
        launch.takesInput = true
        launch.hasWindow = true
        leader.send(.launch(channel: 1, launch))
        _ = try leader.wait { if case .output(1, 1, _) = $0 { true } else { false } }
        leader.send(.hangUp(channel: 1))
        _ = try leader.wait { $0 == .exited(channel: 1, .signaled(SIGTERM)) }
        #expect(try processes("sleep 4718").isEmpty)
    }

    /// At what point of the handshake the leader closes the connection.
    @Test(arguments: TestLeader.Farewell.allCases)
    func whoIsSentAwayBeforeItWasHeardComesAgain(_ farewell: TestLeader.Farewell) throws {
        let leader = try TestLeader(sendsAway: [farewell, farewell])
        try leader.begin()
        leader.launch(["true"], rank: 0)
        _ = try leader.wait { $0 == .exited(channel: 1, .exited(0)) }
        #expect(leader.calls == 3)
    }

    @Test func whoWasAnsweredDoesNotComeAgain() throws {
        let leader = try TestLeader()
        _ = try leader.wait { if case .hello = $0 { true } else { false } }
        leader.send(.stop(graceMilliseconds: 0))
        _ = try leader.wait { $0 == .empty(unkillable: 0) }
        leader.hangUp()
        #expect(try leader.agentHasGone())
        #expect(!leader.isCalledAgain(within: 0.5))
    }

    /// Rank's shims and the like find an agent that lacks descriptors at rest, and are served when it has some.
    @Test func withoutDescriptorsTheAgentRests() throws {
        let leader = try TestLeader()
        try leader.begin()
        // The oldest: helpers of the container's making may be on their way out.
        let worker = try #require(ProcessTree.descendants(of: leader.pid).min())
        let famine = try DescriptorFamine(of: worker)
        let client = try leader.client()
        let before = try processorSeconds(of: worker)
        usleep(1_000_000)
        #expect(try processorSeconds(of: worker) - before < 0.2)
        try famine.end()
        client.send(.rankJoining(rank: 0))
        var said: [WireMessage] = []
        let deadline = Date().addingTimeInterval(10)
        while said.isEmpty, !client.isClosed, Date() < deadline {
            client.flush()
            said = try client.receive()
            usleep(2000)
        }
        guard case .node(_, 1, _)? = said.first else { return #expect(Bool(false), "\(said)") }
    }

    private func processes(_ words: String) throws -> [String] {
        try runProgram(["ps", "-eo", "stat,args"]).lines.filter { $0.hasSuffix(words) && !$0.hasPrefix("Z") }
    }
}
