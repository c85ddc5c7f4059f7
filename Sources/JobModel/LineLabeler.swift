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
    package mutating func add(_ bytes: some Collection<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        for byte in bytes {
            pending.append(byte)
            if byte == UInt8(ascii: "\n") || pending.count >= Self.lineLimit {
                result += label
                result += pending
                if byte != UInt8(ascii: "\n") { result.append(UInt8(ascii: "\n")) }
                pending.removeAll(keepingCapacity: true)
            }
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
