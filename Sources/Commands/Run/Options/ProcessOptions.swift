import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import LaunchPlan
import LinuxSystem
import Quantities

/// Process: the command, its terminal and its life.
struct ProcessOptions: ContainerOptionGroup {
    static let longNames = [
        "--entrypoint", "--interactive", "--tty", "--quiet", "--init", "--stop-signal", "--timeout", "--stop-timeout",
        "--detach", "--name", "--app",
    ]

    @Option(help: "Instead of the image's ENTRYPOINT; '' for none.") var entrypoint: String?
    @Flag(name: [.customShort("q"), .long], help: "No progress messages.") var quiet = false
    @Flag(name: [.customShort("i"), .long], help: "Accepted; standard input is always passed.") var interactive = false
    @Flag(
        name: [.customShort("t"), .long],
        help: "A terminal: the caller's, or with '--profile isolated' one of the container's own.")
    var tty = false
    @Flag(name: .customLong("init"), help: "An init as process 1 that reaps, in a pid namespace of its own.")
    var hasInit = false
    @Option(help: ArgumentHelp("What --timeout sends first (default: the image's, else TERM).", valueName: "signal"))
    var stopSignal: String?
    @Option(
        help: ArgumentHelp(
            "End the whole container after this time: 90, 1.5s, 10m, 2h30m. Exit 124.", valueName: "duration"))
    var timeout: String?
    @Option(help: ArgumentHelp("From --timeout's first signal to KILL (default 10s).", valueName: "duration"))
    var stopTimeout: String?
    @Flag(name: [.customShort("d"), .long], help: .hidden) var detach = false
    @Option(help: .hidden) var name: String?
    @Option(help: "An app of the image (SCIF): its runscript, its environment.") var app: String?

    /// `--entrypoint` also drops the image's CMD, as docker does.
    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        if let entrypoint {
            plan.entrypoint = entrypoint.isEmpty ? [] : [Array(entrypoint.utf8)]
            plan.command = []
        }
        try refuseDaemonOptions()
        if let app { try ImageApp(app, verb: context.verb).apply(to: &plan, of: context.image) }
        try applyTerminal(to: &plan, context)
        if let stopSignal, SignalName.number(stopSignal) == nil {
            throw Self.refused("--stop-signal \(stopSignal)", "is no signal: write a name (TERM, SIGINT) or a number")
        }
        // An image's own that means nothing here is no reason not to run.
        plan.stopSignalNumber =
            (stopSignal ?? String(decoding: plan.stopSignal, as: UTF8.self)).isEmpty
            ? nil : SignalName.number(stopSignal ?? String(decoding: plan.stopSignal, as: UTF8.self))
        // In a job the node's agent reaps, and the job's leader keeps its time.
        if context.isJob {
            if let timeout {
                throw Diagnostic(
                    DiagnosticCode("option-value"), "--timeout \(timeout)",
                    reasons: ["a parallel job is ended by its leader, not container by container"],
                    remedies: ["--time LIMIT (minutes, or 90s, 10m, 2h)"])
            }
            return
        }
        if let timeout { plan.timeout = try Self.milliseconds("--timeout", timeout) }
        if let stopTimeout { plan.grace = try Self.milliseconds("--stop-timeout", stopTimeout) }
        if hasInit || timeout != nil { plan.unshare |= UInt32(bitPattern: CloneFlags.newPID) }
    }

    private func refuseDaemonOptions() throws(Diagnostic) {
        if detach {
            throw Diagnostic(
                DiagnosticCode("no-daemon"), "--detach",
                reasons: ["no daemon would keep the container: it lives as long as the command that started it"],
                remedies: ["nohup trireme run … >out.log 2>&1 &", "or a batch job of the resource manager"])
        }
        if let name {
            throw Diagnostic(
                DiagnosticCode("no-daemon"), "--name \(name)",
                reasons: ["no daemon keeps names of containers; a container is its process"],
                remedies: ["leave it out; --hostname \(name) names the machine it sees"])
        }
    }

    private func applyTerminal(to plan: inout LaunchPlan, _ context: LaunchContext) throws(Diagnostic) {
        if interactive, tty, isatty(STDIN_FILENO) == 0 {
            throw Diagnostic(
                DiagnosticCode("no-terminal"), "-it", reasons: ["the input device is not a TTY"],
                remedies: ["leave out -t: standard input is passed without it"])
        }
        let isShell = context.verb == "shell" && isatty(STDIN_FILENO) == 1
        let hasOwnProcesses = plan.unshare & UInt32(bitPattern: CloneFlags.newPID) != 0
        if tty || isShell, !context.isJob, plan.options.contains(.minimalDevices), hasOwnProcesses {
            plan.options.insert(.ownTerminal)
        }
    }

    static func milliseconds(_ option: String, _ text: String) throws(Diagnostic) -> UInt32 {
        guard let value = TypedDuration.milliseconds(text, bare: .seconds), (1...Int(UInt32.max)).contains(value) else {
            throw refused(
                "\(option) \(text)", "is no time: write seconds (90, 1.5) or 250ms, 30s, 10m, 2h30m; at most 49 days")
        }
        return UInt32(value)
    }

    private static func refused(_ subject: String, _ reason: String) -> Diagnostic {
        Diagnostic(DiagnosticCode("option-value"), subject, reasons: [reason])
    }
}
