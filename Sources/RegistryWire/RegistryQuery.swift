/// The query of a request to a registry.
package struct RegistryQuery: Sendable {
    private var values: [String: String] = [:]

    package init(_ text: String) {
        for pair in text.split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            values[PercentEncoding.decoded(parts[0])] = parts.count > 1 ? PercentEncoding.decoded(parts[1]) : ""
        }
    }

    package subscript(name: String) -> String? { values[name] }

    /// `n` items after `last`, and the query of the next page (distribution-spec, "Listing Tags").
    package func page(_ all: [String]) -> (items: [String], next: String?) {
        var items = all[...]
        if let last = self["last"] {
            items = items.drop { !Array(last.utf8).lexicographicallyPrecedes(Array($0.utf8)) }
        }
        guard let limit = self["n"].flatMap({ Int($0) }), limit >= 0, items.count > limit else {
            return (Array(items), nil)
        }
        let page = Array(items.prefix(limit))
        return (page, page.last.map { "n=\(limit)&last=\(PercentEncoding.encoded($0))" })
    }
}

/// Percent encoding of URLs (RFC 3986, section 2.1).
package enum PercentEncoding {
    /// `%2F` and the like resolved; what is malformed stays as it is.
    package static func decoded(_ text: some StringProtocol) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), let value = hexadecimal(rest.prefix(2)) {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Two digits; a sign, which number parsers take, is none.
    private static func hexadecimal(_ digits: ArraySlice<UInt8>) -> UInt8? {
        guard digits.count == 2 else { return nil }
        var value: UInt8 = 0
        for digit in digits {
            switch digit {
            case 48...57: value = value << 4 | (digit - 48)
            case 65...70: value = value << 4 | (digit - 55)
            case 97...102: value = value << 4 | (digit - 87)
            default: return nil
            }
        }
        return value
    }

    /// For a query or a form: everything but the unreserved characters is escaped.
    package static func encoded(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 48...57, 65...90, 97...122, 45, 46, 95, 126: result.unicodeScalars.append(Unicode.Scalar(byte))
            default: result += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return result
    }
}
