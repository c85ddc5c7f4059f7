/// What an ELF file says to the dynamic linker (elf(5)), read piece by piece: driver libraries have
/// hundreds of megabytes, and the answers lie in a few pages of them.
package struct ElfFacts: Equatable, Sendable {
    package var is64Bit: Bool
    package var isLittleEndian: Bool
    /// e_machine: 62 is x86-64, 183 AArch64.
    package var machine: UInt16
    package var soname: String?
    package var needed: [String] = []
    /// `DT_RUNPATH` and `DT_RPATH`, split.
    package var searchPaths: [String] = []
    /// Symbol versions asked of each library, by its soname (`libc.so.6` -> `GLIBC_2.34`).
    package var neededVersions: [String: Set<String>] = [:]
    /// Symbol versions the file offers.
    package var definedVersions: Set<String> = []

    private enum Limit {
        static let headers = 256
        static let entries = 4096
        static let nameBytes = 1024
        static let versions = 4096
    }

    /// Dynamic tags and segment types of elf.h.
    private enum Tag {
        static let needed = 1
        static let strings = 5
        static let soname = 14
        static let rpath = 15
        static let runpath = 29
        static let versionsDefined = 0x6FFF_FFFC
        static let versionsNeeded = 0x6FFF_FFFE
    }

    /// Nil when the file is no ELF file or is cut short. Of a 32-bit or big-endian file only the kind is told.
    ///
    /// - Parameter read: `count` bytes from `offset`; fewer at the end of the file.
    package init?(reading read: (_ offset: Int, _ count: Int) -> [UInt8]) {
        let head = read(0, 64)
        guard head.count >= 20, head.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else { return nil }
        is64Bit = head[4] == 2
        isLittleEndian = head[5] == 1
        machine = isLittleEndian ? UInt16(head[18]) | UInt16(head[19]) << 8 : UInt16(head[18]) << 8 | UInt16(head[19])
        guard is64Bit, isLittleEndian else { return }
        let header = Bytes(head)
        guard let table = header.number(32, 8), let size = header.number(54, 2), let count = header.number(56, 2),
            size >= 56, count <= Limit.headers
        else { return nil }
        let segments = Bytes(read(table, size * count))
        var loads: [(address: Int, offset: Int, bytes: Int)] = []
        var dynamic: (offset: Int, bytes: Int)?
        for at in (0..<count).map({ $0 * size }) {
            guard let type = segments.number(at, 4), let offset = segments.number(at + 8, 8),
                let address = segments.number(at + 16, 8), let bytes = segments.number(at + 32, 8)
            else { return nil }
            if type == 1 { loads.append((address, offset, bytes)) }
            if type == 2 { dynamic = (offset, bytes) }
        }
        guard let dynamic else { return }
        func place(_ address: Int) -> Int? {
            loads.first { $0.address <= address && address - $0.address < $0.bytes }
                .flatMap { load in
                    let (sum, isTooLarge) = load.offset.addingReportingOverflow(address - load.address)
                    return isTooLarge ? nil : sum
                }
        }
        var entries: [(tag: Int, value: Int)] = []
        let section = Bytes(read(dynamic.offset, min(max(0, dynamic.bytes), Limit.entries * 16)))
        for at in stride(from: 0, to: section.count, by: 16) {
            guard let tag = section.number(at, 8), tag != 0 else { break }
            if let value = section.number(at + 8, 8) { entries.append((tag, value)) }
        }
        func address(_ tag: Int) -> Int? { entries.last { $0.tag == tag }.flatMap { place($0.value) } }
        guard let strings = address(Tag.strings) else { return nil }
        func text(_ offset: Int) -> String? {
            let (at, isTooLarge) = strings.addingReportingOverflow(offset)
            guard offset >= 0, !isTooLarge else { return nil }
            let bytes = read(at, Limit.nameBytes).prefix { $0 != 0 }
            return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
        }
        needed = entries.compactMap { $0.tag == Tag.needed ? text($0.value) : nil }
        soname = entries.last { $0.tag == Tag.soname }.flatMap { text($0.value) }
        searchPaths = entries.compactMap { $0.tag == Tag.rpath || $0.tag == Tag.runpath ? text($0.value) : nil }
            .flatMap { $0.split(separator: ":").map(String.init) }
        if let at = address(Tag.versionsNeeded) { readNeededVersions(at, read, text) }
        if let at = address(Tag.versionsDefined) { readDefinedVersions(at, read, text) }
    }

    /// Chains of Elf64_Verneed, each with a chain of Elf64_Vernaux; both of 16 bytes.
    private mutating func readNeededVersions(
        _ start: Int, _ read: (Int, Int) -> [UInt8], _ text: (Int) -> String?
    ) {
        var left = Limit.versions
        var at = start
        while left > 0 {
            left -= 1
            let file = Bytes(read(at, 16))
            guard let count = file.number(2, 2), let name = file.number(4, 4), let first = file.number(8, 4),
                let next = file.number(12, 4), let library = text(name)
            else { return }
            var auxiliary = at + first
            for _ in 0..<count where left > 0 {
                left -= 1
                let entry = Bytes(read(auxiliary, 16))
                guard let name = entry.number(8, 4), let step = entry.number(12, 4), let version = text(name) else {
                    return
                }
                neededVersions[library, default: []].insert(version)
                if step == 0 { break }
                auxiliary += step
            }
            if next == 0 { return }
            at += next
        }
    }

    /// A chain of Elf64_Verdef (20 bytes); the first Elf64_Verdaux of each is its name.
    private mutating func readDefinedVersions(
        _ start: Int, _ read: (Int, Int) -> [UInt8], _ text: (Int) -> String?
    ) {
        var at = start
        for _ in 0..<Limit.versions {
            let entry = Bytes(read(at, 20))
            guard let first = entry.number(12, 4), let next = entry.number(16, 4),
                let name = Bytes(read(at + first, 4)).number(0, 4)
            else { return }
            if let version = text(name) { definedVersions.insert(version) }
            if next == 0 { return }
            at += next
        }
    }

    /// Little-endian numbers at checked places.
    private struct Bytes {
        private let bytes: [UInt8]
        var count: Int { bytes.count }
        init(_ bytes: [UInt8]) { self.bytes = bytes }
        func number(_ at: Int, _ size: Int) -> Int? {
            guard at >= 0, bytes.count >= size, at <= bytes.count - size else { return nil }
            var value: UInt64 = 0
            for i in (0..<size).reversed() { value = value << 8 | UInt64(bytes[at + i]) }
            return Int(exactly: value)
        }
    }
}

extension ElfFacts {
    /// Of a whole file in memory.
    package init?(_ image: [UInt8]) {
        self.init { offset, count in
            guard offset >= 0, offset < image.count, count > 0 else { return [] }
            return Array(image[offset..<min(image.count, offset + min(count, image.count))])
        }
    }

    /// The newest GLIBC version the file asks of any library.
    package var neededGlibc: GlibcVersion? {
        neededVersions.values.joined().compactMap { GlibcVersion(symbol: $0) }.max()
    }
    /// The newest GLIBC version the file offers: of `libc.so.6`, its release.
    package var definedGlibc: GlibcVersion? { definedVersions.compactMap { GlibcVersion(symbol: $0) }.max() }
}

/// A release of the GNU C library as symbol versions name it (`GLIBC_2.34`).
package struct GlibcVersion: Comparable, Hashable, Sendable, CustomStringConvertible {
    package var major: Int
    package var minor: Int
    package var patch: Int

    /// Nil for `GLIBC_PRIVATE`, `GCC_3.0`, …
    package init?(symbol: String) {
        guard symbol.hasPrefix("GLIBC_") else { return nil }
        let parts = symbol.dropFirst(6).split(separator: ".").map { Int($0) }
        guard (2...3).contains(parts.count), let major = parts[0], let minor = parts[1] else { return nil }
        self.major = major
        self.minor = minor
        patch = parts.count == 3 ? parts[2] ?? 0 : 0
    }
    package var description: String { patch == 0 ? "\(major).\(minor)" : "\(major).\(minor).\(patch)" }
    package static func < (a: Self, b: Self) -> Bool {
        (a.major, a.minor, a.patch) < (b.major, b.minor, b.patch)
    }
}
