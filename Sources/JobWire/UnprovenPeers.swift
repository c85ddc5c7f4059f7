import Glibc
import LinuxSystem
import Processes

/// Connections to a job's leader whose other end has not proved yet that it knows the job's secret, and the
/// socket they come by.
///
/// A proof takes an agent milliseconds, while anybody may connect and say nothing. So these connections have a
/// budget of descriptors. When it is used up, who has taken no step of the handshake for a second makes room, the
/// longest silent first; the time it waited in the kernel's queue counts. While there is nobody such, the
/// listener rests: agents that come together are never sent away in the middle of their handshakes.
package final class UnprovenPeers {
    package typealias ID = Int

    package struct Peer {
        package let connection: Connection
        package let address: String
        fileprivate let since: Int
        fileprivate var lastStep: Int
        fileprivate var steps = 0
        fileprivate var isProven: Bool { steps == Handshake.steps }
    }

    package static let graceMilliseconds = 1_000
    /// From the connection to the first message.
    private static let limitMilliseconds = 10_000
    /// Connections taken in one turn of the loop: a flood of them keeps nobody else waiting.
    private static let acceptsPerTurn = 64

    package private(set) var peers: [ID: Peer] = [:]
    private var lastID = 0
    private let socket: OwnedDescriptor
    private var listener: RestingListener
    private let secret: [UInt8]
    private let fixedBudget: Int?

    /// - Parameter budget: for tests; else what this process's limit of open files leaves.
    package init(listener socket: consuming OwnedDescriptor, secret: [UInt8], budget: Int? = nil) {
        listener = RestingListener(socket.raw)
        self.socket = socket
        self.secret = secret
        fixedBudget = budget
    }

    /// What poll(2) is given for the socket.
    package var watched: Int32 { listener.watched }
    package func timeout(_ milliseconds: Int32) -> Int32 { listener.timeout(milliseconds) }

    /// Half of what is free, these connections' own included: the leader opens files, and starts programs.
    private var budget: Int { fixedBudget ?? min(1024, max(16, (DescriptorLimit.free + peers.count) / 2)) }

    /// Takes those who wait, within the budget.
    package func accept(now: Int = MonotonicTime.now()) {
        let budget = budget
        var unproven = peers.values.count(where: { !$0.isProven })
        for _ in 0..<min(Self.acceptsPerTurn, budget) {
            if unproven >= budget {
                guard isAwaited, sendAwayLongestSilent(now) else { return }
                unproven -= 1
            }
            guard let accepted = TCPSocket.accept(&listener) else {
                // The next turn finds its descriptor.
                if listener.isResting, sendAwayLongestSilent(now) { listener.wake() }
                return
            }
            add(accepted, now)
            unproven += 1
        }
    }

    /// Somebody is in the kernel's queue.
    private var isAwaited: Bool {
        var slot = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
        return poll(&slot, 1, 0) > 0
    }

    private func add(_ accepted: consuming TCPSocket.Accepted, _ now: Int) {
        let handshake = Handshake(.leader, secret: secret, nonce: RandomBytes.make(Handshake.nonceBytes))
        let (address, silence) = (accepted.address, accepted.silenceMilliseconds)
        lastID += 1
        peers[lastID] = Peer(
            connection: Connection(accepted.takeDescriptor(), handshake: handshake), address: address, since: now,
            lastStep: now - silence)
        // What it said while it waited is heard before anybody asks how long it has been silent.
        do throws(WireFailure) { _ = try hear(lastID) } catch { remove(lastID) }
    }

    /// False, and the listener rests, when nobody's grace is over.
    private func sendAwayLongestSilent(_ now: Int) -> Bool {
        guard let (id, peer) = peers.filter({ !$0.value.isProven }).min(by: { $0.value.lastStep < $1.value.lastStep })
        else { return false }
        let left = peer.lastStep + Self.graceMilliseconds - now
        if left > 0 { listener.rest(milliseconds: left) } else { peers[id] = nil }
        return left <= 0
    }

    /// What a peer says once it has proved itself.
    package func hear(_ id: ID) throws(WireFailure) -> [WireMessage] {
        guard let peer = peers[id] else { return [] }
        let messages = try peer.connection.receive()
        peer.connection.flush()
        let steps = peer.connection.handshakeSteps
        if steps > peer.steps {
            peers[id]?.steps = steps
            peers[id]?.lastStep = MonotonicTime.now()
        }
        if peer.connection.isClosed, messages.isEmpty { remove(id) }
        return messages
    }

    package func remove(_ id: ID) {
        if peers.removeValue(forKey: id) != nil { listener.wake() }
    }

    /// Those that never came to a message.
    package func removeOverdue(now: Int = MonotonicTime.now()) {
        for (id, peer) in peers where peer.connection.isClosed || now - peer.since > Self.limitMilliseconds {
            remove(id)
        }
    }
}
