import ArgumentParser
import Diagnostics

/// What would happen, instead of doing it.
struct ExplainOptions: ParsableArguments {
    static let longNames = ["--dry-run", "--explain"]

    enum Subject: String, CaseIterable, ExpressibleByArgument { case env, mounts, launch }

    @Flag(help: "Print what would be started, and start nothing.") var dryRun = false
    @Option(help: "Print 'env' (every variable and who set it), 'mounts' or, of a job, 'launch', and start nothing.")
    var explain: Subject?

    var isAsked: Bool { dryRun || explain != nil }
}
