import ArgumentParser
import LinuxSystem
import VirtualCluster

/// `trireme cluster status`
struct ClusterStatus: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show a cluster's nodes and daemons.")

    @Argument(help: "The cluster's name.") var name: String
    @Option(help: "table or json.") var format: ResultFormat = .table

    func run() throws {
        let registry = ClusterCommand.registry
        guard registry.names().contains(name) else { throw registry.missing(name, among: registry.names()) }
        let record = registry.record(name)
        let state = registry.state(record)
        let isRunning = state == .running
        let nodes = record?.nodes ?? []
        let ended = record.map { isRunning ? registry.endedDaemons($0) : [] } ?? []
        switch format {
        case .table:
            Output.standard.line(
                "\(name): \(state.word), \(max(0, nodes.count - 1)) nodes"
                    + (record.map {
                        ", \($0.cpusPerNode) cores and \($0.memoryPerNodeMiB) MiB each, since \($0.created)"
                    } ?? ""))
            if !ended.isEmpty { Output.standard.line("\(name): \(ended.sentence); jobs that need it wait") }
            var rows = [["NODE", "ADDRESS", "PID", "STATE", "SERVICES"]]
            for node in nodes {
                let isUp = isRunning && node.process.isAlive
                let services = registry.services(name, node: node.name).map { service in
                    "\(service.service.name) (pid \(service.pid)) \(isUp || service.endStatus != nil ? service.words : "ended")"
                }
                rows.append([
                    node.name, node.address, "\(node.process.pid)", isUp ? "up" : "down",
                    services.joined(separator: ", "),
                ])
            }
            Output.standard.table(rows)
        case .json:
            let list = nodes.map { node in
                let isUp = isRunning && node.process.isAlive
                let services = registry.services(name, node: node.name).map { service in
                    JSONText.record([
                        "name": .string(service.service.name), "pid": .number(Int64(service.pid)),
                        "state": .string(isUp || service.endStatus != nil ? service.words : "ended"),
                    ])
                }
                return JSONText.record([
                    "name": .string(node.name), "address": .string(node.address),
                    "pid": .number(Int64(node.process.pid)), "state": .string(isUp ? "up" : "down"),
                    "services": .array(services),
                ])
            }
            Output.standard.line(
                JSONText.record([
                    "name": .string(name), "state": .string(state.word), "created": .string(record?.created ?? ""),
                    "image": .string(record?.image ?? ""), "pid": .number(Int64(record?.supervisor.pid ?? 0)),
                    "ended": .array(ended.map { .string($0.text) }), "nodes": .array(list),
                ]).encoded)
        }
    }
}
