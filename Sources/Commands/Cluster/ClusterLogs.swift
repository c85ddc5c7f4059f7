import ArgumentParser
import Diagnostics
import Glibc
import LinuxSystem
import VirtualCluster

/// `trireme cluster logs`
struct ClusterLogs: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs", abstract: "Print the daemons' logs: all, one node's, or one daemon's.")

    @Argument(help: "The cluster's name.") var name: String
    @Argument(help: "A node (n1), a daemon (slurmd), or both (n1.slurmd).") var what: String?

    func run() throws {
        let registry = ClusterCommand.registry
        guard registry.names().contains(name) else { throw registry.missing(name, among: registry.names()) }
        let what = what == ClusterNode.controllerAlias ? ClusterNode(index: 0).name : what
        let directory = registry.path(name) + "/logs"
        let logs = ClusterRegistry.files(in: directory).filter { $0.hasSuffix(".log") }.map { String($0.dropLast(4)) }
        let chosen = logs.filter { log in
            what.map { log == $0 || log.split(separator: ".").contains(Substring($0)) } ?? true
        }
        if chosen.isEmpty, let what {
            let words = Set(logs.flatMap { $0.split(separator: ".").map(String.init) } + logs).sorted()
            throw Diagnostic(
                .nodeNotFound, "'\(what)'", reasons: ["cluster '\(name)' has no such node or daemon"],
                remedies: NearMiss.nearest(to: what, among: words).map { "did you mean '\($0)'?" })
        }
        for log in chosen {
            let text = try read("\(directory)/\(log).log")
            if chosen.count == 1 {
                Output.standard.write(text)
            } else {
                for line in text.split(separator: "\n") { Output.standard.line("\(log) | \(line)") }
            }
        }
    }

    private func read(_ path: String) throws(Diagnostic) -> String {
        do throws(SyscallError) {
            return String(decoding: try OwnedDescriptor.open(path, O_RDONLY).readAll(limit: 256 << 20), as: UTF8.self)
        } catch {
            throw Diagnostic(.clusterState, "cluster '\(name)'", reasons: ["cannot read a log", error.sentence])
        }
    }
}
