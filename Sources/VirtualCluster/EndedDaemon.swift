import Diagnostics
import LinuxSystem

/// A daemon of a running cluster that has ended, or a node with all of its own: a batch system notices much later or
/// not at all, and what waits for it waits without a word.
package struct EndedDaemon: Equatable, Sendable {
    package var node: String
    /// `slurmd on n2 killed by signal 9`
    package var text: String
}

extension ClusterRegistry {
    /// In the order of the nodes.
    package func endedDaemons(_ record: ClusterRecord) -> [EndedDaemon] {
        record.nodes.flatMap { node -> [EndedDaemon] in
            guard node.process.isAlive else { return [EndedDaemon(node: node.name, text: "\(node.name) ended")] }
            return services(record.name, node: node.name).compactMap { service in
                service.endStatus.map { _ in
                    EndedDaemon(node: node.name, text: "\(service.service.name) on \(node.name) \(service.words)")
                }
            }
        }
    }
}

extension [EndedDaemon] {
    /// The first few, in one line.
    package var sentence: String {
        let shown = prefix(3).map(\.text).joined(separator: ", ")
        return count > 3 ? "\(count) daemons ended: \(shown), …" : shown
    }
}

extension DiagnosticCode {
    package static let daemonEnded = DiagnosticCode("daemon-ended")
}
