import Diagnostics
import JobModel

/// Plain machines named by the user in a host file, reached by ssh.
package enum PlainHosts: ResourceManager {
    package static let name = "ssh"

    /// Without a host file there is none.
    package static func allocation(in surroundings: Surroundings) throws(Diagnostic) -> Allocation? { nil }

    /// Reads a host file: OpenMPI's (`host slots=4`), MPICH's (`host:4`), or a host per line, repeated per slot;
    /// `#` begins a comment.
    ///
    /// - Parameter path: for messages.
    package static func allocation(hostFile text: String, path: String) throws(Diagnostic) -> Allocation {
        var hosts = HostCounts()
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace)
            guard let first = words.first else { continue }
            var slots = 1
            var name = first
            func refuse() -> Diagnostic {
                Diagnostic(
                    DiagnosticCode("hostfile-unreadable"), "\(path):\(index + 1)",
                    reasons: ["'\(line)' is none of HOST, HOST:SLOTS, HOST slots=SLOTS"])
            }
            // An IPv6 address has several colons; slots come after the only one.
            if first.filter({ $0 == ":" }).count == 1, let colon = first.firstIndex(of: ":") {
                guard let count = Int(first[first.index(after: colon)...]), (1...1_000_000).contains(count) else {
                    throw refuse()
                }
                slots = count
                name = first[..<colon]
            }
            for word in words.dropFirst() {
                if word.hasPrefix("max_slots=") || word.hasPrefix("max-slots=") { continue }
                guard word.hasPrefix("slots="), let count = Int(word.dropFirst(6)), (1...1_000_000).contains(count)
                else { throw refuse() }
                slots = count
            }
            // ssh takes a word with a leading dash for an option.
            guard !name.isEmpty, !name.hasPrefix("-") else { throw refuse() }
            hosts.add(String(name), slots: slots)
        }
        guard !hosts.nodes.isEmpty else {
            throw Diagnostic(DiagnosticCode("hostfile-unreadable"), path, reasons: ["names no host"])
        }
        return Allocation(system: name, jobID: "hosts", nodes: hosts.nodes)
    }

    package static func request(nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings) -> String? {
        "more lines, or larger SLOTS, in the file of --hostfile"
    }

    package static func advice(for allocation: Allocation) -> SystemAdvice {
        let node = allocation.nodes.last?.name ?? "HOST"
        return SystemAdvice(
            whenUnreached: ["ssh -o BatchMode=yes \(node) hostname"],
            whenLost: ["ssh \(node) uptime shows whether the node is up"])
    }

    /// No password can be asked for: the agents' streams are not a terminal. Names and arguments pass through
    /// the remote shell, so the words are quoted for it.
    package static func fanOut(_ agent: AgentStart, in surroundings: Surroundings) -> [FanOutCommand] {
        agent.nodes.enumerated().map { index, node in
            if agent.isHere(node) || node == "localhost" {
                return FanOutCommand(words: agent.words(for: index), node: node, secret: .environment)
            }
            return FanOutCommand(
                words: [
                    "ssh", "-x", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", node,
                    agent.shellText(for: index),
                ],
                node: node, secret: .input)
        }
    }
}
