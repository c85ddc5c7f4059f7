/// The wire's rules without its sockets. PMI-1 is lines; only those of barriers matter here.
package struct PMIRelayEngine {
    private var fromRankRest: [UInt8] = []
    private var fromLauncherRest: [UInt8] = []
    private var held: [UInt8] = []
    package private(set) var isInBarrier = false
    private var isReleased = false
    private var barriersDone = 0

    /// How this launcher says it: Hydra nothing more, Slurm with ` rc=0`.
    private var leaveLine: [UInt8] = []

    private static let enter = Array("cmd=barrier_in".utf8)
    private static let leave = Array("cmd=barrier_out".utf8)
    private static let greeting = Array("cmd=response_to_init pmi_version=2".utf8)

    /// The two agreed on PMI-2, which puts lengths in front of words instead of newlines behind them.
    private var isAnotherProtocol = false

    package init() {}

    /// The rank sits in a barrier, and not its first, which is always part of MPI_Init.
    package var isWaiting: Bool { isInBarrier && !isReleased && barriersDone > 0 }

    /// What goes on to the launcher.
    package mutating func fromRank(_ bytes: [UInt8]) -> [UInt8] {
        if isReleased {
            held += bytes
            return []
        }
        if isAnotherProtocol { return bytes }
        for line in Self.lines(&fromRankRest, bytes) where line.starts(with: Self.enter) { isInBarrier = true }
        return bytes
    }

    /// What goes on to the rank, and what was held for the launcher.
    package mutating func fromLauncher(_ bytes: [UInt8]) -> (rank: [UInt8], launcher: [UInt8]) {
        if isAnotherProtocol { return (bytes, []) }
        var rank: [UInt8] = []
        var launcher: [UInt8] = []
        for line in Self.lines(&fromLauncherRest, bytes) {
            if line.starts(with: Self.greeting) { isAnotherProtocol = true }
            guard line.starts(with: Self.leave) else {
                rank += line
                continue
            }
            isInBarrier = false
            barriersDone += 1
            leaveLine = line
            if isReleased {
                isReleased = false
                let waiting = held
                held = []
                launcher += fromRank(waiting)
            } else {
                rank += line
            }
        }
        if isAnotherProtocol {
            rank += fromLauncherRest
            fromLauncherRest = []
        }
        return (rank, launcher)
    }

    /// Ends the rank's barrier for the rank alone.
    package mutating func release() -> [UInt8] {
        guard isWaiting else { return [] }
        isReleased = true
        return leaveLine
    }

    /// The whole lines of `rest` and `bytes`, newlines included.
    private static func lines(_ rest: inout [UInt8], _ bytes: [UInt8]) -> [[UInt8]] {
        rest += bytes
        var lines: [[UInt8]] = []
        var start = 0
        while let end = rest[start...].firstIndex(of: UInt8(ascii: "\n")) {
            lines.append(Array(rest[start...end]))
            start = end + 1
        }
        rest.removeFirst(start)
        return lines
    }
}
