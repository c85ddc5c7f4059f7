import CLinux
import Foundation
import JobModel
import LinuxSystem
import NodeAgent
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

    private func processes(_ words: String) throws -> [String] {
        try runProgram(["ps", "-eo", "stat,args"]).lines.filter { $0.hasSuffix(words) && !$0.hasPrefix("Z") }
    }
}

/// A leader in a few lines: listens, starts one agent, speaks the wire.
private final class TestLeader {
    enum Failure: Error { case timeOut, connection }
    struct Seen {
        var messages: [WireMessage] = []
        func contains(_ message: WireMessage) -> Bool { messages.contains(message) }
        func output(_ stream: Int) -> String {
            let bytes = messages.flatMap { message -> [UInt8] in
                if case .output(_, stream, let bytes) = message { bytes } else { [] }
            }
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    private let process = Process()
    private var connection: Connection?
    private var seen = Seen()
    var pid: pid_t { process.processIdentifier }

    init(tells told: [UInt8]? = nil) throws {
        let secret = RandomBytes.make(32)
        let listening = try TCPSocket.listen(port: 0)
        let port = listening.port
        let listener = listening.takeDescriptor()
        process.executableURL = URL(fileURLWithPath: try Programs.path("trireme-agent"))
        process.arguments = ["--serve", "-", "0", "127.0.0.1:\(port)"]
        process.environment = [
            AgentProgram.secretVariable: RandomBytes.hex(told ?? secret), "PATH": "/usr/bin:/bin",
            "SLURMD_NODENAME": "here",
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        let deadline = Date().addingTimeInterval(60)
        while connection == nil, Date() < deadline {
            if let accepted = TCPSocket.accept(listener.raw) {
                connection = Connection(
                    accepted.takeDescriptor(),
                    handshake: Handshake(.leader, secret: secret, nonce: RandomBytes.make(Handshake.nonceBytes)))
            }
            usleep(5000)
        }
    }

    deinit {
        connection?.close()
        if process.isRunning { kill(pid, SIGKILL) }
    }

    /// Takes the agent through hello and job to ready.
    func begin(grace: Int = 5000) throws {
        _ = try wait { if case .hello("here", 0, _) = $0 { true } else { false } }
        send(
            .job(
                JobAssignment(
                    jobID: "t.1", key: "test-\(pid)", nodeIndex: 0, nodeNames: ["here"], nodeAddresses: ["127.0.0.1"],
                    size: 1, ranksPerNode: [1], plan: [], store: "/", directory: Array("/".utf8),
                    environment: [Array("PATH=/usr/bin:/bin".utf8)], overrides: [], labelsOutput: true,
                    graceMilliseconds: grace)))
        _ = try wait { if case .ready = $0 { true } else { false } }
        seen = Seen()
    }

    func launch(_ words: [String], rank: Int, channel: UInt32 = 1, input: Bool = false) {
        let environment = rank >= 0 ? [Array("TRIREME_RANK=\(rank)".utf8)] : []
        send(
            .launch(
                channel: channel,
                Launch(
                    arguments: words.map { Array($0.utf8) }, environment: environment, rank: rank, takesInput: input)))
    }

    func send(_ message: WireMessage) {
        connection?.send(message)
        connection?.flush()
    }

    /// Everything said so far, as soon as `condition` holds for one message.
    func wait(_ condition: (WireMessage) -> Bool) throws -> Seen {
        guard let connection else { throw Failure.connection }
        let deadline = Date().addingTimeInterval(60)
        while !seen.messages.contains(where: condition) {
            guard Date() < deadline else { throw Failure.timeOut }
            connection.flush()
            seen.messages += try connection.receive()
            if connection.isClosed, !seen.messages.contains(where: condition) { throw Failure.connection }
            usleep(2000)
        }
        return seen
    }

    /// Says of everything that comes on `channel` that it was taken, until `condition` holds for one message.
    func takeAll(of channel: UInt32, until condition: (WireMessage) -> Bool) throws {
        var known = 0
        var isOver = false
        while !isOver {
            _ = try wait { message in
                // Asked about all messages each time; any new one will do.
                condition(message) || seen.messages.count > known
            }
            for message in seen.messages[known...] {
                if case .output(channel, _, let bytes) = message { send(.taken(channel: channel, count: bytes.count)) }
                if condition(message) { isOver = true }
            }
            known = seen.messages.count
        }
    }

    func hangUp() { connection = nil }

    func agentHasGone() throws -> Bool {
        let deadline = Date().addingTimeInterval(10)
        while process.isRunning, Date() < deadline { usleep(10_000) }
        return !process.isRunning
    }
}
