import Glibc
import ImageFormats
import LinuxSystem

/// What an ELF file says it needs of the machine (elf(5), `PT_NOTE`): the oldest kernel (Linux Standard Base,
/// "ABI note tag") and the processor's level (x86-64 psABI, `GNU_PROPERTY_X86_ISA_1_NEEDED`).
package struct ElfNotes: Equatable, Sendable {
    package var kernel: KernelVersion?
    /// 1 to 4 as in x86-64-v4; nil when the file does not say, or is for another kind of processor.
    package var level: Int?
    /// e_machine.
    package var machine: UInt16

    private enum Kind {
        static let note: UInt64 = 4
        static let abiTag: UInt64 = 1
        static let properties: UInt64 = 5
        static let x86Needed: UInt64 = 0xC000_8002
    }
    private enum Limit {
        static let headers = 256
        static let noteBytes = 64 << 10
    }

    /// Nil when the file is no 64-bit little-endian ELF file or is cut short.
    ///
    /// - Parameter read: `count` bytes from `offset`; fewer at the end of the file.
    package init?(reading read: (_ offset: Int, _ count: Int) -> [UInt8]) {
        let head = read(0, 64)
        guard head.count == 64, head.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) else { return nil }
        machine = UInt16(head[18]) | UInt16(head[19]) << 8
        guard let table = Int(exactly: head.number(32, 8) ?? 0), let size = head.number(54, 2).map(Int.init),
            let count = head.number(56, 2).map(Int.init), size >= 56, count <= Limit.headers
        else { return nil }
        let segments = read(table, size * count)
        for at in stride(from: 0, to: min(segments.count, size * count), by: size) {
            guard segments.number(at, 4) == Kind.note,
                let offset = segments.number(at + 8, 8).flatMap(Int.init(exactly:)),
                let bytes = segments.number(at + 32, 8).flatMap(Int.init(exactly:)),
                let align = segments.number(at + 48, 8)
            else { continue }
            take(read(offset, min(bytes, Limit.noteBytes)), alignment: align == 8 ? 8 : 4)
        }
    }

    /// Notes one after the other: sizes of name and content, type, name, content.
    private mutating func take(_ notes: [UInt8], alignment: Int) {
        func aligned(_ n: Int, _ to: Int) -> Int { (n + to - 1) / to * to }
        var at = 0
        while let nameBytes = notes.number(at, 4).map(Int.init), let bytes = notes.number(at + 4, 4).map(Int.init),
            let type = notes.number(at + 8, 4)
        {
            let content = aligned(at + 12 + nameBytes, alignment)
            guard content + bytes <= notes.count else { return }
            if nameBytes == 4, notes[(at + 12)..<(at + 16)].elementsEqual(Array("GNU\0".utf8)) {
                let piece = Array(notes[content..<(content + bytes)])
                if type == Kind.abiTag { takeKernel(piece) }
                if type == Kind.properties { takeProperties(piece) }
            }
            at = aligned(content + bytes, alignment)
        }
    }

    private mutating func takeKernel(_ note: [UInt8]) {
        // The first word is the system, 0 for Linux.
        guard note.number(0, 4) == 0, let major = note.number(4, 4), let minor = note.number(8, 4),
            let patch = note.number(12, 4)
        else { return }
        kernel = KernelVersion(Int(major), Int(minor), Int(patch))
    }

    private mutating func takeProperties(_ note: [UInt8]) {
        var at = 0
        while let type = note.number(at, 4), let bytes = note.number(at + 4, 4).map(Int.init) {
            if type == Kind.x86Needed, machine == 62, bytes == 4, let bits = note.number(at + 8, 4), bits != 0 {
                level = 64 - bits.leadingZeroBitCount
            }
            at += 8 + (bytes + 7) / 8 * 8
        }
    }
}

extension ElfNotes {
    /// Of a file in an image; nil when it is none or no ELF file.
    package init?(_ path: String, in tree: MergedTree) {
        guard let file = tree.open(path) else { return nil }
        let raw = file.raw
        self.init { ElfFacts.bytes(of: raw, $0, $1) }
    }
}

extension [UInt8] {
    /// A little-endian number; nil beyond the end.
    fileprivate func number(_ at: Int, _ size: Int) -> UInt64? {
        guard at >= 0, at <= count - size else { return nil }
        return (0..<size).reversed().reduce(0) { $0 << 8 | UInt64(self[at + $1]) }
    }
}

/// `6.1.0` of `6.1.0-13-amd64`.
package struct KernelVersion: Comparable, Sendable, CustomStringConvertible {
    package var parts: [Int]
    package init(_ major: Int, _ minor: Int, _ patch: Int) { parts = [major, minor, patch] }

    /// From uname(2)'s release, or a driver's version.
    package init?(_ release: String) {
        let numbers = release.prefix { $0.isNumber || $0 == "." }.split(separator: ".").map { Int($0) ?? 0 }
        guard let major = numbers.first else { return nil }
        self.init(major, numbers.count > 1 ? numbers[1] : 0, numbers.count > 2 ? numbers[2] : 0)
    }
    package var description: String { parts.map(String.init).joined(separator: ".") }
    package static func < (a: Self, b: Self) -> Bool { a.parts.lexicographicallyPrecedes(b.parts) }
}

/// The levels of x86-64 (psABI, "Micro-Architecture Levels") by what `/proc/cpuinfo` calls their features.
package enum ProcessorLevel {
    private static let features: [[String]] = [
        ["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"],
        ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"],
        ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"],
    ]

    /// Nil when the text does not say.
    package static func level(cpuinfo text: String) -> Int? {
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("flags") }) else { return nil }
        let flags = Set(line.split(whereSeparator: \.isWhitespace).map(String.init))
        var level = 1
        for wanted in features {
            guard wanted.allSatisfy(flags.contains) else { break }
            level += 1
        }
        return level
    }

    /// The features of `level` that the text does not list.
    package static func missing(_ level: Int, cpuinfo text: String) -> [String] {
        let flags = Set(text.split(whereSeparator: \.isWhitespace).map(String.init))
        return features.prefix(max(0, level - 1)).joined().filter { !flags.contains($0) }
    }
}
