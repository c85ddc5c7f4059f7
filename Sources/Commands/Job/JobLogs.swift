import ArgumentParser
import Diagnostics
import JobModel
import Telemetry

/// `trireme job logs`, `trireme logs`
struct JobLogs: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs", abstract: "Print what a job's ranks wrote, during the job and after it.",
        discussion: """
            What went to a rank's standard error goes to ours. Kept is the first MiB of each rank; \
            TRIREME_RECORD_OUTPUT=BYTES in the job's environment changes that.
            """)

    @Flag(name: .shortAndLong, help: "Go on until the job has ended.") var follow = false
    @Flag(name: [.customShort("l"), .long], help: "Put 'RANK: ' in front of every line.") var labelIo = false
    @Flag(name: .shortAndLong, help: "Put the seconds since the job's begin in front of every line.")
    var timestamps = false
    @Option(help: "Only this rank; may be given several times. -1 is what mpirun itself said.")
    var rank: [Int] = []
    @Option(name: [.customShort("n"), .long], help: "Only the last so many lines of what there is.") var tail: Int?
    @Option(help: "text or jsonl (one object a line).") var format = LogFormat.text
    @Argument(help: "The job.") var id: String

    enum LogFormat: String, ExpressibleByArgument, CaseIterable { case text, jsonl }

    /// One line of `--format jsonl`.
    struct Line: Encodable {
        var rank: Int
        var stream: String
        var seconds: Double
        var text: String
    }

    func run() throws {
        let reader = try JobFinder.reader(id)
        let job = try JobFinder.summary(reader)
        var lines = LogLines(isLabelled: job.facts.labelsOutput)
        var rest = tail
        try JobFollow.run(reader, follows: follow) {
            var found: [LogLines.Line] = []
            for chunk in try JobFollow.output(reader) where rank.isEmpty || rank.contains(chunk.rank) {
                found += lines.add(chunk)
            }
            if !follow { found += lines.finish() }
            if let count = rest {
                found = Array(found.suffix(max(0, count)))
                rest = nil
            }
            try write(found)
        }
        try write(lines.finish())
        for rank in try truncated(reader) where self.rank.isEmpty || self.rank.contains(rank) {
            Output.standard.line("trireme: what rank \(rank) wrote later was not kept", to: .progress)
        }
    }

    private func write(_ lines: [LogLines.Line]) throws {
        for line in lines {
            if format == .jsonl {
                var text = String(decoding: line.bytes, as: UTF8.self)
                if text.hasSuffix("\n") { text.removeLast() }
                let row = Line(
                    rank: line.rank, stream: line.stream == 2 ? "stderr" : "stdout",
                    seconds: Double(line.milliseconds) / 1000, text: text)
                Output.standard.line(try json(row, pretty: false))
                continue
            }
            var front = timestamps ? "\(Double(line.milliseconds) / 1000) " : ""
            if labelIo { front += "\(line.rank): " }
            Output.standard.write(bytes: Array(front.utf8) + line.bytes, to: line.stream == 2 ? .progress : .result)
        }
    }

    private func truncated(_ reader: JobRecordReader) throws(Diagnostic) -> [Int] {
        try JobFollow.events(reader).filter { $0.event == .outputTruncated }.compactMap(\.rank)
    }
}

/// Pieces of output put together into whole lines of one rank and stream.
struct LogLines {
    struct Line {
        var rank: Int
        var stream: Int
        var milliseconds: Int
        var bytes: [UInt8]
    }
    private struct Source: Hashable {
        var rank: Int
        var stream: Int
    }
    /// The job ran with `-l`: its lines begin with their rank already.
    private let isLabelled: Bool
    private var pending: [Source: Line] = [:]

    init(isLabelled: Bool) { self.isLabelled = isLabelled }

    mutating func add(_ chunk: OutputChunk) -> [Line] {
        let source = Source(rank: chunk.rank, stream: chunk.stream)
        var bytes = chunk.bytes[...]
        var lines: [Line] = []
        while let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
            var line =
                pending.removeValue(forKey: source)
                ?? Line(rank: chunk.rank, stream: chunk.stream, milliseconds: chunk.milliseconds, bytes: [])
            line.bytes += bytes[...end]
            lines.append(plain(line))
            bytes = bytes[(end + 1)...]
        }
        if !bytes.isEmpty {
            pending[
                source,
                default: Line(rank: chunk.rank, stream: chunk.stream, milliseconds: chunk.milliseconds, bytes: [])
            ].bytes += bytes
        }
        return lines
    }

    /// Lines without end.
    mutating func finish() -> [Line] {
        defer { pending = [:] }
        return pending.sorted { ($0.key.rank, $0.key.stream) < ($1.key.rank, $1.key.stream) }.map { plain($0.value) }
    }

    private func plain(_ line: Line) -> Line {
        let label = Array("\(line.rank): ".utf8)
        guard isLabelled, line.bytes.starts(with: label) else { return line }
        var line = line
        line.bytes.removeFirst(label.count)
        return line
    }
}
