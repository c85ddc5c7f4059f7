/// The nodes a batch system gave us, and how many tasks it allows on each.
package struct Allocation: Equatable, Sendable {
    /// The batch system's name in its own spelling: `slurm`, `pbs`, `lsf`, `sge`, `condor`, `flux`, `ssh`, `local`.
    package var system: String
    package var jobID: String
    package var nodes: [Node]
    /// Which task of an array job this is.
    package var arrayTask: String?
    /// When the system will end it, seconds since 1970; nil when it does not say.
    package var endTime: Int?

    package init(system: String, jobID: String, nodes: [Node], arrayTask: String? = nil, endTime: Int? = nil) {
        self.system = system
        self.jobID = jobID
        self.nodes = nodes
        self.arrayTask = arrayTask
        self.endTime = endTime
    }

    package struct Node: Equatable, Sendable {
        package var name: String
        /// Tasks that may run here at once.
        package var slots: Int
        package init(name: String, slots: Int) {
            self.name = name
            self.slots = slots
        }
    }

    /// Whether `jobID` is a batch system's, and so tells this allocation from every other.
    package var hasJobID: Bool { system != "local" && system != "ssh" }

    package var slots: Int { nodes.reduce(0) { $0 + $1.slots } }
}

/// What a user of one batch system types when its nodes do not answer.
package struct SystemAdvice: Equatable, Sendable {
    package var whenUnreached: [String]
    package var whenLost: [String]

    package init(whenUnreached: [String] = [], whenLost: [String] = []) {
        self.whenUnreached = whenUnreached
        self.whenLost = whenLost
    }
}

/// Counts per node in Slurm's run-length notation: `2(x3),1` is 2,2,2,1.
/// Source: sbatch(1), SLURM_TASKS_PER_NODE.
package struct CountsPerNode: Equatable, Sendable {
    package var counts: [Int]

    /// Nil when the text is not in that notation or names more than `HostList.countLimit` nodes.
    package init?(parsing text: String) {
        counts = []
        for part in text.split(separator: ",") {
            guard let open = part.firstIndex(of: "(") else {
                guard let count = Self.count(part), counts.count < HostList.countLimit else { return nil }
                counts.append(count)
                continue
            }
            let repetition = part[open...]
            guard let count = Self.count(part[..<open]), repetition.hasPrefix("(x"), repetition.hasSuffix(")"),
                let times = Int(repetition.dropFirst(2).dropLast()), times > 0,
                times <= HostList.countLimit - counts.count
            else { return nil }
            counts += Array(repeating: count, count: times)
        }
        if counts.isEmpty { return nil }
    }

    /// At most nine digits, so that no sum over `HostList.countLimit` nodes overflows.
    private static func count(_ text: Substring) -> Int? {
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), text.utf8.count <= 9 else { return nil }
        return Int(text)
    }
}
