import ArgumentParser
import CLinux
import Diagnostics
import Glibc

/// A verb whose last words are an application's.
protocol PassesWords: ParsableCommand {
    /// The image, then the command.
    var words: [String] { get set }
}

/// `trireme run`: what the small launcher does not do itself, above all jobs of several ranks.
package struct RunCommand: PassesWords {
    package static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run a command in a container; with -n or -N, a parallel job.",
        usage: "trireme run [<options>] <image> [<command> [<argument> ...]]",
        discussion: """
            Everything after IMAGE goes to the application byte for byte. With -n, -N or --ntasks-per-node the \
            command becomes a parallel job over the Slurm allocation this process stands in, or over a fresh one \
            of the virtual cluster named with --cluster.
            """)

    @OptionGroup var options: RunOptions
    @Argument(parsing: .captureForPassthrough, help: "The image, then the command.") var words: [String] = []

    package init() {}

    package func run() throws {
        try refuseOptionWords(words, RunCommand.self)
        var request = RunRequest(options, verb: "run", wordCount: words.count)
        let status = try request.execute()
        if status != 0 { throw ArgumentParser.ExitCode(status) }
    }
}

/// `trireme exec`: like `run`, without the image's ENTRYPOINT.
package struct ExecCommand: PassesWords {
    package static let configuration = CommandConfiguration(
        commandName: "exec", abstract: "Run a command in a container, without the image's ENTRYPOINT.",
        usage: "trireme exec [<options>] <image> <command> [<argument> ...]")

    @OptionGroup var options: RunOptions
    @Argument(parsing: .captureForPassthrough, help: "The image, then the command.") var words: [String] = []

    package init() {}

    package func run() throws {
        try refuseOptionWords(words, ExecCommand.self)
        var request = RunRequest(options, verb: "exec", wordCount: words.count)
        let status = try request.execute()
        if status != 0 { throw ArgumentParser.ExitCode(status) }
    }
}

/// `trireme shell`: an interactive shell in a container.
package struct ShellCommand: PassesWords {
    package static let configuration = CommandConfiguration(
        commandName: "shell", abstract: "An interactive shell in a container.",
        usage: "trireme shell [<options>] <image>")

    @OptionGroup var options: RunOptions
    @Argument(parsing: .captureForPassthrough, help: "The image.") var words: [String] = []

    package init() {}

    package func run() throws {
        try refuseOptionWords(words, ShellCommand.self)
        var request = RunRequest(options, verb: "shell", wordCount: words.count)
        let status = try request.execute()
        if status != 0 { throw ArgumentParser.ExitCode(status) }
    }
}

/// Captured words begin with the image; an option in its place is one we do not have, or a call for help.
private func refuseOptionWords(_ words: [String], _ command: any ParsableCommand.Type) throws {
    guard let first = words.first, first.hasPrefix("-"), first != "--" else { return }
    if first == "--help" || first == "-h" { throw CleanExit.helpRequest(command) }
    if first.hasPrefix("--plan-fd") {
        // The launcher was here before, with a plan (`SingleRun`): what it sent back concerns jobs alone.
        throw Diagnostic(
            DiagnosticCode("option-unknown"), "trireme \(command.configuration.commandName ?? "run")",
            reasons: ["an option given makes sense only for a parallel job, or has a value it cannot have"],
            remedies: ["add -n RANKS to make it a parallel job", "trireme run --help"])
    }
    let name = String(first.prefix { $0 != "=" })
    throw Diagnostic(
        DiagnosticCode("option-unknown"), name,
        reasons: ["is not an option of 'trireme \(command.configuration.commandName ?? "run")'"],
        remedies: NearMiss.nearest(to: name, among: RunOptions.longNames).map { "did you mean \($0)?" }
            + ["trireme \(command.configuration.commandName ?? "run") --help"])
}
