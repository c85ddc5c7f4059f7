import JobModel
import ImageStore
import ArgumentParser
import Diagnostics
import Telemetry

/// `trireme job show`
struct JobShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show one job: phases, nodes, ranks and what became of them.")

    @Option(help: "table or json.") var format: ResultFormat = .table
    @Argument(help: "The job.") var id: String

    func run() throws {
        let job = try JobFinder.summary(JobFinder.reader(id))
        switch format {
        case .json: Output.standard.line(try json(job, pretty: true))
        case .table: show(job)
        }
    }

    private func show(_ job: JobSummary) {
        let facts = job.facts
        var lines = [
            ["job", facts.id], ["state", job.state.rawValue + (job.exitCode.map { ", exit code \($0)" } ?? "")],
            ["image", "\(facts.image) \(facts.digest)"], ["command", facts.command.joined(separator: " ")],
            ["directory", facts.directory],
            ["ranks", "\(facts.size) on \(job.nodes.count) nodes, model \(facts.model), launcher \(facts.launcher)"],
            ["allocation", "\(facts.system) \(facts.allocation)"], ["user", "\(facts.user) on \(facts.leader.host)"],
            ["started", job.started], ["time", "\(job.seconds) s"],
        ]
        if !facts.injected.isEmpty { lines.append(["injected", facts.injected.joined(separator: " ")]) }
        for message in job.messages { lines.append(["said", message]) }
        Output.standard.table(lines)
        Output.standard.line("")
        Output.standard.table([["PHASE", "AT"]] + job.phases.map { [$0.name, "\($0.seconds) s"] })
        Output.standard.line("")
        Output.standard.table(
            [["NODE", "ROLE", "STATE", "ADDRESS", "RANKS"]]
                + job.nodes.map {
                    [$0.name, $0.isLeader ? "leader" : "member", $0.state, $0.address ?? "-", "\($0.ranks)"]
                })
        Output.standard.line("")
        Output.standard.table(
            [["RANK", "NODE", "STATE", "EXIT"]]
                + job.ranks.map {
                    let exit = $0.signal.map { "signal \($0)" } ?? $0.exitCode.map { "\($0)" } ?? "-"
                    return ["\($0.rank)", $0.node, $0.state, exit]
                })
    }
}

/// `trireme job events`
struct JobEvents: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "Print what happened to a job, in order.")

    @Option(help: "table, json (an array) or jsonl (one object a line).") var format = EventFormat.table
    @Flag(name: .shortAndLong, help: "Go on until the job has ended.") var follow = false
    @Argument(help: "The job.") var id: String

    enum EventFormat: String, ExpressibleByArgument, CaseIterable { case table, json, jsonl }

    func run() throws {
        let reader = try JobFinder.reader(id)
        if format == .json, !follow {
            Output.standard.line(try json(try JobFollow.events(reader), pretty: true))
            return
        }
        try JobFollow.run(reader, follows: follow) {
            for event in try JobFollow.events(reader) { Output.standard.line(try line(event)) }
        }
    }

    private func line(_ event: JobEvent) throws -> String {
        if format != .table { return try json(event, pretty: false) }
        var words = [event.time, event.event.rawValue]
        if let node = event.node { words.append(node) }
        if let rank = event.rank { words.append("rank \(rank)") }
        if let signal = event.signal {
            words.append("signal \(signal)")
        } else if let code = event.exitCode {
            words.append("exit \(code)")
        }
        if let count = event.count { words.append("\(count)") }
        if let usage = event.usage { words.append("\(usage.cpuSeconds) s, \(ByteCount.text(Int64(clamping: usage.peakMemory)))") }
        if let job = event.job { words.append("\(job.image) \(job.command.joined(separator: " "))") }
        if let text = event.text { words.append(text) }
        if let code = event.code { words.append("[\(code)]") }
        return Diagnostic.harmless(words.joined(separator: " "))
    }
}
