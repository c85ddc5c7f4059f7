import CLinux
import Diagnostics
import FuzzerDriver
import Glibc
import JobModel
import JobWire
import LinuxSystem
import Orchestrator

/// What a job's leader reads: the first byte says of whom. A stranger, who does not know the secret; an agent or a
/// controller, which has proved that it does; or a process of an agent's node, whose frames the agent passes on.
private func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = bytes.first else { return 0 }
    let rest = Array(bytes.dropFirst())
    switch first & 3 {
    case 0: stranger(rest, pieces: Int(first >> 2) + 1)
    case 1: known(rest, pieces: Int(first >> 2) + 1)
    case 2: frames(rest, pieces: Int(first >> 2) + 1)
    default: frame(rest)
    }
    return 0
}

private let secret = [UInt8](repeating: 7, count: 32)
private let nonce = [UInt8](repeating: 9, count: Handshake.nonceBytes)

/// Bytes in parts of that many, as the network may deliver them.
private func split(_ bytes: [UInt8], _ size: Int) -> [[UInt8]] {
    stride(from: 0, to: bytes.count, by: size).map { Array(bytes[$0..<min($0 + size, bytes.count)]) }
}

/// Nobody is let in without the proof, however the bytes are cut.
private func stranger(_ bytes: [UInt8], pieces: Int) {
    var leader = Handshake(.leader, secret: secret, nonce: nonce)
    var answered = 0
    for piece in split(bytes, pieces) {
        guard let (send, rest) = try? leader.receive(piece) else { return }
        answered += send.count
        guard rest.isEmpty, !leader.isFinished else { fatalError("a stranger was let in") }
        guard leader.stepsTaken < Handshake.steps, answered <= 64 else {
            fatalError("more was said than the challenge")
        }
    }
}

/// A whole connection: the handshake, then whatever was written, read as the leader reads it.
private func known(_ bytes: [UInt8], pieces: Int) {
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0, &ends) == 0 else {
        fatalError("socketpair")
    }
    let leader = Connection(
        OwnedDescriptor(owning: ends[0]), handshake: Handshake(.leader, secret: secret, nonce: nonce))
    let agent = Connection(OwnedDescriptor(owning: ends[1]), handshake: Handshake(.agent, secret: secret, nonce: nonce))
    var job = JobUnderTest()
    do {
        agent.flush()
        _ = try leader.receive()
        leader.flush()
        _ = try agent.receive()
        agent.flush()
        guard agent.isAuthenticated else { fatalError("an agent was not let in") }
        // Their first frames may come with the proof.
        for piece in split(bytes, pieces * 64) {
            guard write(ends[1], piece, piece.count) == piece.count else { return }
            for message in try leader.receive() {
                guard leader.isAuthenticated else { fatalError("a frame was taken before the proof") }
                job.take(message)
            }
        }
        guard leader.isAuthenticated || bytes.isEmpty else { fatalError("an agent was not let in") }
    } catch {}
    withExtendedLifetime(agent) {}
}

/// What is left when the connection is no question: every frame, in whatever pieces.
private func frames(_ bytes: [UInt8], pieces: Int) {
    var whole = FrameDecoder()
    bytes.withUnsafeBytes { whole.add($0) }
    var cut = FrameDecoder()
    var found: [Frame] = []
    for piece in split(bytes, pieces) {
        piece.withUnsafeBytes { cut.add($0) }
        while let next = try? cut.next() { found.append(next) }
    }
    var job = JobUnderTest()
    var place = 0
    while let next = try? whole.next() {
        guard place < found.count, found[place] == next else { fatalError("frames depend on how they arrive") }
        place += 1
        if let message = decoded(next) { job.take(message) }
    }
    guard place == found.count else { fatalError("frames depend on how they arrive") }
}

/// Two bytes of kind, and all others its payload: no length has to be guessed.
private func frame(_ bytes: [UInt8]) {
    guard bytes.count >= 2 else { return }
    var job = JobUnderTest()
    let kind = UInt16(bytes[0] & 63) | UInt16(bytes[1] & 1) << 6
    if let message = decoded(Frame(kind: kind, channel: UInt32(bytes[1] >> 1), payload: Array(bytes.dropFirst(2)))) {
        job.take(message)
    }
}

/// What was understood is said again in the same way: an agent passes on what its node's processes say.
private func decoded(_ frame: Frame) -> WireMessage? {
    guard let message = try? WireMessage(frame) else { return nil }
    guard message.frame.payload.count <= Frame.payloadLimit * 2, let again = try? WireMessage(message.frame),
        again == message
    else { fatalError("said again it is something else: \(message)") }
    return message
}

/// A job of three ranks on two nodes, told what the leader tells its own (`JobLeader.take`).
private struct JobUnderTest {
    private var machine = JobStateMachine(
        .init(
            map: TaskMap(nodes: [.init(name: "n1", tasks: 2), .init(name: "n2", tasks: 1)]), hasLauncher: false,
            graceMilliseconds: 100, joinTimeoutMilliseconds: 1000), now: 0)
    private var now = 0
    private var ends = 0

    init() {
        for node in [0, 1] { tell(.agentJoined(node: node)) }
        for node in [0, 1] { tell(.agentReady(node: node)) }
    }

    private mutating func tell(_ event: JobStateMachine.Event) {
        now += 10
        for case .finish(let code) in machine.handle(event, now: now) {
            ends += 1
            guard ends == 1, (0...255).contains(code) else { fatalError("the job ended \(ends) times, with \(code)") }
        }
    }

    mutating func take(_ message: WireMessage) {
        switch message {
        case .rankStarted(let rank, _, _): tell(.rankStarted(rank: rank))
        case .rankExited(let rank, let status): tell(.rankExited(rank: rank, status))
        case .rankRefused(let rank, let errno, let reason):
            let diagnostic = Diagnostic(
                DiagnosticCode("command-not-found"), reason, reasons: [SyscallError("x", errno: Int32(errno)).reason])
            tell(.rankRefused(rank: rank, code: ExitCode.notFound, diagnostic))
        case .exited(_, let status): tell(.launcherExited(status))
        case .empty(let unkillable): tell(.agentEmpty(node: 1, unkillable: unkillable))
        case .rankUsage(_, let usage), .nodeUsage(let usage): add(usage)
        case .memoryKills(let kills):
            guard kills.limit <= ResourceUsage.limit, kills.peak <= ResourceUsage.limit else { fatalError("a limit") }
        case .control(let words):
            // As `trireme job cancel` says it.
            let text = words.map { String(decoding: $0, as: UTF8.self) }
            if text.first == "cancel", text.count > 1 { tell(.terminated(signal: Int32(text[1]) ?? SIGTERM)) }
        default: tell(.timePassed)
        }
    }

    /// As the job's summary adds them up.
    private var total = ResourceUsage()
    private mutating func add(_ usage: ResourceUsage) {
        guard usage.peakMemory <= ResourceUsage.limit else { fatalError("more memory than there can be") }
        total = total.adding(usage)
    }
}

/// SwiftPM links this as the program's main.
@_cdecl("LeaderFrameFuzzer_main")
public func run(
    _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
    var count = count
    var arguments = arguments
    return LLVMFuzzerRunDriver(&count, &arguments) { testOneInput($0, $1) }
}
