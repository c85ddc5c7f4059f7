import JobModel
import Orchestrator

import Diagnostics

/// A whole job in one value: the leader's state machine, agents as models of `NodeAgent`, and a network
/// between them that delays, cuts and loses. Everything random comes from one seed.
struct SimulatedJob {
    /// What went against the rules; empty is a pass.
    private(set) var violations: [String] = []
    private(set) var finalCode: Int32?
    let seed: UInt64

    private enum Happening {
        case toLeader(node: Int, JobStateMachine.Event)
        case toAgent(node: Int, Order)
        case agentArrives(node: Int)
        case prepared(node: Int, fails: Bool)
        case rankEnds(rank: Int, ExitStatus)
        case graceOver(node: Int)
        case agentDies(node: Int)
        case cut(node: Int)
        /// The leader's or the agent's heartbeat finds the other silent.
        case leaderMisses(node: Int)
        case agentMissesLeader(node: Int)
        case leaderDies
        case user(JobStateMachine.Event)
        case tick
    }
    private enum Order { case prepare, begin, stop(grace: Int) }

    /// A node as its agent sees it.
    private struct Node {
        var hasArrived = false
        var isDead = false
        var isCut = false
        var isStopping = false
        var hasEnded = false
        /// Its last word never comes, though it answers heartbeats: a process in an endless system call.
        var isStuck = false
        var running: Set<Int> = []
        /// The time of the last message each way: a connection keeps order.
        var lastToLeader = 0
        var lastToAgent = 0
    }

    private let map: TaskMap
    private let firstRank: [Int]
    private var machine: JobStateMachine
    private var nodes: [Node]
    private var queue = TimeQueue<Happening>()
    private var now = 0
    private var random: Generator
    private var leaderIsDead = false
    private var leaderDiedAt = 0
    private var finishedAt: Int?
    private var hasBegun = false
    private var readyDelivered: Set<Int> = []
    /// The code of the first event that should decide, in the order in which the leader heard.
    private var deciding: Int32?
    private let hasFaults: Bool

    static let silence = 15_000
    static let grace = 5_000
    static let joinTimeout = 120_000

    init(seed: UInt64, nodeCount: Int) {
        self.seed = seed
        random = Generator(state: seed)
        let perNode = Int.random(in: 1...4, using: &random)
        map = TaskMap(nodes: (0..<nodeCount).map { TaskMap.Node(name: "n\($0)", tasks: perNode) })
        firstRank = (0..<nodeCount).map { $0 * perNode }
        machine = JobStateMachine(
            .init(
                map: map, hasLauncher: false, graceMilliseconds: Self.grace, joinTimeoutMilliseconds: Self.joinTimeout),
            now: 0)
        nodes = Array(repeating: Node(), count: nodeCount)
        hasFaults = Int.random(in: 0..<4, using: &random) > 0
        scheduleWorld()
    }

    private mutating func scheduleWorld() {
        let never = hasFaults && chance(20)
        let victim = Int.random(in: 0..<nodes.count, using: &random)
        for node in nodes.indices where !(never && node == victim) {
            queue.add(.agentArrives(node: node), at: Int.random(in: 10...3000, using: &random))
        }
        queue.add(.tick, at: 500)
        guard hasFaults else { return }
        for _ in 0..<Int.random(in: 0...3, using: &random) {
            let node = Int.random(in: 0..<nodes.count, using: &random)
            let time = Int.random(in: 0...40_000, using: &random)
            queue.add(chance(2) ? .agentDies(node: node) : .cut(node: node), at: time)
        }
        if chance(5) { nodes[victim].isStuck = true }
        if chance(6) { queue.add(.leaderDies, at: Int.random(in: 0...40_000, using: &random)) }
        if chance(4) {
            let time = Int.random(in: 0...40_000, using: &random)
            queue.add(.user(.terminated(signal: 15)), at: time)
        }
        if chance(4) {
            let time = Int.random(in: 0...40_000, using: &random)
            for press in 0..<Int.random(in: 1...3, using: &random) {
                queue.add(.user(.interrupted), at: time + press * 500)
            }
        }
    }

    private mutating func chance(_ in: Int) -> Bool { Int.random(in: 0..<`in`, using: &random) == 0 }
    private mutating func delay() -> Int {
        chance(50) ? Int.random(in: 100...4000, using: &random) : Int.random(in: 0...30, using: &random)
    }

    /// Runs until nothing happens any more; an hour of the job's time at most.
    mutating func run() {
        while let (time, happening) = queue.next() {
            now = time
            if now > 3_600_000 {
                violate("the job did not end within an hour")
                return
            }
            happen(happening)
        }
        for (index, node) in nodes.enumerated() where !node.running.isEmpty {
            violate("ranks \(node.running.sorted()) of n\(index) outlive everything")
        }
        if !leaderIsDead, finalCode == nil { violate("the job never finished") }
        if let finalCode, let deciding, finalCode != deciding {
            violate("ended with \(finalCode), the first failure said \(deciding)")
        }
        if !hasFaults, !leaderIsDead, deciding == nil, finalCode != 0 {
            violate("a good job ended with \(finalCode ?? -1)")
        }
    }

    private mutating func violate(_ text: String) { violations.append("seed \(seed), \(now) ms: \(text)") }

    // MARK: The network

    private mutating func sendToLeader(_ node: Int, _ event: JobStateMachine.Event) {
        guard !nodes[node].isCut, !nodes[node].isDead else { return }
        let time = max(now + delay(), nodes[node].lastToLeader)
        nodes[node].lastToLeader = time
        queue.add(.toLeader(node: node, event), at: time)
    }

    private mutating func sendToAgent(_ node: Int, _ order: Order) {
        guard !nodes[node].isCut, !leaderIsDead else { return }
        let time = max(now + delay(), nodes[node].lastToAgent)
        nodes[node].lastToAgent = time
        queue.add(.toAgent(node: node, order), at: time)
    }

    // MARK: What happens

    private mutating func happen(_ happening: Happening) {
        switch happening {
        case .toLeader(let node, let event): if !leaderIsDead, !nodes[node].isCut { tell(event) }
        case .toAgent(let node, let order): if !nodes[node].isCut { obey(node, order) }
        case .agentArrives(let node):
            guard !nodes[node].isDead, !nodes[node].isCut, !leaderIsDead, machine.phase == .joining else { return }
            nodes[node].hasArrived = true
            sendToLeader(node, .agentJoined(node: node))
        case .prepared(let node, let fails):
            guard !nodes[node].isDead, !nodes[node].isStopping else { return }
            if fails {
                nodes[node].hasEnded = true
                let diagnostic = Diagnostic(DiagnosticCode("node-not-ready"), "n\(node)")
                sendToLeader(node, .agentFailed(node: node, diagnostic))
            } else {
                sendToLeader(node, .agentReady(node: node))
            }
        case .rankEnds(let rank, let status): rankEnds(rank, status)
        case .graceOver(let node): endNode(node)
        case .agentDies(let node): agentDies(node)
        case .cut(let node): cut(node)
        case .leaderMisses(let node): if !leaderIsDead { tell(.agentLost(node: node)) }
        case .agentMissesLeader(let node): stop(node, grace: Self.grace)
        case .leaderDies: leaderDies()
        case .user(let event): if !leaderIsDead, finishedAt == nil { tell(event) }
        case .tick:
            guard !leaderIsDead, finishedAt == nil else { return }
            tell(.timePassed)
            queue.add(.tick, at: now + 500)
        }
    }

    private mutating func tell(_ event: JobStateMachine.Event) {
        noteDeciding(event)
        let wasFinished = finishedAt != nil
        let effects = machine.handle(event, now: now)
        if wasFinished, !effects.isEmpty { violate("effects after the end: \(effects)") }
        for effect in effects { act(effect) }
    }

    /// An independent reading of "the first failure decides".
    private mutating func noteDeciding(_ event: JobStateMachine.Event) {
        guard deciding == nil, machine.phase == .joining || machine.phase == .running else { return }
        switch event {
        case .rankExited(_, let status) where !status.isSuccess: deciding = status.code
        case .agentFailed: deciding = 125
        // Before the job has begun, whoever speaks first within two seconds decides.
        case .agentLost(let node) where machine.phase == .running && !nodes[node].hasEnded: deciding = 125
        case .terminated(let signal): deciding = 128 + signal
        default: break
        }
        if case .agentReady(let node) = event { readyDelivered.insert(node) }
    }

    private mutating func act(_ effect: JobStateMachine.Effect) {
        switch effect {
        case .prepare: for node in nodes.indices { sendToAgent(node, .prepare) }
        case .begin:
            if readyDelivered.count != nodes.count {
                violate("begins with \(readyDelivered.count) of \(nodes.count) ready")
            }
            if hasBegun { violate("begins twice") }
            hasBegun = true
            for node in nodes.indices { sendToAgent(node, .begin) }
        case .stop(let grace):
            for node in nodes.indices where nodes[node].hasArrived { sendToAgent(node, .stop(grace: grace)) }
        case .finish(let code):
            if finalCode != nil { violate("finishes twice") }
            finalCode = code
            finishedAt = now
            // The leader's process ends: its connections close.
            for node in nodes.indices where nodes[node].hasArrived && !nodes[node].hasEnded && !nodes[node].isCut {
                queue.add(.agentMissesLeader(node: node), at: now + 10)
            }
        case .announce, .report, .showState, .endFanOut: break
        }
    }

    private mutating func obey(_ node: Int, _ order: Order) {
        guard nodes[node].hasArrived, !nodes[node].isDead, !nodes[node].hasEnded else { return }
        switch order {
        case .prepare:
            let fails = hasFaults && Int.random(in: 0..<(400 * nodes.count), using: &random) == 0
            queue.add(.prepared(node: node, fails: fails), at: now + Int.random(in: 1...200, using: &random))
        case .begin:
            guard !nodes[node].isStopping else { return }
            for rank in firstRank[node]..<(firstRank[node] + map.nodes[node].tasks) { start(rank, node) }
        case .stop(let grace): stop(node, grace: grace)
        }
    }

    private mutating func start(_ rank: Int, _ node: Int) {
        if !hasBegun { violate("rank \(rank) runs before all are ready") }
        nodes[node].running.insert(rank)
        sendToLeader(node, .rankStarted(rank: rank))
        let fails = hasFaults && Int.random(in: 0..<(2 * map.size), using: &random) == 0
        let status: ExitStatus =
            fails ? (chance(2) ? .exited(Int32.random(in: 1...123, using: &random)) : .signaled(11)) : .exited(0)
        queue.add(.rankEnds(rank: rank, status), at: now + Int.random(in: 1...30_000, using: &random))
    }

    private mutating func rankEnds(_ rank: Int, _ status: ExitStatus) {
        guard let place = map.place(of: rank), nodes[place.node].running.remove(rank) != nil else { return }
        sendToLeader(place.node, .rankExited(rank: rank, status))
        if nodes[place.node].isStopping, nodes[place.node].running.isEmpty { endNode(place.node) }
    }

    private mutating func stop(_ node: Int, grace: Int) {
        guard nodes[node].hasArrived, !nodes[node].isDead, !nodes[node].hasEnded else { return }
        nodes[node].isStopping = true
        if nodes[node].running.isEmpty { return endNode(node) }
        for rank in nodes[node].running where !chance(5) {
            queue.add(.rankEnds(rank: rank, .signaled(15)), at: now + Int.random(in: 1...100, using: &random))
        }
        queue.add(.graceOver(node: node), at: now + grace)
    }

    /// KILL to what is left, and the last word.
    private mutating func endNode(_ node: Int) {
        guard !nodes[node].hasEnded, !nodes[node].isDead else { return }
        for rank in nodes[node].running.sorted() { sendToLeader(node, .rankExited(rank: rank, .signaled(9))) }
        nodes[node].running = []
        nodes[node].hasEnded = true
        if !nodes[node].isStuck { sendToLeader(node, .agentEmpty(node: node, unkillable: 0)) }
    }

    /// Killed: its guard kills the ranks, its connection closes.
    private mutating func agentDies(_ node: Int) {
        guard nodes[node].hasArrived, !nodes[node].isDead, !nodes[node].hasEnded else { return }
        nodes[node].running = []
        if !nodes[node].isCut {
            queue.add(.toLeader(node: node, .agentLost(node: node)), at: max(now + delay(), nodes[node].lastToLeader))
        }
        nodes[node].isDead = true
    }

    private mutating func cut(_ node: Int) {
        guard !nodes[node].isCut else { return }
        nodes[node].isCut = true
        guard nodes[node].hasArrived, !nodes[node].isDead else { return }
        queue.add(.leaderMisses(node: node), at: now + Self.silence)
        queue.add(.agentMissesLeader(node: node), at: now + Self.silence)
    }

    private mutating func leaderDies() {
        guard finishedAt == nil else { return }
        leaderIsDead = true
        leaderDiedAt = now
        for node in nodes.indices where nodes[node].hasArrived && !nodes[node].isCut {
            queue.add(.agentMissesLeader(node: node), at: now + 10)
        }
    }
}

/// Happenings in the order of their times; those of one time in the order they were added.
struct TimeQueue<Element> {
    private var heap: [(time: Int, order: Int, element: Element)] = []
    private var count = 0

    mutating func add(_ element: Element, at time: Int) {
        count += 1
        heap.append((time, count, element))
        var child = heap.count - 1
        while child > 0, isBefore(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func next() -> (time: Int, element: Element)? {
        guard let first = heap.first else { return nil }
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && isBefore(child, least) {
                least = child
            }
            if least == parent { break }
            heap.swapAt(parent, least)
            parent = least
        }
        return (first.time, first.element)
    }

    private func isBefore(_ a: Int, _ b: Int) -> Bool { (heap[a].time, heap[a].order) < (heap[b].time, heap[b].order) }
}

/// SplitMix64: the same numbers from the same seed on every machine.
struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
