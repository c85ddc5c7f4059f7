import Glibc

/// Puts `R: ` in front of every line of one rank's stream, as `srun -l` does.
///
/// Only whole lines are handed on, so that lines of different ranks never mix;
/// a line without end is cut at `lineLimit` bytes, and `finish` gives the last one.
package struct LineLabeler: Sendable {
    private let label: [UInt8]
    private var pending: [UInt8] = []

    /// Bounds memory against a program that never ends its line.
    package static let lineLimit = 64 << 10

    package init(rank: Int) { label = Array("\(rank): ".utf8) }

    /// The labelled lines completed by `bytes`.
    package mutating func add(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count + bytes.count / 8 + pending.count + label.count)
        var rest = bytes[...]
        while !rest.isEmpty {
            // memchr, not a loop over bytes: this is the speed of a job's output.
            let window = UnsafeRawBufferPointer(rebasing: rest.prefix(Self.lineLimit - pending.count))
            let newline = memchr(window.baseAddress!, Int32(UInt8(ascii: "\n")), window.count)
            let taken = newline.map { UnsafeRawPointer($0) - window.baseAddress! + 1 } ?? window.count
            let isWhole = newline != nil || pending.count + taken == Self.lineLimit
            if isWhole {
                result += label
                result += pending
                pending.removeAll(keepingCapacity: true)
                result += window[..<taken]
                if newline == nil { result.append(UInt8(ascii: "\n")) }
            } else {
                pending += window
            }
            rest = rest.dropFirst(taken)
        }
        return result
    }

    /// The rest at end of file, given the newline it lacks.
    package mutating func finish() -> [UInt8] {
        if pending.isEmpty { return [] }
        defer { pending = [] }
        return label + pending + [UInt8(ascii: "\n")]
    }
}
