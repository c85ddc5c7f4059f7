/// The part of JSON (RFC 8259) a cluster's record needs. Foundation's coder would
/// cost the supervisor and `exec` more memory and start time than everything else they do.
package enum JSONText: Equatable, Sendable {
    case string(String)
    case number(Int64)
    case array([JSONText])
    /// In the order written.
    case object([Member])

    package struct Member: Equatable, Sendable {
        package var key: String
        package var value: JSONText
    }

    package static func record(_ members: KeyValuePairs<String, JSONText>) -> JSONText {
        .object(members.map { Member(key: $0.key, value: $0.value) })
    }

    package subscript(key: String) -> JSONText? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.key == key }?.value
    }
    package var text: String? { if case .string(let value) = self { value } else { nil } }
    package var integer: Int64? { if case .number(let value) = self { value } else { nil } }
    package var elements: [JSONText] { if case .array(let values) = self { values } else { [] } }

    package var encoded: String {
        switch self {
        case .string(let value): Self.quoted(value)
        case .number(let value): "\(value)"
        case .array(let values): "[" + values.map(\.encoded).joined(separator: ", ") + "]"
        case .object(let members):
            "{" + members.map { Self.quoted($0.key) + ": " + $0.value.encoded }.joined(separator: ", ") + "}"
        }
    }

    private static func quoted(_ value: String) -> String {
        var result = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    /// nil unless `text` is one value of this subset and nothing more.
    package init?(parsing text: String) {
        var parser = Parser(rest: Array(text.unicodeScalars)[...])
        guard let value = parser.value(depth: 0) else { return nil }
        parser.skipBlanks()
        if !parser.rest.isEmpty { return nil }
        self = value
    }

    private struct Parser {
        var rest: ArraySlice<UnicodeScalar>
        static let depthLimit = 16

        mutating func skipBlanks() { rest = rest.drop { $0 == " " || $0 == "\n" || $0 == "\t" || $0 == "\r" } }

        mutating func take(_ scalar: UnicodeScalar) -> Bool {
            skipBlanks()
            if rest.first != scalar { return false }
            rest.removeFirst()
            return true
        }

        mutating func value(depth: Int) -> JSONText? {
            if depth > Self.depthLimit { return nil }
            if take("{") {
                var members: [Member] = []
                if take("}") { return .object([]) }
                repeat {
                    guard take("\""), let key = string(), take(":"), let value = value(depth: depth + 1) else {
                        return nil
                    }
                    members.append(Member(key: key, value: value))
                } while take(",")
                return take("}") ? .object(members) : nil
            }
            if take("[") {
                var values: [JSONText] = []
                if take("]") { return .array([]) }
                repeat {
                    guard let value = value(depth: depth + 1) else { return nil }
                    values.append(value)
                } while take(",")
                return take("]") ? .array(values) : nil
            }
            if take("\"") { return string().map { .string($0) } }
            let digits = rest.prefix { $0 == "-" || ("0"..."9").contains($0) }
            rest = rest.dropFirst(digits.count)
            return Int64(String(String.UnicodeScalarView(digits))).map { .number($0) }
        }

        /// The rest of a string behind its opening quote.
        mutating func string() -> String? {
            var result = String.UnicodeScalarView()
            while let scalar = rest.popFirst() {
                if scalar == "\"" { return String(result) }
                if scalar != "\\" {
                    result.append(scalar)
                    continue
                }
                switch rest.popFirst() {
                case "n": result.append("\n")
                case "t": result.append("\t")
                case "r": result.append("\r")
                case "u":
                    let digits = String(String.UnicodeScalarView(rest.prefix(4)))
                    guard digits.utf8.count == 4, let code = UInt32(digits, radix: 16),
                        let decoded = UnicodeScalar(code)
                    else { return nil }
                    rest = rest.dropFirst(4)
                    result.append(decoded)
                case .some(let plain) where plain == "\"" || plain == "\\" || plain == "/": result.append(plain)
                default: return nil
                }
            }
            return nil
        }
    }
}
