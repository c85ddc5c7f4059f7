import ArgumentParser
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import RegistryClient

/// `-q`
package struct ProgressOptions: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Print the name only.") var quiet = false
    package init() {}
    var report: TransferReport { TransferReport(isQuiet: quiet) }
}

/// Progress of a pull or a push on standard error: a live line per layer on a terminal, else a line
/// at most every ten seconds.
final class TransferReport {
    private let isQuiet: Bool
    private let isTerminal = isatty(STDERR_FILENO) == 1 && getenv("TERM").map { String(cString: $0) } != "dumb"
    private var layers: [Layer] = []
    private var drawnLines = 0
    private var started = TransferReport.now()
    private var saidAt = TransferReport.now()

    private struct Layer {
        var number: Int
        var of: Int
        var bytes: Int64
        var done: Int64 = 0
        var wasPresent: Bool
    }

    private enum Limit {
        static let lineSeconds = 10.0
        static let drawSeconds = 0.2
        static let drawnLayers = 12
    }

    init(isQuiet: Bool) { self.isQuiet = isQuiet || !TransferProgress.isWanted }

    /// Seconds of the monotonic clock.
    private static func now() -> Double { Double(MonotonicTime.nanoseconds()) / 1e9 }

    func note(_ event: TransferEvent) {
        guard !isQuiet else { return }
        switch event {
        case .waiting(let name): say("another process pulls \(name): waiting for it")
        case .resolved(let host, let digest): say("\(host): \(digest)")
        case .load(.layer(let number, let count, let bytes, let wasPresent)):
            if number == 1 { layers = [] }
            layers.append(
                Layer(number: number, of: count, bytes: bytes, done: wasPresent ? bytes : 0, wasPresent: wasPresent))
            if number == count { draw(isForced: true) }
        case .load(.bytes(let states)):
            for state in states {
                guard let index = layers.firstIndex(where: { $0.number == state.number }) else { continue }
                layers[index].done = state.read
            }
            draw(isForced: false)
        case .load(.summary(let summary)):
            draw(isForced: true)
            drawnLines = 0
            note(summary)
        case .keptElsewhere(let layers):
            if layers > 0 { say("layers that may not be handed on stay where they are: \(layers)") }
        case .upload(let number, let count, let sent, let bytes, let wasPresent):
            let layer = Layer(number: number, of: count, bytes: bytes, done: sent, wasPresent: wasPresent)
            if let index = layers.firstIndex(where: { $0.number == number }) {
                layers[index] = layer
            } else {
                layers.append(layer)
            }
            draw(isForced: false)
        }
    }

    /// What is drawn stays; what comes next stands below.
    func end() {
        if isTerminal, !isQuiet, drawnLines > 0 { draw(isForced: true) }
        drawnLines = 0
    }

    private func note(_ summary: ExtractionSummary) {
        if summary.skippedDevices > 0 {
            say("note: \(summary.skippedDevices) device nodes and FIFOs were left out; containers get the host's /dev")
        }
        if summary.droppedAttributes > 0 {
            say("note: \(summary.droppedAttributes) extended attributes (file capabilities and the like) were left out")
        }
    }

    private func say(_ text: String) {
        drawnLines = 0
        Output.standard.line(text, to: .progress)
    }

    private func draw(isForced: Bool) {
        let now = TransferReport.now()
        guard isTerminal else {
            let total = layers.reduce(0) { $0 + $1.bytes }
            guard now - saidAt >= Limit.lineSeconds, total > 0 else { return }
            saidAt = now
            Output.standard.line(
                TransferReport.line("", layers.reduce(0) { $0 + $1.done }, total, now - started), to: .progress)
            return
        }
        guard isForced || now - saidAt >= Limit.drawSeconds else { return }
        saidAt = now
        // Back over what was drawn last, each line cleared as it is written anew.
        var text = drawnLines > 0 ? "\u{1B}[\(drawnLines)A" : ""
        let shown = shownLayers
        for layer in shown {
            let name = "layer \(layer.number) of \(layer.of): "
            let state =
                layer.wasPresent
                ? name + "\(ByteCount.text(layer.bytes)), already there"
                : TransferReport.line(name, layer.done, layer.bytes, now - started)
            text += "\u{1B}[2K" + state + "\n"
        }
        drawnLines = shown.count
        Output.standard.write(text, to: .progress)
    }

    /// All of few; of many those in progress, and as many lines each time, so that nothing jumps.
    private var shownLayers: [Layer] {
        guard layers.count > Limit.drawnLayers else { return layers }
        let busy = layers.filter { $0.done < $0.bytes }
        let rest = layers.filter { $0.done >= $0.bytes }.suffix(max(0, Limit.drawnLayers - busy.count))
        return (rest + busy.prefix(Limit.drawnLayers)).sorted { $0.number < $1.number }
    }

    /// `12MB of 40MB, 20MB/s, 1 s left`
    private static func line(_ name: String, _ done: Int64, _ total: Int64, _ seconds: Double) -> String {
        var text = "\(name)\(ByteCount.text(done)) of \(ByteCount.text(total))"
        guard seconds > 0.5, done > 0 else { return text }
        let rate = Double(done) / seconds
        text += ", \(ByteCount.text(Int64(Int(saturating: rate))))/s"
        if done < total { text += ", \(Int(saturating: (Double(total - done) / rate).rounded(.up))) s left" }
        return text
    }
}
