/// What an ELF file asks the dynamic linker for (elf(5)): enough to tell which MPI a program was linked with.
package struct DynamicSection: Equatable, Sendable {
    package var needed: [String] = []
    /// `DT_RUNPATH` and `DT_RPATH`, split.
    package var searchPaths: [String] = []

    private enum Limit {
        static let headers = 256
        static let entries = 4096
        static let nameBytes = 1024
    }

    /// Nil when `image` is no 64-bit little-endian ELF file, has no dynamic section, or is cut short.
    package init?(_ image: [UInt8]) {
        func number(_ at: Int, _ bytes: Int) -> Int? {
            guard at >= 0, at <= image.count - bytes else { return nil }
            var value: UInt64 = 0
            for i in (0..<bytes).reversed() { value = value << 8 | UInt64(image[at + i]) }
            return Int(exactly: value)
        }
        guard image.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]), let table = number(32, 8), let size = number(54, 2),
            let count = number(56, 2), size >= 56, count <= Limit.headers
        else { return nil }
        var loads: [(address: Int, offset: Int, bytes: Int)] = []
        var dynamic: (offset: Int, bytes: Int)?
        for i in 0..<count {
            let at = table + i * size
            guard let type = number(at, 4), let offset = number(at + 8, 8), let address = number(at + 16, 8),
                let bytes = number(at + 32, 8)
            else { return nil }
            if type == 1 { loads.append((address, offset, bytes)) }
            if type == 2 { dynamic = (offset, bytes) }
        }
        // Offsets are the file's own words: one beyond it must not be reckoned with.
        guard let dynamic, dynamic.offset <= image.count else { return nil }
        var names: [Int] = []
        var paths: [Int] = []
        var strings: Int?
        for i in 0..<min(dynamic.bytes / 16, Limit.entries) {
            guard let tag = number(dynamic.offset + i * 16, 8), let value = number(dynamic.offset + i * 16 + 8, 8)
            else { continue }
            switch tag {
            case 1: names.append(value)
            case 5:
                strings = loads.first { $0.address <= value && value - $0.address < $0.bytes }.map {
                    $0.offset &+ (value - $0.address)
                }
            case 15, 29: paths.append(value)
            default: break
            }
            if tag == 0 { break }
        }
        guard let strings else { return nil }
        func text(_ offset: Int) -> String? {
            guard offset >= 0, strings >= 0, strings < image.count, offset < image.count - strings else { return nil }
            return String(
                decoding: image[(strings + offset)...].prefix(Limit.nameBytes).prefix { $0 != 0 }, as: UTF8.self)
        }
        needed = names.compactMap(text)
        searchPaths = paths.compactMap(text).flatMap { $0.split(separator: ":").map(String.init) }
    }
}
