import Diagnostics
import Glibc
import ImageStore
import ResourceManagers

/// Bytes, rate and time left of long work: one line redrawn on a terminal, else a line every ten
/// seconds. What is over sooner than that says nothing but its result.
final class TransferProgress {
    private let verb: String
    private let isQuiet: Bool
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private let start = ContinuousClock.now
    private var lastShown = ContinuousClock.now
    private var isDrawn = false

    init(verb: String, isQuiet: Bool) {
        self.verb = verb
        self.isQuiet = isQuiet || !Self.isWanted
    }

    /// False in a batch job without a terminal: what its script writes is kept, and is the application's.
    static var isWanted: Bool { isatty(STDERR_FILENO) == 1 || !Detection.isInsideJob(.current) }

    /// Of `total` bytes, `done` are.
    func note(_ done: Int64, _ total: Int64) { note(done, total, detail: "") }

    func note(_ done: Int64, _ total: Int64, detail: String) {
        guard !isQuiet else { return }
        let now = ContinuousClock.now
        guard now - lastShown >= (isTerminal ? .milliseconds(200) : .seconds(10)) else { return }
        lastShown = now
        let elapsed = now - start
        let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
        let rate = Double(done) / max(seconds, 0.001)
        var line =
            "\(verb) \(ByteCount.text(done)) of \(ByteCount.text(total)), \(ByteCount.text(Int64(Int(saturating: rate))))/s"
        if rate > 0, total > done { line += ", \(Int(saturating: Double(total - done) / rate + 1)) s left" }
        line += detail
        if isTerminal {
            isDrawn = true
            Output.standard.write("\r\(line)\u{1B}[K", to: .progress)
        } else {
            Output.standard.line(line, to: .progress)
        }
    }

    /// Clears the line, so that results follow on a fresh one.
    func finish() {
        if isDrawn { Output.standard.write("\r\u{1B}[K", to: .progress) }
        isDrawn = false
    }
}

extension Int {
    /// The nearest there is: of sizes that others claim a rest can take longer than any number says.
    init(saturating value: Double) { self = value.isNaN ? 0 : Int(Swift.min(Swift.max(value, -0x1p62), 0x1p62)) }
}
