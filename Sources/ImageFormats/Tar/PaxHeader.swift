/// The records of a pax extended header that change how an entry is read (POSIX pax, "Extended Header").
struct PaxHeader {
    var path: [UInt8]?
    var linkPath: [UInt8]?
    var size: Int64?
    var modified: TarEntry.Time?
    var userID: Int64?
    var groupID: Int64?
    var attributes: [(name: [UInt8], value: [UInt8])] = []
    var sparse = PaxSparse()

    /// Adds `length key=value\n` records.
    mutating func merge(_ bytes: [UInt8]) throws(ArchiveFault) {
        var at = 0
        while at < bytes.count {
            if bytes[at] == 0 { break }  // padding some writers count in
            var length = 0
            var cursor = at
            while cursor < bytes.count, (48...57).contains(bytes[cursor]), length < bytes.count {
                length = length * 10 + Int(bytes[cursor] - 48)
                cursor += 1
            }
            guard cursor > at, cursor < bytes.count, bytes[cursor] == 0x20, length <= bytes.count - at,
                length > cursor - at + 1, bytes[at + length - 1] == 10,
                let equals = bytes[(cursor + 1)..<(at + length)].firstIndex(of: UInt8(ascii: "="))
            else { throw ArchiveFault(.corrupt, "a malformed pax header") }
            let key = String(decoding: bytes[(cursor + 1)..<equals], as: UTF8.self)
            try take(key, Array(bytes[(equals + 1)..<(at + length - 1)]))
            at += length
        }
    }

    private mutating func take(_ key: String, _ value: [UInt8]) throws(ArchiveFault) {
        func number() throws(ArchiveFault) -> Int64 {
            guard let number = Int64(String(decoding: value, as: UTF8.self)) else {
                throw ArchiveFault(.corrupt, "pax record '\(key)' is not a number")
            }
            return number
        }
        switch key {
        case "path": path = try text(key, value)
        case "linkpath": linkPath = try text(key, value)
        case "size":
            size = try number()
            guard size! >= 0 else { throw ArchiveFault(.corrupt, "pax record 'size' is negative") }
            guard size! <= TarLimit.memberBytes else { throw ArchiveFault(.limit, "pax record 'size' is no file's") }
        case "uid": userID = try number()
        case "gid": groupID = try number()
        case "mtime": modified = try PaxHeader.time(value)
        case _ where key.hasPrefix("SCHILY.xattr."):
            let name = Array(key.utf8.dropFirst(13))
            if let known = attributes.firstIndex(where: { $0.name == name }) {
                attributes[known].value = value
            } else {
                attributes.append((name, value))
            }
            guard attributes.count <= TarLimit.attributes else {
                throw ArchiveFault(.limit, "more than \(TarLimit.attributes) extended attributes")
            }
        case _ where key.hasPrefix("GNU.sparse."): try sparse.take(String(key.dropFirst(11)), value)
        default: break
        }
    }

    private func text(_ key: String, _ value: [UInt8]) throws(ArchiveFault) -> [UInt8] {
        if value.contains(0) { throw ArchiveFault(.hostile, entry: value, "pax record '\(key)' holds a NUL") }
        return value
    }

    func apply(to entry: inout TarEntry) {
        if let path { entry.path = path }
        if let linkPath { entry.linkTarget = linkPath }
        if let modified { entry.modified = modified }
        if let userID { entry.userID = userID }
        if let groupID { entry.groupID = groupID }
        entry.attributes += attributes
    }

    /// `seconds[.fraction]`, possibly negative, to nanoseconds.
    static func time(_ value: [UInt8]) throws(ArchiveFault) -> TarEntry.Time {
        let parts = String(decoding: value, as: UTF8.self).split(separator: ".", maxSplits: 1)
        guard let whole = parts.first, let seconds = Int64(whole) else {
            throw ArchiveFault(.corrupt, "pax record 'mtime' is not a time")
        }
        var nanoseconds: Int64 = 0
        if parts.count == 2 {
            let digits = parts[1].prefix(9)
            guard parts[1].allSatisfy({ $0.isASCII && $0.isNumber }), let fraction = Int64(digits) else {
                throw ArchiveFault(.corrupt, "pax record 'mtime' is not a time")
            }
            nanoseconds = fraction
            for _ in digits.count..<9 { nanoseconds *= 10 }
        }
        if whole.hasPrefix("-"), nanoseconds > 0 {
            return TarEntry.Time(seconds: max(seconds, .min + 1) - 1, nanoseconds: 1_000_000_000 - nanoseconds)
        }
        return TarEntry.Time(seconds: seconds, nanoseconds: nanoseconds)
    }
}

/// The three ways pax archives describe holes (GNU tar's manual, "Storing Sparse Files"): 0.0 repeats
/// offset and numbytes, 0.1 lists both in one record, 1.0 puts the map in front of the data.
struct PaxSparse {
    private var major = 0
    private var name: [UInt8]?
    private var realSize: Int64?
    private var offset: Int64?
    private var segments: [TarEntry.Segment]?
    private(set) var isPresent = false

    mutating func take(_ key: String, _ value: [UInt8]) throws(ArchiveFault) {
        isPresent = true
        let text = String(decoding: value, as: UTF8.self)
        func number() throws(ArchiveFault) -> Int64 {
            guard let number = Int64(text), number >= 0 else {
                throw ArchiveFault(.corrupt, "pax record 'GNU.sparse.\(key)' is not a number")
            }
            return number
        }
        switch key {
        case "major": major = Int(try number())
        case "name": name = value
        case "realsize", "size": realSize = try number()
        case "offset": offset = try number()
        case "numbytes":
            guard let start = offset else { throw ArchiveFault(.corrupt, "a malformed sparse map") }
            segments = segments ?? []
            segments?.append(TarEntry.Segment(offset: start, length: try number()))
            offset = nil
        case "map":
            let numbers = text.split(separator: ",", omittingEmptySubsequences: false).map { Int64($0) ?? -1 }
            guard numbers.count % 2 == 0, numbers.allSatisfy({ $0 >= 0 }) else {
                throw ArchiveFault(.corrupt, "a malformed sparse map")
            }
            segments = stride(from: 0, to: numbers.count, by: 2).map {
                TarEntry.Segment(offset: numbers[$0], length: numbers[$0 + 1])
            }
        default: break
        }
        guard (segments?.count ?? 0) <= TarLimit.segments else {
            throw ArchiveFault(.limit, "a sparse file with too many holes")
        }
    }

    func apply(
        to entry: inout TarEntry, readMap: () throws(ArchiveFault) -> [TarEntry.Segment]
    ) throws(ArchiveFault) {
        if let name { entry.path = name }
        if let realSize {
            guard realSize <= TarLimit.memberBytes else {
                throw ArchiveFault(.limit, "a sparse file's size is no file's")
            }
            entry.size = realSize
        }
        entry.segments = major == 1 ? try readMap() : (segments ?? [])
    }
}
