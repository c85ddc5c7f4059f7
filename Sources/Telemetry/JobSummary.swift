import JobModel

/// A job as its record tells it up to now.
package struct JobSummary: Encodable, Sendable {
    package enum State: String, Codable, Sendable {
        case joining, running, suspended, ending, ended
        /// The leader is gone without a last word.
        case lost
    }
    package struct Rank: Encodable, Equatable, Sendable {
        package var rank: Int
        package var node: String
        package var state = "waiting"
        package var exitCode: Int32?
        package var signal: Int32?
        package var started: String?
        package var ended: String?
        package var usage: ResourceUsage?
        enum CodingKeys: String, CodingKey {
            case rank, node, state, signal, started, ended, usage
            case exitCode = "exit_code"
        }
    }
    package struct Node: Encodable, Equatable, Sendable {
        package var name: String
        package var address: String?
        package var state = "waiting"
        package var ranks: Int
        package var isLeader: Bool
        /// Of all its processes together, where a control group counted it.
        package var usage: ResourceUsage?
        enum CodingKeys: String, CodingKey {
            case name, address, state, ranks, usage
            case isLeader = "is_leader"
        }
    }
    /// When the job came into a state, seconds since its begin.
    package struct Phase: Encodable, Equatable, Sendable {
        package var name: String
        package var time: String
        package var seconds: Double
    }

    package var facts: JobFacts
    package var state = State.joining
    package var started: String
    package var ended: String?
    package var seconds = 0.0
    package var exitCode: Int32?
    package var nodes: [Node]
    package var ranks: [Rank]
    package var phases: [Phase] = []
    /// What the job said about itself, the first cause first.
    package var messages: [String] = []

    enum CodingKeys: String, CodingKey {
        case state, started, ended, seconds, nodes, ranks, phases, messages
        case facts = "job"
        case exitCode = "exit_code"
    }

    /// Nil without the event a record begins with.
    package init?(_ events: [JobEvent]) {
        guard let first = events.first, let facts = first.job else { return nil }
        self.facts = facts
        started = first.time
        nodes = facts.nodes.enumerated().map { Node(name: $1.name, ranks: $1.ranks, isLeader: $0 == 0) }
        ranks = (0..<facts.size).map { Rank(rank: $0, node: facts.node(of: $0) ?? "") }
        for event in events { take(event) }
    }

    private static let phaseEvents: [JobEvent.Kind] = [
        .allocationRead, .imageChecked, .agentsStarted, .rendezvousComplete, .applicationStarted, .stopping,
        .teardownDone, .jobEnded,
    ]

    private mutating func take(_ event: JobEvent) {
        seconds = event.seconds
        if Self.phaseEvents.contains(event.event) {
            phases.append(Phase(name: event.event.rawValue, time: event.time, seconds: event.seconds))
        }
        switch event.event {
        case .rendezvousComplete: state = .running
        case .suspended: if state == .running { state = .suspended }
        case .resumed: if state == .suspended { state = .running }
        case .stopping: state = .ending
        case .message, .diagnostic: if let text = event.text { messages.append(text) }
        case .jobEnded:
            state = .ended
            ended = event.time
            exitCode = event.exitCode
        default:
            takeNode(event)
            takeRank(event)
        }
    }

    private mutating func takeNode(_ event: JobEvent) {
        guard let name = event.node, let index = nodes.firstIndex(where: { $0.name == name }) else { return }
        switch event.event {
        case .nodeJoined:
            nodes[index].state = "joined"
            nodes[index].address = event.text
        case .containerStarted: nodes[index].state = "ready"
        // Records of earlier versions tell of an agent's last word and then of its connection's end.
        case .nodeLost: if nodes[index].state != "empty", nodes[index].state != "failed" { nodes[index].state = "lost" }
        case .nodeUsage: nodes[index].usage = event.usage
        case .nodeFailed: nodes[index].state = "failed"
        case .nodeEmpty: if nodes[index].state != "lost" { nodes[index].state = "empty" }
        default: break
        }
    }

    private mutating func takeRank(_ event: JobEvent) {
        guard let rank = event.rank, ranks.indices.contains(rank) else { return }
        switch event.event {
        case .rankStarted:
            ranks[rank].state = "running"
            ranks[rank].started = event.time
        case .rankUsage:
            if let usage = event.usage { ranks[rank].usage = usage.atLeast(ranks[rank].usage ?? ResourceUsage()) }
        case .rankExited:
            ranks[rank].state = "ended"
            ranks[rank].ended = event.time
            ranks[rank].exitCode = event.exitCode
            ranks[rank].signal = event.signal
        default: break
        }
    }

    package var total: ResourceUsage {
        ranks.compactMap(\.usage).reduce(ResourceUsage()) { $0.adding($1) }
    }
}
