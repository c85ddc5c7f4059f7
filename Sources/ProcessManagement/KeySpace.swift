/// The keys the ranks of one node have put and those they may see: what PMI calls the key-value space.
///
/// A key put becomes visible to the others, on this node too, by the next barrier. Every node holds the
/// whole job's keys after one; the job's leader only joins what the nodes send it.
package struct KeySpace: Sendable {
    package struct Entry: Equatable, Sendable {
        package var key: [UInt8]
        package var value: [UInt8]
        package init(key: [UInt8], value: [UInt8]) {
            self.key = key
            self.value = value
        }
    }

    private var known: [[UInt8]: [UInt8]] = [:]
    /// Put here since the last barrier.
    private var fresh: [Entry] = []

    package init(_ entries: [Entry] = []) { learn(entries) }

    package mutating func put(_ entry: Entry) { fresh.append(entry) }

    /// Puts of this node that the others do not have.
    package mutating func takeFresh() -> [Entry] {
        defer { fresh = [] }
        return fresh
    }

    /// A later value of a key wins, as in every PMI server.
    package mutating func learn(_ entries: [Entry]) { for entry in entries { known[entry.key] = entry.value } }

    package func value(_ key: [UInt8]) -> [UInt8]? { known[key] }
}

/// What is the same for every rank of a job.
package struct PMIJob: Equatable, Sendable {
    /// Name of the key-value space.
    package var name: String
    package var size: Int
    /// Ranks per node, in the order of their ranks ("block").
    package var ranksPerNode: [Int]

    package init(name: String, size: Int, ranksPerNode: [Int]) {
        self.name = name
        self.size = size
        self.ranksPerNode = ranksPerNode
    }

    /// `PMI_process_mapping`: blocks of (first node, nodes, ranks on each). MPICH reads from it which ranks
    /// share memory (MPICH developer documentation, "PMI-2 wire protocol", process mapping).
    package var processMapping: String {
        var blocks: [(first: Int, nodes: Int, ranks: Int)] = []
        for (node, ranks) in ranksPerNode.enumerated() where ranks > 0 {
            if let last = blocks.last, last.ranks == ranks {
                blocks[blocks.count - 1].nodes += 1
            } else {
                blocks.append((node, 1, ranks))
            }
        }
        return "(vector," + blocks.map { "(\($0.first),\($0.nodes),\($0.ranks))" }.joined(separator: ",") + ")"
    }
}
