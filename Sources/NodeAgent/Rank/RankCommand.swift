import JobModel

/// What a rank's shim executes, as words after `--rank`: either `-- CMD [ARG…]`, the same for every rank, or
/// for each part of the job `--part RANKS VARIABLES WORDS K=V… CMD [ARG…]`, RANKS 0 for all that are left.
///
/// The shim knows its rank and takes its part by it, so that any launcher serves: one that starts the same
/// words everywhere (srun), and one that has parts of its own (mpirun). A word `:` would be such a launcher's own:
/// after `--part` every word that begins with `:` or a backslash has a backslash in front.
package enum RankCommand {
    package static func words(_ parts: [JobPart]) -> [[UInt8]] {
        if parts.count == 1, parts[0].environment.isEmpty, !parts[0].command.contains([UInt8(ascii: ":")]) {
            return [Array("--".utf8)] + parts[0].command
        }
        return parts.flatMap { part in
            ["--part", "\(part.tasks)", "\(part.environment.count)", "\(part.command.count)"].map { Array($0.utf8) }
                + (part.environment + part.command).map(escaped)
        }
    }

    private static func escaped(_ word: [UInt8]) -> [UInt8] {
        let isSpecial = word.first == UInt8(ascii: ":") || word.first == UInt8(ascii: "\\")
        return isSpecial ? [UInt8(ascii: "\\")] + word : word
    }

    private static func plain(_ word: [UInt8]) -> [UInt8] {
        word.first == UInt8(ascii: "\\") ? Array(word.dropFirst()) : word
    }

    /// The part of `rank`; nil when the words are not of that form, or have none for it.
    package static func part(of rank: Int, in words: [[UInt8]]) -> JobPart? {
        guard words.first == Array("--part".utf8) else {
            let command = words.first == Array("--".utf8) ? Array(words.dropFirst()) : words
            return JobPart(tasks: 0, command: command)
        }
        var rest = words[...]
        var first = 0
        while rest.count >= 4, rest.removeFirst() == Array("--part".utf8) {
            let counts = rest.prefix(3).compactMap { Int(String(decoding: $0, as: UTF8.self)) }
            rest = rest.dropFirst(3)
            guard counts.count == 3, counts.allSatisfy({ $0 >= 0 }), counts[1] <= rest.count,
                counts[2] <= rest.count - counts[1]
            else { return nil }
            let environment = rest.prefix(counts[1]).map(plain)
            let command = rest.dropFirst(counts[1]).prefix(counts[2]).map(plain)
            rest = rest.dropFirst(counts[1] + counts[2])
            first = counts[0] == 0 ? Int.max : first.addingReportingOverflow(counts[0]).partialValue
            if rank < first { return JobPart(tasks: counts[0], environment: environment, command: command) }
        }
        return nil
    }
}
