import FoundationEssentials

/// Times as docker's lists show them.
enum RelativeTime {
    /// `3 days ago`; the text itself when it is no RFC 3339 time, `N/A` when there is none.
    static func since(_ time: String?, now: Date = .now) -> String {
        guard let time else { return "N/A" }
        guard let date = date(time) else { return time }
        return words(Int(now.timeIntervalSince(date))) + " ago"
    }

    /// A time with or without a fraction of a second.
    static func date(_ time: String) -> Date? {
        let style = Date.ISO8601FormatStyle()
        if let date = try? style.parse(time) { return date }
        return try? Date.ISO8601FormatStyle(includingFractionalSeconds: true).parse(time)
    }

    /// docker's rounding (units.HumanDuration).
    static func words(_ seconds: Int) -> String {
        switch seconds {
        case ..<1: "Less than a second"
        case 1: "1 second"
        case ..<60: "\(seconds) seconds"
        case ..<120: "About a minute"
        case ..<(46 * 60): "\(seconds / 60) minutes"
        case ..<(90 * 60): "About an hour"
        case ..<(48 * 3600): "\((seconds + 1800) / 3600) hours"
        case ..<(14 * 86400): "\(seconds / 86400) days"
        case ..<(60 * 86400): "\(seconds / (7 * 86400)) weeks"
        case ..<(730 * 86400): "\(seconds / (30 * 86400)) months"
        default: "\(seconds / (365 * 86400)) years"
        }
    }

    /// `90s`, `15m`, `24h`, `30d`, `2w` or `0` as seconds; nil for what is none. A number alone is none: who types 30
    /// means days, and an option that removes images must not take them for seconds.
    static func seconds(_ text: String) -> Int? {
        if text == "0" { return 0 }
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800]
        guard let last = text.last, let unit = units[last], let count = Int(text.dropLast()), count >= 0 else {
            return nil
        }
        let (seconds, isTooLarge) = count.multipliedReportingOverflow(by: unit)
        return isTooLarge ? nil : seconds
    }
}

/// Sizes as people type them: `500M`, `2GiB`, `1.5g`.
enum TypedSize {
    /// Bytes; `K M G T` are powers of 1024 as docker's `--memory`, `kB MB GB TB` of 1000. Nil for what is none.
    static func bytes(_ text: String) -> Int64? {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let value = Double(digits), value.isFinite, value >= 0 else { return nil }
        var unit = text.dropFirst(digits.count).lowercased()
        if unit.hasSuffix("ib") { unit = String(unit.dropLast(2)) }
        let factors: [String: Double] = [
            "": 1, "b": 1, "k": 0x1p10, "m": 0x1p20, "g": 0x1p30, "t": 0x1p40, "kb": 1e3, "mb": 1e6, "gb": 1e9,
            "tb": 1e12,
        ]
        guard let factor = factors[unit], value * factor < 0x1p62 else { return nil }
        return Int64(value * factor)
    }
}
