import Glibc

/// `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
package enum RetryAfter {
    package static func seconds(_ text: String) -> Double? {
        if let seconds = Decimal64.parse(text) { return Double(seconds) }
        // Sun, 06 Nov 1994 08:49:37 GMT
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let words = text.split(whereSeparator: { $0 == " " || $0 == ":" })
        guard words.count == 8, words[7] == "GMT", let month = months.firstIndex(of: String(words[2])) else {
            return nil
        }
        let numbers = [1, 3, 4, 5, 6].compactMap { Decimal64.parse(words[$0]) }
        // Four digits of a year, two of all else.
        guard numbers.count == 5, numbers[1] <= 9999, [0, 2, 3, 4].allSatisfy({ numbers[$0] <= 99 }) else { return nil }
        var parts = tm()
        parts.tm_mday = Int32(numbers[0])
        parts.tm_mon = Int32(month)
        parts.tm_year = Int32(numbers[1]) - 1900
        (parts.tm_hour, parts.tm_min, parts.tm_sec) = (Int32(numbers[2]), Int32(numbers[3]), Int32(numbers[4]))
        return max(0, Double(timegm(&parts)) - Double(time(nil)))
    }
}
