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
}
