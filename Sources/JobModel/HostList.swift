/// A list of node names in Slurm's bracket notation: `n[1-3,7],login`, `rack[1-2]n[01-04]`.
///
/// Own parser instead of `scontrol show hostnames`: it works where no Slurm command is
/// installed (inside an image) and saves a process. Notation: scontrol(1), "hostlist".
package struct HostList: Equatable, Sendable {
    package var names: [String]

    package init(_ names: [String]) { self.names = names }

    /// Why text is not a host list.
    package enum Failure: Error, Equatable, Sendable {
        case unbalancedBracket(String)
        case malformedRange(String)
        /// More names than any machine has nodes; refused before memory is spent.
        case tooLong
    }

    /// Far above the largest machine there is.
    package static let countLimit = 65536

    package init(parsing text: String) throws(Failure) {
        names = []
        for term in try Self.terms(of: text) {
            names += try Self.expand(term, room: Self.countLimit - names.count)
        }
    }

    /// Splits at the commas outside brackets.
    private static func terms(of text: String) throws(Failure) -> [Substring] {
        var terms: [Substring] = []
        var depth = 0
        var start = text.startIndex
        for index in text.indices {
            switch text[index] {
            case "[": depth += 1
            case "]": depth -= 1
            case "," where depth == 0:
                terms.append(text[start..<index])
                start = text.index(after: index)
            default: break
            }
            guard depth == 0 || depth == 1 else { throw .unbalancedBracket(text) }
        }
        guard depth == 0 else { throw .unbalancedBracket(text) }
        terms.append(text[start...])
        return terms.filter { !$0.isEmpty }
    }

    /// Expands the first bracket of `term` and, for each of its numbers, the rest.
    private static func expand(_ term: Substring, room: Int) throws(Failure) -> [String] {
        guard let open = term.firstIndex(of: "[") else {
            guard room >= 1 else { throw .tooLong }
            return [String(term)]
        }
        guard let close = term[open...].firstIndex(of: "]") else { throw .unbalancedBracket(String(term)) }
        let prefix = term[..<open]
        let tails = try expand(term[term.index(after: close)...], room: room)
        var result: [String] = []
        for range in term[term.index(after: open)..<close].split(separator: ",", omittingEmptySubsequences: false) {
            let (first, last, width) = try bounds(range)
            guard (last - first + 1).multipliedReportingOverflow(by: tails.count).partialValue + result.count <= room,
                last - first < countLimit
            else { throw .tooLong }
            for number in first...last {
                let digits = String(number)
                let padded = String(repeating: "0", count: max(0, width - digits.count)) + digits
                result += tails.map { prefix + padded + $0 }
            }
        }
        return result
    }

    /// `07-12` is (7, 12, 2): the width of the first number pads all.
    private static func bounds(_ range: Substring) throws(Failure) -> (first: Int, last: Int, width: Int) {
        let ends = range.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 1 || ends.count == 2,
            ends.allSatisfy({ $0.utf8.allSatisfy({ (0x30...0x39).contains($0) }) && $0.count <= 9 }),
            let first = Int(ends[0]), let last = Int(ends[ends.count - 1]), first >= 0, last >= first
        else { throw .malformedRange(String(range)) }
        return (first, last, ends[0].count)
    }
}

extension HostList: CustomStringConvertible {
    /// The short notation again: consecutive numbers behind one prefix are folded.
    package var description: String {
        var parts: [String] = []
        var index = 0
        while index < names.count {
            let (prefix, number, width) = Self.split(names[index])
            guard let number else {
                parts.append(names[index])
                index += 1
                continue
            }
            var ranges: [(first: Int, last: Int)] = [(number, number)]
            var next = index + 1
            while next < names.count {
                let (otherPrefix, other, otherWidth) = Self.split(names[next])
                guard let other, otherPrefix == prefix, otherWidth == width || (width == 0 && otherWidth == 0) else {
                    break
                }
                if other == ranges[ranges.count - 1].last + 1 {
                    ranges[ranges.count - 1].last = other
                } else {
                    ranges.append((other, other))
                }
                next += 1
            }
            func padded(_ value: Int) -> String {
                let digits = String(value)
                return String(repeating: "0", count: max(0, width - digits.count)) + digits
            }
            let folded = ranges.map {
                $0.first == $0.last ? padded($0.first) : "\(padded($0.first))-\(padded($0.last))"
            }
            parts.append(next == index + 1 ? names[index] : "\(prefix)[\(folded.joined(separator: ","))]")
            index = next
        }
        return parts.joined(separator: ",")
    }

    /// Prefix, trailing number, and its width when it is zero-padded (0: not padded).
    private static func split(_ name: String) -> (prefix: Substring, number: Int?, width: Int) {
        let digits = name.reversed().prefix { $0.isASCII && $0.isNumber }.count
        guard digits > 0, digits <= 9 else { return (name[...], nil, 0) }
        let start = name.index(name.endIndex, offsetBy: -digits)
        let text = name[start...]
        return (name[..<start], Int(text), text.first == "0" && digits > 1 ? digits : 0)
    }
}
