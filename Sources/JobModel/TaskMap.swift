/// Which rank runs on which node: ranks are numbered node by node ("block", as srun and mpirun do).
package struct TaskMap: Equatable, Sendable {
    package struct Node: Equatable, Sendable {
        package var name: String
        package var tasks: Int
        package init(name: String, tasks: Int) {
            self.name = name
            self.tasks = tasks
        }
    }

    /// Those without ranks, which stand ready for what ranks start there themselves, are the last.
    package var nodes: [Node]
    package var busyNodes: Int { nodes.count { $0.tasks > 0 } }
    package var size: Int { nodes.reduce(0) { $0 + $1.tasks } }

    package init(nodes: [Node]) { self.nodes = nodes }

    /// Why a request does not fit its allocation.
    package enum Failure: Error, Equatable, Sendable {
        case notPositive(option: String, value: Int)
        case tooFewNodes(wanted: Int, available: Int)
        case tooFewSlots(wanted: Int, available: Int, nodes: Int)
        case contradiction(tasks: Int, nodes: Int, tasksPerNode: Int)
    }

    /// Places `request` on `allocation`.
    ///
    /// With a node count, tasks are spread evenly (earlier nodes get the remainder, no node
    /// more than its slots), the last ones none when there are more nodes than tasks; without one, nodes are
    /// filled in order.
    package init(placing request: ResourceRequest, on allocation: Allocation) throws(Failure) {
        for (option, value) in [
            ("--ntasks", request.tasks), ("--nodes", request.nodes), ("--ntasks-per-node", request.tasksPerNode),
        ] {
            if let value, value < 1 { throw .notPositive(option: option, value: value) }
        }
        let available = allocation.nodes
        if let nodes = request.nodes, nodes > available.count {
            throw .tooFewNodes(wanted: nodes, available: available.count)
        }
        if let perNode = request.tasksPerNode {
            self.init(nodes: try Self.exact(perNode, request, available))
            return
        }
        guard let nodeCount = request.nodes else {
            let tasks = request.tasks ?? allocation.slots
            self.init(nodes: try Self.filled(tasks, available))
            return
        }
        let tasks = request.tasks ?? nodeCount
        self.init(nodes: try Self.spread(tasks, Array(available.prefix(nodeCount))))
    }

    private static func exact(_ perNode: Int, _ request: ResourceRequest, _ available: [Allocation.Node])
        throws(Failure) -> [Node]
    {
        let needed = request.tasks.map { $0 / perNode + ($0 % perNode > 0 ? 1 : 0) }
        let count = request.nodes ?? needed ?? available.count
        guard count <= available.count else { throw .tooFewNodes(wanted: count, available: available.count) }
        // A product beyond Int is more than any allocation has; it is refused below for its slots.
        let (product, isTooLarge) = perNode.multipliedReportingOverflow(by: count)
        let most = isTooLarge ? Int.max : product
        let tasks = request.tasks ?? most
        guard tasks <= most else { throw .contradiction(tasks: tasks, nodes: count, tasksPerNode: perNode) }
        var rest = tasks
        var nodes: [Node] = []
        for node in available.prefix(count) {
            let here = min(perNode, rest)
            guard here <= node.slots else {
                throw .tooFewSlots(
                    wanted: tasks, available: available.prefix(count).reduce(0) { $0 + $1.slots }, nodes: count)
            }
            if here > 0 { nodes.append(Node(name: node.name, tasks: here)) }
            rest -= here
        }
        return nodes
    }

    private static func filled(_ tasks: Int, _ available: [Allocation.Node]) throws(Failure) -> [Node] {
        let slots = available.reduce(0) { $0 + $1.slots }
        guard tasks <= slots else { throw .tooFewSlots(wanted: tasks, available: slots, nodes: available.count) }
        var rest = tasks
        var nodes: [Node] = []
        for node in available where rest > 0 {
            let here = min(node.slots, rest)
            if here > 0 { nodes.append(Node(name: node.name, tasks: here)) }
            rest -= here
        }
        return nodes
    }

    private static func spread(_ tasks: Int, _ chosen: [Allocation.Node]) throws(Failure) -> [Node] {
        let slots = chosen.reduce(0) { $0 + $1.slots }
        guard tasks <= slots else { throw .tooFewSlots(wanted: tasks, available: slots, nodes: chosen.count) }
        var counts = [Int](repeating: 0, count: chosen.count)
        var rest = tasks
        while rest > 0 {
            // One round gives every node with room its even share, so it ends in few rounds.
            let open = chosen.indices.filter { counts[$0] < chosen[$0].slots }
            let share = max(1, rest / open.count)
            for index in open where rest > 0 {
                let here = min(share, chosen[index].slots - counts[index], rest)
                counts[index] += here
                rest -= here
            }
        }
        // A node without slots is none of the job's.
        return zip(chosen, counts).filter { $1 > 0 || $0.slots > 0 && tasks < chosen.count }
            .map { Node(name: $0.name, tasks: $1) }
    }

    /// A rank's place.
    package struct Place: Equatable, Sendable {
        package var node: Int
        package var localRank: Int
    }

    /// Nil for a rank outside the job.
    package func place(of rank: Int) -> Place? {
        guard rank >= 0 else { return nil }
        var first = 0
        for (index, node) in nodes.enumerated() {
            if rank < first + node.tasks { return Place(node: index, localRank: rank - first) }
            first += node.tasks
        }
        return nil
    }
}
