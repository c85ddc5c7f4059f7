import Diagnostics
import Glibc
import JobModel
import ResourceManagers
import VirtualCluster

/// Looks after the daemons of a virtual cluster while a command of its batch system waits for nodes. Slurm takes a
/// node for idle for half a minute after its slurmd has ended, and its commands wait for a controller for ever.
final class DaemonWatch {
    private let cluster: ClusterRecord
    private let resources: ResourceRequest
    private let isQuiet: Bool
    private var told: Set<String> = []
    private(set) var deadNodes: [String] = []

    init(_ cluster: ClusterRecord, resources: ResourceRequest, isQuiet: Bool) {
        self.cluster = cluster
        self.resources = resources
        self.isQuiet = isQuiet
    }

    /// Says which daemons have ended since the last look. Why a job could not start any more, if so.
    ///
    /// - Parameter isWaiting: the job has not begun yet.
    func look(isWaiting: Bool) -> Diagnostic? {
        let ended = ClusterCommand.registry.endedDaemons(cluster)
        let fresh = ended.filter { told.insert($0.text).inserted }
        guard !ended.isEmpty else { return nil }
        deadNodes = Array(Set(ended.map(\.node))).filter { $0 != "ctl" }.sorted()
        if !fresh.isEmpty, !isQuiet {
            Output.standard.line("trireme: cluster '\(cluster.name)': \(fresh.sentence)", to: .progress)
        }
        guard isWaiting, ended.contains(where: { $0.node == "ctl" }) || !fits else { return nil }
        return Diagnostic(
            .daemonEnded, "cluster '\(cluster.name)'",
            reasons: [ended.sentence, "the job would wait for nodes that it does not get"],
            remedies: [
                "trireme cluster logs \(cluster.name)",
                "trireme cluster delete \(cluster.name), then create it anew",
            ])
    }

    /// On the nodes whose daemons run.
    private var fits: Bool {
        let living = cluster.nodes.filter { $0.name != "ctl" && !deadNodes.contains($0.name) }
            .map { Allocation.Node(name: $0.name, slots: cluster.cpusPerNode) }
        return (try? TaskMap(placing: resources, on: Allocation(system: "slurm", jobID: "", nodes: living))) != nil
    }
}
