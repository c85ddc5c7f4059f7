import Diagnostics
import JobModel

/// Flux. A batch job or `flux alloc` is an instance of its own, whose nodes and cores
/// `flux resource list` tells (flux-resource(1)); `flux exec` starts one process per broker, which is one
/// per node, and carries standard input (flux-exec(1)).
package enum Flux: ResourceManager {
    package static let name = "flux"

    package static func allocation(in surroundings: Surroundings) throws(Diagnostic) -> Allocation? {
        guard surroundings.environment("FLUX_URI") != nil else { return nil }
        // A login shell of a system instance has FLUX_URI too, but stands in no allocation of its own: there
        // the instance has no parent and its level is 0 (flux-getattr(1), instance-level).
        guard let level = surroundings.output(["flux", "getattr", "instance-level"]).flatMap({ number($0) }), level > 0
        else { return nil }
        let id = surroundings.output(["flux", "getattr", "jobid"]).map(trimmed) ?? "flux"
        let listing = [
            "flux", "resource", "list", "--states=all", "--no-header", "--format={nodelist} {nnodes} {ncores}",
        ]
        guard let text = surroundings.output(listing) else {
            throw .unreadable("flux resource list", "failed", remedy: listing.joined(separator: " "))
        }
        var nodes: [Allocation.Node] = []
        // A line per state of the resources: free, allocated, down.
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard words.count == 3 else { continue }
            guard let names = (try? HostList(parsing: String(words[0])))?.names, let count = Int(words[1]),
                let cores = Int(words[2]), count == names.count, count > 0, cores >= count
            else { throw .unreadable("flux resource list", "'\(line)' makes no sense", remedy: "flux resource list") }
            nodes += names.map { Allocation.Node(name: $0, slots: cores / count) }
        }
        guard !nodes.isEmpty else {
            throw .unreadable("flux resource list", "names no node", remedy: "flux resource list")
        }
        return Allocation(system: name, jobID: id, nodes: nodes)
    }

    package static func request(nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings) -> String? {
        "flux alloc" + (nodes.map { " -N \($0)" } ?? "") + (tasks.map { " -n \($0)" } ?? "") + " \(command)"
    }

    package static func advice(for allocation: Allocation) -> SystemAdvice {
        SystemAdvice(
            whenUnreached: ["flux exec hostname"],
            whenLost: ["flux jobs -a and flux resource list show whether the node or the job was taken away"])
    }

    /// Brokers are numbered as the instance's host list is; the agents say their names, so the order is no matter.
    package static func fanOut(_ agent: AgentStart, in surroundings: Surroundings) -> [FanOutCommand] {
        let ranks = surroundings.output(["flux", "getattr", "hostlist"]).flatMap { try? HostList(parsing: trimmed($0)) }
        let wanted = ranks.map { list in
            agent.nodes.compactMap { node in list.names.firstIndex(of: node) }.map(String.init).joined(separator: ",")
        }
        return [
            FanOutCommand(
                words: ["flux", "exec", "--rank=\(wanted ?? "all")"] + agent.words(for: -1), secret: .input)
        ]
    }

    private static func trimmed(_ text: String) -> String {
        text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }
    private static func number(_ text: String) -> Int? { Int(trimmed(text)) }
}
