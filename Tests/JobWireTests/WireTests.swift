import JobModel
import JobWire
import Processes
import Testing

@Suite struct WireTests {
    private static let assignment = JobAssignment(
        jobID: "7.abcd", key: "k", nodeIndex: 1, nodeNames: ["n1", "n2"], nodeAddresses: ["10.0.0.1", "10.0.0.2"],
        size: 4, ranksPerNode: [2, 2], plan: [0, 1, 2], store: "/s", directory: Array("/d".utf8),
        environment: [Array("A=1".utf8)],
        overrides: [Array("B=\u{e9}".utf8), [0x42, 0x3D, 0xFF]], labelsOutput: true, graceMilliseconds: 5000)

    private static func assignment(_ network: NodeNetwork) -> JobAssignment {
        var changed = assignment
        changed.network = network
        return changed
    }

    static let messages: [WireMessage] = [
        .job(assignment(NodeNetwork(isShared: false))),
        .job(
            assignment(
                NodeNetwork(isShared: true, identifier: 0xFF_FFFF, prefixLength: 20, peers: ["10.0.0.1", "10.0.0.2"]))),
        .hello(node: "n1", index: -1, key: [1, 2]), .job(assignment), .ready(signature: [3]),
        .window(TerminalSize(rows: 24, columns: 80)), .update([Array("memory=1".utf8)]), .updated(code: 95, text: [65]),
        .nodeUsage(ResourceUsage(cpuMicroseconds: 1 << 40, peakMemory: 2, readBytes: 0, writtenBytes: 0)),
        .failed(step: "mount", errno: 1, subject: "/x"),
        .launch(
            channel: 9,
            Launch(arguments: [[0xFF], []], environment: [], rank: 3, takesInput: true, wireUp: .pmix(library: "/l"))),
        .launched(channel: 9, pid: 77), .refused(channel: 1, errno: 2, subject: "x"),
        .output(channel: 4, stream: 2, bytes: [10]), .exited(channel: 1, .exited(255)),
        .exited(channel: 1, .signaled(9)), .input(channel: 0, bytes: []), .consumed(channel: 0, count: 65536),
        .remote(channel: 3, RemoteCommand(host: "n2", line: Array("orted".utf8))), .hangUp(channel: 3),
        .remote(
            channel: 3,
            RemoteCommand(
                host: "n2", others: ["10.0.0.2"], line: [0xFF], takesInput: true,
                terminal: TerminalSize(rows: 24, columns: 80))), .taken(channel: 3, count: 4096), .names(["n2.site"]),
        .rankJoining(rank: 5), .node(environment: [[1]], size: 6, store: "/s"), .rankOutput(rank: 1, stream: 1, bytes: [1]),
        .rankStarted(rank: 1, size: 2, pid: 3), .rankExited(rank: 1, .exited(0)),
        .rankRefused(rank: 1, errno: 2, reason: "r"), .signal(10), .stop(graceMilliseconds: 0), .empty(unkillable: 1),
        .ping, .pong, .release, .wired,
        .memoryKills(MemoryKills(rank: 1, isRank: true, count: 2, limit: 1 << 40, peak: 1)), .fence([[1], []]),
        .fenceDone([]), .modexWanted(ticket: 3, rank: 1),
        .modex(ticket: 3, status: -46, bytes: [1]), .imageWanted(path: "/s/layers/1"),
        .fetchImage(command: [[1]], environment: [], plan: [7]), .imageSettled, .imageFetched(origin: "10.0.0.1:2"),
    ]

    @Test(arguments: messages) func everyMessageComesBack(_ message: WireMessage) throws {
        #expect(try WireMessage(message.frame) == message)
        // Neither a byte less nor a byte more is the same message.
        var short = message.frame
        if !short.payload.isEmpty {
            short.payload.removeLast()
            #expect(throws: WireFailure.self) { try WireMessage(short) }
        }
        var long = message.frame
        long.payload.append(0)
        #expect(throws: WireFailure.self) { try WireMessage(long) }
    }

    @Test func framesSurviveAnySplitting() throws {
        var stream: [UInt8] = []
        for message in Self.messages { message.frame.append(to: &stream) }
        for size in [1, 7, 4096] {
            var decoder = FrameDecoder()
            var found: [WireMessage] = []
            var at = 0
            while at < stream.count {
                let part = Array(stream[at..<min(at + size, stream.count)])
                at += part.count
                part.withUnsafeBytes { decoder.add($0) }
                while let frame = try decoder.next() { found.append(try WireMessage(frame)) }
            }
            #expect(found == Self.messages)
        }
    }

    @Test(arguments: [-1, 256, 256 + 128, 511, Int(Int32.max), Int(Int32.min)]) func noSuchEnd(_ number: Int) {
        var words = WireWriter()
        words.put(0)
        words.put(number)
        let kind = WireMessage.rankExited(rank: 0, .exited(0)).frame.kind
        #expect(throws: WireFailure.self) { try WireMessage(Frame(kind: kind, payload: words.bytes)) }
    }

    /// What a rank says that it used is bounded where it is read: the leader and its record add it up.
    @Test func amountsBeyondAllNumbersAreBounded() throws {
        for text in ["18446744073709551615", "9223372036854775808", "9007199254740993"] {
            var words = WireWriter()
            words.put(0)
            words.put([[UInt8]](repeating: Array(text.utf8), count: 4))
            let kind = WireMessage.rankUsage(rank: 0, ResourceUsage()).frame.kind
            guard case .rankUsage(0, let usage) = try WireMessage(Frame(kind: kind, payload: words.bytes)) else {
                return #expect(Bool(false), "another message")
            }
            #expect(usage.peakMemory == ResourceUsage.limit && usage.writtenBytes == ResourceUsage.limit)
            var sum = usage
            for _ in 0..<5000 { sum = sum.adding(usage) }
            #expect(sum.cpuMicroseconds == UInt64.max && sum.peakMemory == ResourceUsage.limit)
        }
        let kills = MemoryKills(rank: 1, isRank: true, count: 1, limit: .max, peak: .max)
        guard case .memoryKills(let heard) = try WireMessage(WireMessage.memoryKills(kills).frame) else {
            return #expect(Bool(false), "another message")
        }
        #expect(heard.limit == ResourceUsage.limit && heard.peak == ResourceUsage.limit)
    }

    @Test func hostileBytesAreRefusedBeforeMemoryIsSpent() {
        var decoder = FrameDecoder()
        [UInt8](repeating: 0xFF, count: 12).withUnsafeBytes { decoder.add($0) }
        #expect(throws: WireFailure.self) { try decoder.next() }
        #expect(throws: WireFailure.unknownKind(999)) { try WireMessage(Frame(kind: 999)) }
        // A list that claims 2^31-1 items in four bytes.
        let list = Frame(kind: WireMessage.node(environment: [], size: 0, store: "").frame.kind, payload: [255, 255, 255, 127])
        #expect(throws: WireFailure.self) { try WireMessage(list) }
        // Random payloads for every kind: an error or a message, never a trap.
        var generator = SystemRandomNumberGenerator()
        for kind in UInt16(0)...70 {
            for _ in 0..<200 {
                let count = Int.random(in: 0...40, using: &generator)
                let payload = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
                _ = try? WireMessage(Frame(kind: kind, payload: payload))
            }
        }
    }
}

@Suite struct HandshakeTests {
    private let secret = RandomBytes.make(32)
    private func nonce() -> [UInt8] { RandomBytes.make(Handshake.nonceBytes) }

    @Test func bothSidesAgree() throws {
        var agent = Handshake(.agent, secret: secret, nonce: nonce())
        var leader = Handshake(.leader, secret: secret, nonce: nonce())
        #expect(leader.opening.isEmpty)
        let challenge = try leader.receive(agent.opening).send
        #expect(!leader.isFinished)
        let answer = try agent.receive(challenge).send
        #expect(agent.isFinished)
        let (send, rest) = try leader.receive(answer + [1, 2])
        #expect(leader.isFinished && send.isEmpty && rest == [1, 2])
    }

    @Test func aWrongSecretIsRefusedByBoth() throws {
        let stranger = RandomBytes.make(32)
        var agent = Handshake(.agent, secret: stranger, nonce: nonce())
        var leader = Handshake(.leader, secret: secret, nonce: nonce())
        let challenge = try leader.receive(agent.opening).send
        #expect(throws: WireFailure.handshake) { try agent.receive(challenge) }
        // An agent that cannot check the leader cannot answer it either.
        #expect(throws: WireFailure.handshake) { try leader.receive([UInt8](repeating: 0, count: 32)) }
    }

    @Test func aLeadersAnswerPlayedBackIsNoProof() throws {
        let known = nonce()
        var leader = Handshake(.leader, secret: secret, nonce: known)
        let opening = Handshake(.agent, secret: secret, nonce: nonce()).opening
        let challenge = try leader.receive(opening).send
        #expect(throws: WireFailure.handshake) { try leader.receive(Array(challenge.suffix(32))) }
    }

    @Test func somethingElseIsTurnedAway() {
        var leader = Handshake(.leader, secret: secret, nonce: nonce())
        #expect(throws: WireFailure.handshake) {
            try leader.receive(Array("GET / HTTP/1.1\r\nHost: somewhere.example\r\n\r\n".utf8))
        }
    }

    @Test func hexadecimal() {
        #expect(RandomBytes.unhex(RandomBytes.hex([0, 255, 16])) == [0, 255, 16])
        #expect(RandomBytes.unhex("0g") == nil && RandomBytes.unhex("abc") == nil)
    }
}
