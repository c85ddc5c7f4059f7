import ArgumentParser
import Diagnostics
import ImageStore
import JobModel
import Telemetry

/// `trireme job stats`, `trireme stats`
struct JobStats: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "What a job's ranks used: processor time, peak memory, bytes read and written.",
        discussion: """
            Of a rank that runs, as of its last report (every 5 s); of one that ended, from the kernel's account of it \
            and the children it waited for. Lines of nodes, where a container has a control group, are what that \
            counted: all processes there, and peak memory of all together.
            """)

    @Option(help: "table, json, jsonl or a template such as '{{.Rank}} {{.CPU}}'.") var format = RowFormat.table(nil)
    @Flag(name: .customLong("per-rank"), help: "Only the ranks, without the lines for nodes and for all of them.")
    var perRank = false
    @Argument(help: "The job.") var id: String

    struct Row: FormattedRow {
        /// -1 for all ranks, of `node` or, where that is empty, of the job.
        var rank: Int
        var node: String
        var state: String
        var cpuSeconds: Double
        var peakMemory: UInt64
        var read: UInt64
        var written: UInt64
        enum CodingKeys: String, CodingKey {
            case rank, node, state, read, written
            case cpuSeconds = "cpu_seconds"
            case peakMemory = "peak_memory"
        }

        init(rank: Int, node: String, state: String, _ usage: ResourceUsage) {
            self.rank = rank
            self.node = node
            self.state = state
            cpuSeconds = usage.cpuSeconds
            peakMemory = usage.peakMemory
            read = usage.readBytes
            written = usage.writtenBytes
        }

        static let columns = [
            ("Rank", "RANK"), ("Node", "NODE"), ("State", "STATE"), ("CPU", "CPU SECONDS"), ("Memory", "PEAK MEMORY"),
            ("Read", "READ"), ("Written", "WRITTEN"),
        ].map { (field: $0.0, heading: $0.1) }

        func text(_ field: String) -> String? {
            switch field {
            case "Rank": rank < 0 ? "all" : "\(rank)"
            case "Node": node
            case "State": state
            case "CPU": "\(cpuSeconds)"
            case "Memory": ByteCount.text(Int64(clamping: peakMemory))
            case "Read": ByteCount.text(Int64(clamping: read))
            case "Written": ByteCount.text(Int64(clamping: written))
            default: nil
            }
        }
    }

    func run() throws {
        let job = try JobFinder.summary(JobFinder.reader(id))
        var rows = job.ranks.map { Row(rank: $0.rank, node: $0.node, state: $0.state, $0.usage ?? ResourceUsage()) }
        if !perRank {
            rows += job.nodes.compactMap { node in
                node.usage.map { Row(rank: -1, node: node.name, state: node.state, $0) }
            }
            rows.append(Row(rank: -1, node: "", state: job.state.rawValue, job.total))
        }
        try Output.standard.rows(rows, as: format)
    }
}
