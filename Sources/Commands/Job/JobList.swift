import ArgumentParser
import Diagnostics
import JobModel
import Telemetry

/// `trireme job ls`
struct JobList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List jobs: those that run, and the last that ended.", aliases: ["list"])

    @Option(help: "table, json, jsonl or a template such as '{{.ID}} {{.State}}'.") var format = RowFormat.table(nil)
    @Flag(name: .shortAndLong, help: "Print ids only.") var quiet = false
    @Flag(name: .shortAndLong, help: "All on record, not only the last 20 that ended.") var all = false
    @Flag(help: "Only jobs whose leader is gone without a last word.") var stale = false

    struct Row: FormattedRow {
        var id: String
        var state: String
        var image: String
        var command: String
        var ranks: Int
        var nodes: Int
        var started: String
        var ended: String?
        var seconds: Double
        var exitCode: Int32?
        var user: String
        var system: String
        enum CodingKeys: String, CodingKey {
            case id, state, image, command, ranks, nodes, started, ended, seconds, user, system
            case exitCode = "exit_code"
        }

        init(_ job: JobSummary) {
            id = job.facts.id
            state = job.state.rawValue
            image = job.facts.image
            command = job.facts.command.joined(separator: " ")
            ranks = job.facts.size
            nodes = job.nodes.count
            started = job.started
            ended = job.ended
            seconds = job.seconds
            exitCode = job.exitCode
            user = job.facts.user
            system = job.facts.system
        }

        static let columns = [
            ("ID", "ID"), ("State", "STATE"), ("Exit", "EXIT"), ("Ranks", "RANKS"), ("Nodes", "NODES"),
            ("Started", "STARTED"), ("Time", "TIME"), ("Image", "IMAGE"), ("Command", "COMMAND"),
        ].map { (field: $0.0, heading: $0.1) }
        static let furtherFields = ["Ended", "User", "System"]

        func text(_ field: String) -> String? {
            switch field {
            case "ID": id
            case "State": state
            case "Exit": exitCode.map { "\($0)" } ?? "-"
            case "Ranks": "\(ranks)"
            case "Nodes": "\(nodes)"
            case "Started": started
            case "Ended": ended ?? "-"
            case "Time": AllocShow.duration(Int(seconds))
            case "Image": image
            case "Command": command.count > 40 ? command.prefix(39) + "…" : command
            case "User": user
            case "System": system
            default: nil
            }
        }
    }

    private static let endedShown = 20

    func run() throws {
        // A record that cannot be read is passed over: others must be seen all the same.
        var jobs = JobRecordReader.all(in: JobRecords.directory).compactMap { try? JobFinder.summary($0) }
        if stale { jobs = jobs.filter { $0.state == .lost } }
        if !all, !stale {
            let old = jobs.filter { $0.state == .ended || $0.state == .lost }.dropLast(Self.endedShown)
            let hidden = Set(old.map(\.facts.id))
            jobs = jobs.filter { !hidden.contains($0.facts.id) }
        }
        if quiet {
            for job in jobs { Output.standard.line(job.facts.id) }
            return
        }
        try Output.standard.rows(jobs.map(Row.init), as: format)
    }
}
