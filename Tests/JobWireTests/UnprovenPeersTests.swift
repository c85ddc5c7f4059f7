import CLinux
import Foundation
import JobWire
import LinuxSystem
import Processes
import Testing

/// A leader's connections before they have proved themselves, over real sockets.
@Suite struct UnprovenPeersTests {
    private final class Fixture {
        let secret = RandomBytes.make(32)
        let port: UInt16
        let peers: UnprovenPeers
        var agents: [Connection] = []
        var strangers: [OwnedBox] = []
        var joined: Set<String> = []
        private var greeted: Set<Int> = []
        final class OwnedBox {
            let descriptor: OwnedDescriptor
            init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
        }

        init(budget: Int) throws {
            let bound = try TCPSocket.listen(port: 0)
            port = bound.port
            peers = UnprovenPeers(listener: bound.takeDescriptor(), secret: secret, budget: budget)
        }

        private func dial() throws -> OwnedDescriptor {
            try TCPSocket.connect("127.0.0.1:\(port)", milliseconds: 5000)
        }
        func addStrangers(_ count: Int) throws {
            for _ in 0..<count { strangers.append(OwnedBox(try dial())) }
        }
        func addAgents(_ count: Int) throws {
            for _ in 0..<count {
                let handshake = Handshake(.agent, secret: secret, nonce: RandomBytes.make(Handshake.nonceBytes))
                let agent = Connection(try dial(), handshake: handshake)
                agents.append(agent)
            }
        }

        /// The leader's loop, as `JobLeader` has it; returns how often it turned.
        func lead(seconds: Double, agentsSpeak: Bool = true) throws -> Int {
            let end = Date().addingTimeInterval(seconds)
            var turns = 0
            while Date() < end, joined.count < max(1, agents.count) {
                turns += 1
                var slots = [pollfd(fd: peers.watched, events: Int16(POLLIN), revents: 0)]
                let ids = Array(peers.peers.keys)
                for id in ids {
                    slots.append(
                        pollfd(fd: peers.peers[id]!.connection.descriptor.raw, events: Int16(POLLIN), revents: 0))
                }
                if poll(&slots, nfds_t(slots.count), peers.timeout(20)) > 0 {
                    if slots[0].revents != 0 { peers.accept() }
                    for (id, slot) in zip(ids, slots.dropFirst()) where slot.revents != 0 { try hear(id) }
                }
                peers.removeOverdue()
                for (number, agent) in agents.enumerated() where agentsSpeak && !greeted.contains(number) {
                    agent.flush()
                    _ = try agent.receive()
                    guard agent.isAuthenticated else { continue }
                    agent.send(.hello(node: "n\(number)", index: -1, key: []))
                    agent.flush()
                    greeted.insert(number)
                }
            }
            return turns
        }

        private func hear(_ id: UnprovenPeers.ID) throws {
            if case .hello(let name, _, _)? = try peers.hear(id).first {
                joined.insert(name)
                peers.remove(id)
            }
        }
    }

    /// Agents that come together, more than there is room for, with strangers before and between them: none is sent
    /// away in the middle of its handshake.
    @Test func agentsThatComeTogetherAllJoin() throws {
        let fixture = try Fixture(budget: 8)
        try fixture.addStrangers(40)
        try fixture.addAgents(24)
        try fixture.addStrangers(40)
        try fixture.addAgents(24)
        let start = Date()
        _ = try fixture.lead(seconds: 20)
        #expect(fixture.joined.count == 48)
        #expect(fixture.agents.allSatisfy { !$0.isClosed })
        // The strangers cost one grace: they have waited for the length of it when their turn comes.
        #expect(Date().timeIntervalSince(start) < 5)
    }

    /// Within its grace nobody is sent away, and the loop does not turn for those who wait.
    @Test func whileAllMayStayTheListenerRests() throws {
        let fixture = try Fixture(budget: 8)
        try fixture.addStrangers(30)
        let turns = try fixture.lead(seconds: 0.5)
        #expect(fixture.peers.peers.count == 8)
        #expect(turns < 50, "\(turns)")
        _ = try fixture.lead(seconds: 1)
        #expect(fixture.peers.peers.count == 8)
        try fixture.addAgents(1)
        _ = try fixture.lead(seconds: 5)
        #expect(fixture.joined.count == 1)
    }

    /// The first words of the handshake are nobody's secret: who only has those goes, too.
    @Test func openingWithoutAProofIsNoWayToStay() throws {
        let fixture = try Fixture(budget: 4)
        try fixture.addAgents(4)
        for agent in fixture.agents { agent.flush() }
        _ = try fixture.lead(seconds: 0.3, agentsSpeak: false)
        #expect(fixture.peers.peers.count == 4)
        let mute = fixture.agents
        fixture.agents = []
        try fixture.addAgents(4)
        _ = try fixture.lead(seconds: 5)
        #expect(fixture.joined.count == 4)
        withExtendedLifetime(mute) {}
    }
}

@Suite struct RestingListenerTests {
    /// A table of files that is full, as accept(2) says it; the connection goes on waiting.
    @Test func itRestsAndResumes() throws {
        let socket = try TCPSocket.listen(port: 0)
        let port = socket.port
        let descriptor = socket.takeDescriptor()
        let waiting = try TCPSocket.connect("127.0.0.1:\(port)", milliseconds: 5000)
        var listener = RestingListener(descriptor.raw)
        #expect(listener.watched == descriptor.raw && listener.timeout(-1) == -1 && listener.timeout(70) == 70)
        listener.rest(milliseconds: 300)
        #expect(listener.isResting && listener.watched == -1)
        #expect((1...300).contains(listener.timeout(-1)) && listener.timeout(7) == 7)
        var slot = pollfd(fd: listener.watched, events: Int16(POLLIN), revents: 0)
        #expect(poll(&slot, 1, listener.timeout(-1)) == 0)
        while listener.isResting { usleep(1000) }
        slot.fd = listener.watched
        #expect(poll(&slot, 1, 1000) == 1)
        let taken = listener.accept()
        #expect(taken >= 0)
        close(taken)
        listener.rest(milliseconds: 10_000)
        listener.wake()
        #expect(!listener.isResting && listener.watched == descriptor.raw)
        withExtendedLifetime(waiting) {}
    }
}
