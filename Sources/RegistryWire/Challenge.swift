/// One challenge of a `WWW-Authenticate` header (RFC 9110, section 11.6.1).
package struct Challenge: Equatable, Sendable {
    /// Lower case: `bearer`, `basic`.
    package var scheme: String
    /// Names in lower case.
    package var parameters: [String: String]

    package init(scheme: String, parameters: [String: String] = [:]) {
        self.scheme = scheme
        self.parameters = parameters
    }

    /// All challenges of one header's value; what does not parse is left out.
    package static func parse(_ header: String) -> [Challenge] {
        var scanner = Scanner(Array(header.utf8))
        var challenges: [Challenge] = []
        while true {
            scanner.skip { $0 == UInt8(ascii: ",") || Scanner.isSpace($0) }
            guard let word = scanner.token() else {
                if scanner.isAtEnd { return challenges }
                scanner.advance()
                continue
            }
            let afterWord = scanner.position
            scanner.skip(Scanner.isSpace)
            if scanner.take(UInt8(ascii: "=")) {
                scanner.skip(Scanner.isSpace)
                let value = scanner.quotedString() ?? scanner.token() ?? ""
                if !challenges.isEmpty, challenges[challenges.count - 1].parameters[word.lowercased()] == nil {
                    challenges[challenges.count - 1].parameters[word.lowercased()] = value
                }
            } else {
                scanner.position = afterWord
                challenges.append(Challenge(scheme: word.lowercased()))
            }
        }
    }

    private struct Scanner {
        let bytes: [UInt8]
        var position = 0
        init(_ bytes: [UInt8]) { self.bytes = bytes }
        var isAtEnd: Bool { position >= bytes.count }
        mutating func advance() { position += 1 }
        static func isSpace(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 }
        mutating func skip(_ accepts: (UInt8) -> Bool) { while !isAtEnd, accepts(bytes[position]) { position += 1 } }

        mutating func take(_ byte: UInt8) -> Bool {
            guard !isAtEnd, bytes[position] == byte else { return false }
            position += 1
            return true
        }

        /// RFC 9110 `token`, and the characters of an unquoted URL, which some registries send.
        mutating func token() -> String? {
            let start = position
            skip { byte in
                switch byte {
                case 48...57, 65...90, 97...122: true
                default: "!#$%&'*+-.^_`|~:/".utf8.contains(byte)
                }
            }
            return start == position ? nil : String(decoding: bytes[start..<position], as: UTF8.self)
        }

        mutating func quotedString() -> String? {
            guard take(UInt8(ascii: "\"")) else { return nil }
            var text: [UInt8] = []
            while !isAtEnd {
                let byte = bytes[position]
                position += 1
                if byte == UInt8(ascii: "\"") { break }
                if byte == UInt8(ascii: "\\"), !isAtEnd {
                    text.append(bytes[position])
                    position += 1
                } else {
                    text.append(byte)
                }
            }
            return String(decoding: text, as: UTF8.self)
        }
    }
}
