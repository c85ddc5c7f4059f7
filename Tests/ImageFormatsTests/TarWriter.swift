/// Writes tar archives no honest tool would write.
struct TarWriter {
    private(set) var bytes: [UInt8] = []

    mutating func add(
        _ name: String, type: Character = "0", mode: UInt32 = 0o644, link: String = "", content: [UInt8] = [],
        size: Int? = nil, mtime: Int = 1_600_000_000, pax: [(String, String)] = []
    ) {
        add(
            Array(name.utf8), type: type, mode: mode, link: Array(link.utf8), content: content, size: size,
            mtime: mtime,
            pax: pax)
    }

    mutating func add(
        _ name: [UInt8], type: Character = "0", mode: UInt32 = 0o644, link: [UInt8] = [], content: [UInt8] = [],
        size: Int? = nil, mtime: Int = 1_600_000_000, pax: [(String, String)] = []
    ) {
        if !pax.isEmpty {
            var records: [UInt8] = []
            for (key, value) in pax { records += TarWriter.record(key, Array(value.utf8)) }
            header(Array("pax".utf8), "x", 0o644, [], records.count, mtime)
            data(records)
        }
        header(name, type, mode, link, size ?? content.count, mtime)
        data(content)
    }

    mutating func gnuLongName(_ name: [UInt8], type: Character = "L") {
        header(Array("././@LongLink".utf8), type, 0o644, [], name.count + 1, 0)
        data(name + [0])
    }

    mutating func file(_ name: String, _ content: String) { add(name, content: Array(content.utf8)) }
    mutating func directory(_ name: String, mode: UInt32 = 0o755) { add(name, type: "5", mode: mode) }

    func finished() -> [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }

    static func record(_ key: String, _ value: [UInt8]) -> [UInt8] {
        let body = [UInt8(ascii: " ")] + Array(key.utf8) + [UInt8(ascii: "=")] + value + [10]
        var length = body.count
        while String(length).utf8.count + body.count != length { length = String(length).utf8.count + body.count }
        return Array(String(length).utf8) + body
    }

    private mutating func header(
        _ name: [UInt8], _ type: Character, _ mode: UInt32, _ link: [UInt8], _ size: Int, _ mtime: Int
    ) {
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ at: Int, _ value: [UInt8]) { block.replaceSubrange(at..<at + value.count, with: value) }
        func octal(_ value: Int, _ width: Int) -> [UInt8] {
            let digits = String(value, radix: 8)
            return Array((String(repeating: "0", count: max(0, width - 1 - digits.count)) + digits).utf8)
        }
        put(0, Array(name.prefix(100)))
        put(100, octal(Int(mode), 8))
        put(108, octal(0, 8))
        put(116, octal(0, 8))
        put(124, octal(size, 12))
        put(136, octal(mtime, 12))
        put(156, [type.asciiValue!])
        put(157, Array(link.prefix(100)))
        put(257, Array("ustar".utf8) + [0, 0x30, 0x30])
        put(148, [UInt8](repeating: 0x20, count: 8))
        let sum = block.reduce(0) { $0 + Int($1) }
        put(148, octal(sum, 7) + [0, 0x20])
        bytes += block
    }

    private mutating func data(_ content: [UInt8]) {
        bytes += content
        bytes += [UInt8](repeating: 0, count: (512 - content.count % 512) % 512)
    }
}
