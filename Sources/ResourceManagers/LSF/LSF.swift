import Diagnostics
import JobModel

/// IBM Spectrum LSF and OpenLava.
///
/// LSB_MCPU_HOSTS is `HOST SLOTS HOST SLOTS …` ("LSF configuration reference", environment variables).
/// `blaunch HOST COMMAND` starts a task of the job there with the caller's environment; OpenLava, which
/// has no blaunch, has `lsrun -m HOST COMMAND`.
package enum LSF: ResourceManager {
    package static let name = "lsf"

    package static func allocation(in surroundings: Surroundings) throws(Diagnostic) -> Allocation? {
        guard let id = surroundings.environment("LSB_JOBID") else { return nil }
        var hosts = HostCounts()
        if let text = surroundings.environment("LSB_MCPU_HOSTS") {
            let words = text.split(whereSeparator: \.isWhitespace)
            guard words.count % 2 == 0 else {
                throw .unreadable("LSB_MCPU_HOSTS='\(text)'", "not pairs of host and count", remedy: "bjobs -l \(id)")
            }
            for index in stride(from: 0, to: words.count, by: 2) {
                guard let slots = Int(words[index + 1]), (1...1_000_000).contains(slots) else {
                    throw .unreadable(
                        "LSB_MCPU_HOSTS='\(text)'", "'\(words[index + 1])' is not a count", remedy: "bjobs -l \(id)")
                }
                hosts.add(String(words[index]), slots: slots)
            }
        } else if let text = surroundings.environment("LSB_DJOB_HOSTFILE").flatMap({ surroundings.file($0) })
            ?? surroundings.environment("LSB_HOSTS")
        {
            for name in text.split(whereSeparator: \.isWhitespace) { hosts.add(String(name)) }
        }
        guard !hosts.nodes.isEmpty else { return nil }
        // 0 outside arrays.
        let task = surroundings.environment("LSB_JOBINDEX").flatMap { $0 == "0" ? nil : $0 }
        return Allocation(system: name, jobID: id, nodes: hosts.nodes, arrayTask: task)
    }

    package static func request(nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings) -> String? {
        "bsub -n \(tasks ?? nodes ?? 1)" + (tasks == nil ? " -R 'span[ptile=1]'" : "") + " \(command)"
    }

    package static func advice(for allocation: Allocation) -> SystemAdvice {
        let node = allocation.nodes.last?.name ?? "HOST"
        return SystemAdvice(
            whenUnreached: ["blaunch \(node) hostname"],
            whenLost: ["bjobs -l \(allocation.jobID) and bhosts show whether the node or the job was taken away"])
    }

    package static func fanOut(_ agent: AgentStart, in surroundings: Surroundings) -> [FanOutCommand] {
        // LSF sets LSF_VERSION in jobs; OpenLava, forked from LSF 4.2, does not.
        let isOpenLava =
            surroundings.environment("LSF_VERSION") == nil && surroundings.environment("LSB_DJOB_NUMPROC") == nil
        return agent.eachNode({ isOpenLava ? ["lsrun", "-m", $0] : ["blaunch", $0] }, secret: .environment)
    }
}
