import CLinux
import Crypto
import Glibc

/// Proves to both ends of a new connection that the other knows the job's secret,
/// without sending it: a challenge each way, answered by HMAC-SHA256 (RFC 2104).
///
/// The agent opens:   A→L  magic (8) · nonce a (32)
///                    L→A  nonce b (32) · HMAC(secret, "leader" · a · b)
///                    A→L  HMAC(secret, "agent" · a · b)
///
/// The words in front keep one side's answer from being played back as the other's.
/// What follows is not encrypted: like MPI's own links it trusts the network to
/// carry packets unchanged between the nodes of an allocation.
package struct Handshake: Sendable {
    package enum Side: Sendable { case agent, leader }
    private enum Step: Sendable { case opening, answering, finished }

    private let side: Side
    private let secret: SymmetricKey
    private let own: [UInt8]
    private var theirs: [UInt8] = []
    private var step = Step.opening
    private var buffer: [UInt8] = []

    private static let magic = Array("TRIREME1".utf8)
    package static let nonceBytes = 32
    private static let proofBytes = 32

    package init(_ side: Side, secret: [UInt8], nonce: [UInt8]) {
        precondition(nonce.count == Self.nonceBytes)
        self.side = side
        self.secret = SymmetricKey(data: secret)
        own = nonce
    }

    package var isFinished: Bool { step == .finished }

    /// How many of its `steps` the other end has made us take.
    package var stepsTaken: Int {
        switch step {
        case .opening: 0
        case .answering: 1
        case .finished: Self.steps
        }
    }
    package static let steps = 2

    /// What the agent sends first; the leader sends nothing before it was spoken to.
    package var opening: [UInt8] { side == .agent ? Self.magic + own : [] }

    /// Takes received bytes; returns what to send. Bytes beyond the handshake are left in `rest`.
    package mutating func receive(_ bytes: [UInt8]) throws(WireFailure) -> (send: [UInt8], rest: [UInt8]) {
        buffer += bytes
        var send: [UInt8] = []
        while step != .finished {
            guard let wanted = taken(bytesWanted) else { return (send, []) }
            switch (side, step) {
            case (.leader, .opening):
                guard Array(wanted.prefix(8)) == Self.magic else { throw .handshake }
                theirs = Array(wanted.dropFirst(8))
                send += own + proof(of: .leader)
                step = .answering
            case (.leader, _):
                guard verify(wanted, .agent) else { throw .handshake }
                step = .finished
            case (.agent, _):
                theirs = Array(wanted.prefix(Self.nonceBytes))
                guard verify(Array(wanted.dropFirst(Self.nonceBytes)), .leader) else { throw .handshake }
                send += proof(of: .agent)
                step = .finished
            }
        }
        let rest = buffer
        buffer = []
        return (send, rest)
    }

    private var bytesWanted: Int {
        switch (side, step) {
        case (.leader, .opening): Self.magic.count + Self.nonceBytes
        case (.leader, _): Self.proofBytes
        case (.agent, _): Self.nonceBytes + Self.proofBytes
        }
    }

    private mutating func taken(_ count: Int) -> [UInt8]? {
        guard buffer.count >= count else { return nil }
        let taken = Array(buffer.prefix(count))
        buffer.removeFirst(count)
        return taken
    }

    private func transcript(_ prover: Side) -> [UInt8] {
        let (agentNonce, leaderNonce) = side == .agent ? (own, theirs) : (theirs, own)
        return Array((prover == .agent ? "agent" : "leader").utf8) + agentNonce + leaderNonce
    }
    private func proof(of prover: Side) -> [UInt8] {
        Array(HMAC<SHA256>.authenticationCode(for: transcript(prover), using: secret))
    }
    /// In constant time (swift-crypto compares authentication codes so).
    private func verify(_ code: [UInt8], _ prover: Side) -> Bool {
        HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: transcript(prover), using: secret)
    }
}

/// A node's key in one job: made by its agent when it starts, gone with it, never written anywhere.
///
/// The agent proves that it belongs to the job by the handshake; its key then tells the nodes apart. The leader
/// publishes the public half (`/JOB/NODE/PUBKEY`) and calls a node ready only on its signature, so what the
/// store says of a node is what that node's agent said.
package struct NodeIdentity: Sendable {
    private let key = Curve25519.Signing.PrivateKey()

    package init() {}

    /// Ed25519 (RFC 8032), 32 bytes.
    package var publicKey: [UInt8] { Array(key.publicKey.rawRepresentation) }

    /// What an agent signs once its container stands. `key` is the job's own random name.
    package static func readiness(key: String, node: Int) -> [UInt8] { Array("trireme ready \(key) \(node)".utf8) }

    /// Empty when the system has no random numbers to sign with; no such signature is valid.
    package func signature(of statement: [UInt8]) -> [UInt8] {
        (try? key.signature(for: statement)).map(Array.init) ?? []
    }

    package static func isValid(_ signature: [UInt8], of statement: [UInt8], by publicKey: [UInt8]) -> Bool {
        guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: publicKey) else { return false }
        return key.isValidSignature(signature, for: statement)
    }
}
