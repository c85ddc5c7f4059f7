import ArgumentParser
import VirtualCluster

/// `trireme cluster ls`
struct ClusterList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List the clusters.", aliases: ["list"])

    @Option(help: "table or json.") var format: ResultFormat = .table
    @Flag(name: .shortAndLong, help: "Print names only.") var quiet = false

    func run() throws {
        let registry = ClusterCommand.registry
        let clusters = registry.names().map { name in (name: name, record: registry.record(name)) }
        if quiet {
            for cluster in clusters { Output.standard.line(cluster.name) }
            return
        }
        switch format {
        case .table:
            var rows = [["NAME", "STATE", "NODES", "CREATED", "IMAGE"]]
            for (name, record) in clusters {
                rows.append([
                    name, registry.state(record).word, record.map { "\($0.nodes.count - 1)" } ?? "-",
                    record?.created ?? "-", record?.image ?? "-",
                ])
            }
            Output.standard.table(rows)
        case .json:
            let values = clusters.map { name, record in
                JSONText.record([
                    "name": .string(name), "state": .string(registry.state(record).word),
                    "nodes": .number(Int64(max(0, (record?.nodes.count ?? 1) - 1))),
                    "created": .string(record?.created ?? ""), "image": .string(record?.image ?? ""),
                ])
            }
            Output.standard.line(JSONText.array(values).encoded)
        }
    }
}

/// How results are printed.
enum ResultFormat: String, ExpressibleByArgument, CaseIterable {
    case table, json
}

extension Output {
    /// Rows in columns two blanks apart; the first row is the heading.
    func table(_ rows: [[String]]) {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0 }
        for row in rows {
            var text = ""
            for (column, cell) in row.enumerated() {
                text += cell
                if column + 1 < row.count { text += String(repeating: " ", count: widths[column] - cell.count + 2) }
            }
            line(text)
        }
    }
}
