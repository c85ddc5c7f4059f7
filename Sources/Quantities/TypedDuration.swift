/// Times as people and schedulers write them.
package enum TypedDuration {
    /// What a number without a unit counts.
    package enum Bare { case seconds, minutes, nothing }

    /// Milliseconds of `250ms`, `30s`, `10m`, `2h30m`, `1d`, `2w`, `1.5h` (docker's and Go's spellings, with days
    /// and weeks) or of a number alone; nil for what is none, and for more than 30,000 years.
    package static func milliseconds(_ text: some StringProtocol, bare: Bare) -> Int? {
        var total = 0.0
        var rest = text[...]
        guard !rest.isEmpty else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber || $0 == "." }
            guard let number = Double(String(digits)), number >= 0 else { return nil }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count)
            guard let factor = factor(of: unit, bare: digits.count == text.count ? bare : .nothing) else { return nil }
            total += number * factor
        }
        return total < 1e15 ? Int(total.rounded()) : nil
    }

    private static func factor(of unit: some StringProtocol, bare: Bare) -> Double? {
        switch unit {
        case "ms": 1
        case "s": 1000
        case "m", "min": 60_000
        case "h": 3_600_000
        case "d": 86_400_000
        case "w": 604_800_000
        case "":
            switch bare {
            case .seconds: 1000
            case .minutes: 60_000
            case .nothing: nil
            }
        default: nil
        }
    }

    /// Seconds of a time limit in Slurm's words (sbatch(1), --time): `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`.
    package static func slurmSeconds(_ text: some StringProtocol) -> Int? {
        let halves = text.split(separator: "-", omittingEmptySubsequences: false)
        guard halves.count <= 2, let fields = fields(halves[halves.count - 1]) else { return nil }
        guard halves.count == 2 else {
            return fields.count == 3 ? sum(fields, [3600, 60, 1]) : sum(fields, [60, 1])
        }
        guard let days = days(halves[0]) else { return nil }
        return days * 86_400 + sum(fields, [3600, 60, 1])
    }

    /// Seconds of a count that schedulers print: `SS`, `MM:SS`, `HH:MM:SS`, `D-HH:MM:SS` (squeue(1), %L).
    package static func clockSeconds(_ text: some StringProtocol) -> Int? {
        let halves = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        guard let clock = halves.last, let fields = fields(clock) else { return nil }
        guard let days = halves.count == 2 ? days(halves[0]) : 0 else { return nil }
        return days * 86_400 + sum(fields, [3600, 60, 1].suffix(fields.count))
    }

    /// One to three numbers with colons between them.
    private static func fields(_ text: some StringProtocol) -> [Int]? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        let numbers = parts.compactMap { Int($0) }.filter { (0..<10_000_000).contains($0) }
        return (1...3).contains(parts.count) && numbers.count == parts.count ? numbers : nil
    }

    private static func days(_ text: some StringProtocol) -> Int? {
        Int(text).flatMap { (0..<100_000).contains($0) ? $0 : nil }
    }

    private static func sum(_ fields: [Int], _ units: some Sequence<Int>) -> Int {
        zip(fields, units).reduce(0) { $0 + $1.0 * $1.1 }
    }
}
