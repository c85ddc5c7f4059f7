import Diagnostics
import JobModel

/// Several commands in one job, as mpirun writes them: `-n 2 IMAGE a : -n 2 -e K=V IMAGE b`.
///
/// A lone `:` separates only before one of a part's own options; any other belongs to the application.
struct JobParts {
    /// What was typed after a `:`.
    struct Part {
        var tasks: Int
        var environment = EnvironmentOptions.none
        /// IMAGE and its command.
        var words: [[UInt8]]
    }

    /// IMAGE and the command of the first part, whose options are also the job's.
    private(set) var first: [[UInt8]]
    private(set) var others: [Part] = []

    /// - Throws: `option-value` or `no-image` when a part makes no sense.
    init(_ words: [[UInt8]]) throws(Diagnostic) {
        let colons = words.indices.filter { index in
            words[index] == [UInt8(ascii: ":")] && index > 0 && index + 1 < words.count
                && Self.isOption(words[index + 1])
        }
        first = Array(words[..<(colons.first ?? words.count)])
        for (place, colon) in colons.enumerated() {
            let end = place + 1 < colons.count ? colons[place + 1] : words.count
            others.append(try Self.part(Array(words[(colon + 1)..<end])))
        }
    }

    /// `-x` as mpirun has it.
    private static let short = ["-n", "-np", "-e", "-x"]
    private static let long = ["--ntasks", "--env"]

    private static func isOption(_ word: [UInt8]) -> Bool {
        let text = String(decoding: word, as: UTF8.self)
        return (short + long).contains(text) || long.contains { text.hasPrefix($0 + "=") }
            || text.hasPrefix("-n") && text.dropFirst(2).allSatisfy(\.isNumber)
    }

    private static func part(_ words: [[UInt8]]) throws(Diagnostic) -> Part {
        var rest = words[...]
        var part = Part(tasks: 0, words: [])
        while let word = rest.first, word.first == UInt8(ascii: "-") {
            let text = String(decoding: rest.removeFirst(), as: UTF8.self)
            let (name, value) = try split(text, &rest)
            if name == "-e" || name == "-x" || name == "--env" {
                part.environment.env.append(value)
            } else if let tasks = Int(value), tasks > 0, tasks <= HostList.countLimit {
                part.tasks = tasks
            } else {
                throw Diagnostic(DiagnosticCode("option-value"), ": \(name) \(value)", reasons: ["must be at least 1"])
            }
        }
        guard !rest.isEmpty else {
            throw Diagnostic(
                DiagnosticCode("no-image"), ": " + typed(words), reasons: ["no image named in this part of the job"],
                remedies: [": -n RANKS IMAGE COMMAND"])
        }
        guard part.tasks > 0 else {
            throw Diagnostic(
                DiagnosticCode("option-value"), ": " + typed(words), reasons: ["how many ranks is not said"],
                remedies: [": -n RANKS IMAGE COMMAND"])
        }
        part.words = Array(rest)
        return part
    }

    private static func split(_ text: String, _ rest: inout ArraySlice<[UInt8]>) throws(Diagnostic) -> (String, String)
    {
        if let equals = text.firstIndex(of: "="), text.hasPrefix("--"), isOption(Array(text.utf8)) {
            return (String(text[..<equals]), String(text[text.index(after: equals)...]))
        }
        if text.hasPrefix("-n"), text.count > 2, text != "-np", isOption(Array(text.utf8)) {
            return ("-n", String(text.dropFirst(2)))
        }
        guard (short + long).contains(text), let value = rest.popFirst() else {
            throw Diagnostic(
                DiagnosticCode("option-unknown"), ": \(text)",
                reasons: [
                    "a further part of a job has only -n and -e of its own; all else is said before the first IMAGE"
                ]
            )
        }
        return (text, String(decoding: value, as: UTF8.self))
    }

    private static func typed(_ words: [[UInt8]]) -> String {
        words.map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    }
}
