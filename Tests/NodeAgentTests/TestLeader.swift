import CLinux
import ContainerLaunch
import Foundation
import JobModel
import JobWire
import LinuxSystem
import NodeAgent
import Processes
import TestSupport

/// A leader in a few lines: listens, starts one agent, speaks the wire.
final class TestLeader {
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

    /// When a connection is closed: at once, on the first word, with the proof still to be read.
    enum Farewell: CaseIterable { case unheard, opened, challenged }

    private let process = Process()
    private let secret = RandomBytes.make(32)
    private let socket: OwnedDescriptor
    private var listener: RestingListener
    /// Connections so far.
    private(set) var calls = 0
    private var connection: Connection?
    private var seen = Seen()
    var pid: pid_t { process.processIdentifier }

    /// - Parameters:
    ///   - told: the secret that the agent gets, when not the leader's own.
    ///   - farewells: of the first connections.
    init(tells told: [UInt8]? = nil, sendsAway farewells: [Farewell] = []) throws {
        let listening = try TCPSocket.listen(port: 0)
        let port = listening.port
        socket = listening.takeDescriptor()
        listener = RestingListener(socket.raw)
        process.executableURL = URL(fileURLWithPath: try Programs.path("trireme-agent"))
        process.arguments = ["--serve", "-", "0", "127.0.0.1:\(port)"]
        process.environment = [
            AgentProgram.secretVariable: RandomBytes.hex(told ?? secret), "PATH": "/usr/bin:/bin",
            "SLURMD_NODENAME": "here",
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        for farewell in farewells { try sendAway(farewell) }
        connection = nextCall(within: 60)
    }

    private func nextCall(within seconds: Double) -> Connection? {
        let deadline = Date().addingTimeInterval(seconds)
        while Date() < deadline {
            if let accepted = TCPSocket.accept(&listener) {
                calls += 1
                return Connection(
                    accepted.takeDescriptor(),
                    handshake: Handshake(.leader, secret: secret, nonce: RandomBytes.make(Handshake.nonceBytes)))
            }
            usleep(5000)
        }
        return nil
    }

    func isCalledAgain(within seconds: Double) -> Bool { nextCall(within: seconds) != nil }

    private func sendAway(_ farewell: Farewell) throws {
        guard let stranger = nextCall(within: 60) else { throw Failure.connection }
        if farewell == .unheard { return }
        let deadline = Date().addingTimeInterval(10)
        while stranger.handshakeSteps < 1, Date() < deadline {
            _ = try stranger.receive()
            usleep(2000)
        }
        if farewell == .opened { return }
        stranger.flush()
        // The agent takes itself for known once it has said its proof.
        usleep(300_000)
    }

    /// One of the node's own, as a rank's shim is.
    func client() throws -> Connection {
        guard let place = MeetingPlace(UnsafePointer(linux_environ())) else { throw Failure.connection }
        let socket = UnixSocket.make(isBlocking: false)
        guard socket >= 0, place.connect(socket, to: AgentAddress.service(strdup(key))) else {
            throw Failure.connection
        }
        return Connection(OwnedDescriptor(owning: socket))
    }

    private var key: String { "test-\(pid)" }

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
                    jobID: "t.1", key: key, nodeIndex: 0, nodeNames: ["here"], nodeAddresses: ["127.0.0.1"],
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
