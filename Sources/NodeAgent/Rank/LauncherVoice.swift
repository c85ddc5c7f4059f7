/// What an MPI launcher says itself, in whole lines, without the one line that is always false alarm.
///
/// Open MPI forks its remote shell and calls setpgid(2) for it from both sides; the parent's call
/// fails when the child has already executed, which is harmless, and says so every other time.
package struct LauncherVoice {
    private var pending: [UInt8] = []
    /// Of ORTE and of PRRTE, Open MPI's run-time layers until 4 and from 5 on.
    private static let falseAlarms = ["plm:rsh: Warning: setpgid(", "plm:ssh: Warning: setpgid("].map { Array($0.utf8) }
    private static let lineLimit = 64 << 10

    package init() {}

    /// The lines completed by `bytes`, worth showing.
    package mutating func add(_ bytes: [UInt8]) -> [UInt8] {
        pending += bytes
        guard
            let end = pending.lastIndex(of: UInt8(ascii: "\n"))
                ?? (pending.count > Self.lineLimit ? pending.count - 1 : nil)
        else { return [] }
        let lines = pending[...end].split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropLast()
        pending.removeFirst(end + 1)
        return lines.filter { !Self.isFalseAlarm($0) }.flatMap { $0 + [UInt8(ascii: "\n")] }
    }

    package mutating func finish() -> [UInt8] {
        defer { pending = [] }
        return Self.isFalseAlarm(pending[...]) ? [] : pending
    }

    private static func isFalseAlarm(_ line: ArraySlice<UInt8>) -> Bool {
        // `[host:pid] plm:rsh: …`
        guard line.first == UInt8(ascii: "["), let blank = line.firstIndex(of: UInt8(ascii: " ")) else { return false }
        let words = line[line.index(after: blank)...]
        return falseAlarms.contains { words.starts(with: $0) }
    }
}
