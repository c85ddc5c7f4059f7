import ArgumentParser
import Diagnostics
import Glibc
import JobModel
import JobWire
import LinuxSystem
import Telemetry

/// `trireme job cancel`
struct JobCancel: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cancel", abstract: "End jobs: TERM to all ranks, KILL after the job's grace.")

    @Option(name: .shortAndLong, help: "Send this signal to the ranks instead, and let the job go on.")
    var signal: String?
    @Argument(help: "The jobs.") var ids: [String]

    func run() throws {
        var number: UInt32?
        if let signal {
            number = SignalName.number(signal)
            if number == nil {
                throw Diagnostic(
                    DiagnosticCode("option-value"), "--signal \(signal)", reasons: ["unknown signal"],
                    remedies: ["--signal USR1", "--signal 10"])
            }
        }
        for id in ids {
            let reader = try JobFinder.reader(id)
            try ControlClient(reader).ask(number.map { ["signal", "\($0)"] } ?? ["cancel"])
            Output.standard.line(reader.id)
        }
    }
}

/// `trireme job suspend`
struct JobSuspend: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "suspend", abstract: "Stop jobs' ranks until 'trireme job resume'; agents and launchers go on.")
    @Argument(help: "The jobs.") var ids: [String]
    func run() throws { try ControlClient.tell(ids, ["suspend"]) }
}

/// `trireme job resume`
struct JobResume: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "resume", abstract: "Let suspended jobs go on.")
    @Argument(help: "The jobs.") var ids: [String]
    func run() throws { try ControlClient.tell(ids, ["resume"]) }
}

extension ControlClient {
    /// The same word to every job; prints their ids.
    static func tell(_ ids: [String], _ words: [String]) throws {
        for id in ids {
            let reader = try JobFinder.reader(id)
            try ControlClient(reader).ask(words)
            Output.standard.line(reader.id)
        }
    }
}

/// `trireme job wait`
struct JobWait: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wait", abstract: "Wait until jobs have ended; exits with the code of the last that failed.",
        discussion: "125 when a job's leader died without a last word, 124 when --timeout was over first.")
    @Option(help: "Seconds to wait at most.") var timeout: Int?
    @Argument(help: "The jobs.") var ids: [String]

    func run() throws {
        let deadline = timeout.map { MonotonicTime.now() + Int(Int32(clamping: $0)) * 1000 }
        var code: Int32 = 0
        for id in ids {
            let ended = try Self.end(of: JobFinder.reader(id), deadline)
            if ended != 0 { code = ended }
        }
        if code != 0 { throw ArgumentParser.ExitCode(code) }
    }

    /// The job's exit code, once it has ended.
    static func end(of reader: JobRecordReader, _ deadline: Int? = nil) throws -> Int32 {
        while true {
            let job = try JobFinder.summary(reader)
            if job.state == .ended { return job.exitCode ?? 0 }
            if job.state == .lost { return Diagnostics.ExitCode.ownFailure }
            if let deadline, MonotonicTime.now() >= deadline { return Diagnostics.ExitCode.timeLimit }
            usleep(100_000)
        }
    }
}

/// `trireme job attach`
struct JobAttach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach", abstract: "See what a job's ranks write from now on, and write to rank 0.",
        discussion: """
            Ends with the job and its exit code. Ctrl-C leaves the job alone. The end of our input is not passed on: \
            the job's own input ends it.
            """)
    @Flag(name: .customLong("no-stdin"), help: "Only look.") var noStdin = false
    @Argument(help: "The job.") var id: String

    func run() throws {
        let reader = try JobFinder.reader(id)
        let client = try ControlClient(reader)
        try client.ask(["attach"])
        var readsInput = !noStdin
        let connection = client.connection
        while !connection.isClosed {
            connection.flush()
            var slots = [
                pollfd(
                    fd: connection.descriptor.raw, events: Int16(POLLIN | (connection.wantsWrite ? POLLOUT : 0)),
                    revents: 0),
                pollfd(fd: readsInput && !connection.isCongested ? 0 : -1, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&slots, 2, 1000) > 0 else { continue }
            if slots[1].revents != 0 { readsInput = passInput(to: connection) }
            guard slots[0].revents != 0 else { continue }
            for message in try client.receive(milliseconds: 0) {
                guard case .output(_, let stream, let bytes) = message else { continue }
                Output.standard.write(bytes: bytes, to: stream == 2 ? .progress : .result)
            }
        }
        let code = try JobWait.end(of: reader)
        if code != 0 { throw ArgumentParser.ExitCode(code) }
    }

    /// False at the end of our input.
    private func passInput(to connection: Connection) -> Bool {
        var chunk = [UInt8](repeating: 0, count: 32 << 10)
        let n = read(0, &chunk, chunk.count)
        if n > 0 { connection.send(.input(channel: 0, bytes: Array(chunk[..<n]))) }
        return n > 0 || n < 0 && errno == EINTR
    }
}

/// `trireme ps`: what runs now.
struct JobProcesses: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ps", abstract: "List the jobs that run; with --ranks, their ranks.")
    @Option(help: "table, json, jsonl or a template.") var format = RowFormat.table(nil)
    @Flag(name: .shortAndLong, help: "Print ids only.") var quiet = false
    @Flag(name: .shortAndLong, help: "Those that ended, too.") var all = false
    @Flag(help: "A line per rank.") var ranks = false

    struct Row: FormattedRow {
        var job: String
        var rank: Int
        var node: String
        var state: String
        var started: String?
        static let columns = [
            ("Job", "JOB"), ("Rank", "RANK"), ("Node", "NODE"), ("State", "STATE"), ("Started", "STARTED"),
        ].map { (field: $0.0, heading: $0.1) }
        func text(_ field: String) -> String? {
            switch field {
            case "Job": job
            case "Rank": "\(rank)"
            case "Node": node
            case "State": state
            case "Started": started ?? "-"
            default: nil
            }
        }
    }

    func run() throws {
        let jobs = JobRecordReader.all(in: JobRecords.directory).compactMap { try? JobFinder.summary($0) }
            .filter { all || $0.state != .ended && $0.state != .lost }
        if quiet {
            for job in jobs { Output.standard.line(job.facts.id) }
        } else if ranks {
            let rows = jobs.flatMap { job in
                job.ranks.map {
                    Row(job: job.facts.id, rank: $0.rank, node: $0.node, state: $0.state, started: $0.started)
                }
            }
            try Output.standard.rows(rows, as: format)
        } else {
            try Output.standard.rows(jobs.map(JobList.Row.init), as: format)
        }
    }
}
