import ArgumentParser
import CLinux
import Diagnostics
import Glibc
import VirtualCluster

/// `trireme cluster exec`
struct ClusterExec: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec", abstract: "Run a command in a node (default: ctl), or a shell without one.",
        usage: "trireme cluster exec <name> [<node>] [-- <command> ...]")

    @Argument(help: "The cluster's name.") var name: String
    @Argument(parsing: .captureForPassthrough, help: "The node, then '--' and the command.") var words: [String] = []

    func run() throws {
        let record = try ClusterCommand.registry.running(name)
        var node: String?
        var command = words
        if let dashes = words.firstIndex(of: "--"), dashes <= 1 {
            node = dashes == 1 ? words[0] : nil
            command = Array(words[(dashes + 1)...])
        } else if let first = words.first, record.node(named: first) != nil {
            node = first
            command.removeFirst()
        }
        if command.isEmpty { command = ["/bin/bash"] }
        let entry = try ClusterEntry(record, node: node)
        let status = try entry.execute(
            command, environment: ClusterEntry.environment(CallerEnvironment.entries, record: record),
            directory: ClusterDirectory.current(in: entry, isQuiet: isatty(STDERR_FILENO) == 0))
        if status != 0 { throw ArgumentParser.ExitCode(status) }
    }
}

/// The environment of this process as `K=V` entries.
enum CallerEnvironment {
    static var entries: [String] {
        var result: [String] = []
        guard var next = linux_environ() else { return [] }
        while let entry = next.pointee {
            result.append(String(cString: entry))
            next += 1
        }
        return result
    }
}
