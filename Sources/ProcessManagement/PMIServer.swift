/// The process manager of one node's ranks: PMI-1 and PMI-2, each rank in the version it asks for.
///
/// A wire engine: bytes of a rank's socket in, effects out. It owns no socket and knows no other node;
/// when all its ranks wait in a barrier it asks for a fence, and goes on when told that every node has.
package struct PMIServer: Sendable {
    package enum Effect: Equatable, Sendable {
        /// Bytes for a rank's socket.
        case send(rank: Int, [UInt8])
        /// Every rank of this node waits: the keys they put since the last time.
        case fence([KeySpace.Entry])
        /// A rank asked for the end of the job.
        case abort(rank: Int, code: Int, message: String)
        /// A rank's bytes make no sense; nothing more is taken from it.
        case refuse(rank: Int, reason: String)
    }

    private let job: PMIJob
    private var keys: KeySpace
    private var ranks: [Int: PMIConversation]
    private var waiting: Set<Int> = []
    private var gone: Set<Int> = []
    /// Attributes of the node (PMI-2), and who waits for one.
    private var attributes: [[UInt8]: [UInt8]] = [:]
    private var awaited: [(rank: Int, key: [UInt8], thread: [UInt8]?)] = []
    private var isFencing = false

    /// - Parameter localRanks: the ranks of this node; each has one socket.
    package init(job: PMIJob, localRanks: [Int]) {
        self.job = job
        keys = KeySpace([
            KeySpace.Entry(key: Array("PMI_process_mapping".utf8), value: Array(job.processMapping.utf8))
        ])
        ranks = Dictionary(uniqueKeysWithValues: localRanks.map { ($0, PMIConversation()) })
    }

    package mutating func receive(_ bytes: [UInt8], from rank: Int) -> [Effect] {
        guard ranks[rank] != nil else { return [] }
        var effects: [Effect] = []
        do throws(PMIConversation.Fault) {
            for request in try ranks[rank]!.receive(bytes) { effects += handle(request, of: rank) }
        } catch {
            ranks[rank] = nil
            effects.append(.refuse(rank: rank, reason: error.reason))
        }
        return effects
    }

    /// The rank's process has ended. One that left without a word in the middle of a job keeps its barrier
    /// closed, which is right: the job is then over for another reason.
    package mutating func ended(_ rank: Int) { ranks[rank] = nil }

    /// Every node has fenced; `entries` are the keys of all of them.
    package mutating func fenceDone(_ entries: [KeySpace.Entry]) -> [Effect] {
        keys.learn(entries)
        isFencing = false
        let released = waiting.sorted()
        waiting = []
        return released.compactMap { rank in
            ranks[rank]?.barrierLeft().map { .send(rank: rank, $0) }
        }
    }

    private mutating func handle(_ request: PMIRequest, of rank: Int) -> [Effect] {
        func answer(_ reply: PMIReply) -> [Effect] {
            ranks[rank]?.encode(reply).map { [.send(rank: rank, $0)] } ?? []
        }
        switch request.verb {
        case .greet: return answer(.greeting)
        case .initialize: return answer(.initialized(rank: rank, job: job, request))
        case .fact(let name): return answer(.fact(name, job: job, request))
        case .put(let entry):
            keys.put(entry)
            return answer(.stored(request))
        case .get(let key): return answer(.value(keys.value(key), request))
        case .barrier:
            ranks[rank]?.enterBarrier(request)
            waiting.insert(rank)
            return fenceIfComplete()
        case .putNodeAttribute(let entry):
            attributes[entry.key] = entry.value
            let due = awaited.filter { $0.key == entry.key }
            awaited.removeAll { $0.key == entry.key }
            return answer(.stored(request))
                + due.compactMap { waiter in
                    let asked = PMIRequest(verb: .getNodeAttribute(waiter.key, waits: true), thread: waiter.thread)
                    return ranks[waiter.rank]?.encode(.value(entry.value, asked)).map {
                        .send(rank: waiter.rank, $0)
                    }
                }
        case .getNodeAttribute(let key, let waits):
            if attributes[key] == nil, waits {
                awaited.append((rank, key, request.thread))
                return []
            }
            return answer(.value(attributes[key], request))
        case .getJobAttribute(let key):
            let value = key == Array("universeSize".utf8) ? Array("\(job.size)".utf8) : keys.value(key)
            return answer(.value(value, request))
        case .unsupported(let what): return answer(.unsupported(what, request))
        case .finalize: return answer(.finalized(request))
        case .abort(let code, let message): return [.abort(rank: rank, code: code, message: message)]
        }
    }

    private mutating func fenceIfComplete() -> [Effect] {
        guard !isFencing, waiting.count == ranks.count else { return [] }
        isFencing = true
        return [.fence(keys.takeFresh())]
    }
}

/// What a rank asked, in either version.
package struct PMIRequest: Equatable, Sendable {
    package enum Verb: Equatable, Sendable {
        case greet
        /// PMI-2's second greeting.
        case initialize
        /// PMI-1 asks for single facts, PMI-2 for the job's name.
        case fact(Fact)
        case put(KeySpace.Entry)
        case get([UInt8])
        case barrier
        case putNodeAttribute(KeySpace.Entry)
        case getNodeAttribute([UInt8], waits: Bool)
        case getJobAttribute([UInt8])
        case unsupported(String)
        case finalize
        case abort(code: Int, message: String)
    }
    package enum Fact: String, Equatable, Sendable { case maxima, universeSize, applicationNumber, name }

    package var verb: Verb
    /// PMI-2: comes back in the answer, so that threads of a rank find theirs.
    package var thread: [UInt8]?
}

/// An answer before it has a version's spelling.
package enum PMIReply: Equatable, Sendable {
    case greeting
    case initialized(rank: Int, job: PMIJob, PMIRequest)
    case fact(PMIRequest.Fact, job: PMIJob, PMIRequest)
    case stored(PMIRequest)
    case value([UInt8]?, PMIRequest)
    case unsupported(String, PMIRequest)
    case finalized(PMIRequest)
}
