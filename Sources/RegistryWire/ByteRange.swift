/// One range of a `Range` header; several are answered with the whole (RFC 9110, section 14.2).
package enum ByteRange: Equatable, Sendable {
    case part(Range<Int64>)
    case unsatisfiable

    /// Nil for what is to be ignored. What reaches beyond any file is a range like others and ends with the content;
    /// a first byte beyond all numbers cannot be satisfied.
    ///
    /// - Parameter size: of the content, not negative.
    package static func parse(_ header: String, of size: Int64) -> ByteRange? {
        guard header.hasPrefix("bytes="), !header.contains(",") else { return nil }
        let ends = header.dropFirst(6).split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        guard ends.count == 2 else { return nil }
        if ends[0].isEmpty {
            guard let last = Decimal64.parse(ends[1]), last > 0 else { return nil }
            return size == 0 ? .unsatisfiable : .part(max(0, size - last)..<size)
        }
        guard let first = Decimal64.parse(ends[0]) else { return nil }
        if ends[1].isEmpty { return first >= size ? .unsatisfiable : .part(first..<size) }
        guard let last = Decimal64.parse(ends[1]), last >= first else { return nil }
        // The largest number has no successor, and no byte.
        guard first < size, last < .max else { return .unsatisfiable }
        return .part(first..<min(last + 1, size))
    }
}

/// Where a part of a content lies: `Content-Range` of an answer (`bytes 5-9/10`) and of a push (`5-9`), `Range` of an
/// upload's state (`0-9`).
package enum ContentRange {
    /// - Parameter header: nil gives nil.
    package static func start(_ header: String?) -> Int64? {
        guard let text = header else { return nil }
        return Decimal64.parse((text.hasPrefix("bytes ") ? text.dropFirst(6) : text[...]).prefix { $0 != "-" })
    }

    /// Of `bytes 0-0/1234`.
    package static func whole(_ header: String?) -> Int64? {
        guard let header, let slash = header.lastIndex(of: "/") else { return nil }
        return Decimal64.parse(header[header.index(after: slash)...])
    }

    /// The bytes an upload has, by its `Range: 0-LAST`. Nothing and one byte look alike there: both are nothing.
    package static func arrived(_ header: String?) -> Int64? {
        guard let header, let dash = header.firstIndex(of: "-"),
            let last = Decimal64.parse(header[header.index(after: dash)...])
        else { return nil }
        if last == 0 { return 0 }
        let (count, isBeyond) = last.addingReportingOverflow(1)
        return isBeyond ? nil : count
    }
}

/// Digits alone, as HTTP has them: no sign, no space (RFC 9110, section 5.6.2 and 14.1).
package enum Decimal64 {
    /// What is larger than any number here is the largest: a length that nothing has.
    package static func parse(_ text: some StringProtocol) -> Int64? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
        return Int64(text) ?? .max
    }
}
