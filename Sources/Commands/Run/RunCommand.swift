import ArgumentParser
import CLinux
import Diagnostics
import Glibc

/// `trireme run`: what the small launcher does not do itself, above all jobs of several ranks.
package struct RunCommand: ParsableCommand {
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
        let status = try RunRequest(options, verb: "run", wordCount: words.count).execute()
        if status != 0 { throw ArgumentParser.ExitCode(status) }
    }
}

/// `trireme exec`: like `run`, without the image's ENTRYPOINT.
package struct ExecCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "exec", abstract: "Run a command in a container, without the image's ENTRYPOINT.",
        usage: "trireme exec [<options>] <image> <command> [<argument> ...]")

    @OptionGroup var options: RunOptions
    @Argument(parsing: .captureForPassthrough, help: "The image, then the command.") var words: [String] = []

    package init() {}

    package func run() throws {
        try refuseOptionWords(words, ExecCommand.self)
        let status = try RunRequest(options, verb: "exec", wordCount: words.count).execute()
        if status != 0 { throw ArgumentParser.ExitCode(status) }
    }
}

/// `trireme shell`: an interactive shell in a container.
package struct ShellCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "shell", abstract: "An interactive shell in a container.",
        usage: "trireme shell [<options>] <image>")

    @OptionGroup var options: RunOptions
    @Argument(parsing: .captureForPassthrough, help: "The image.") var words: [String] = []

    package init() {}

    package func run() throws {
        try refuseOptionWords(words, ShellCommand.self)
        let status = try RunRequest(options, verb: "shell", wordCount: words.count).execute()
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

/// The options of `run` as they were typed.
struct RunOptions: ParsableArguments {
    /// Their long spellings, for near misses.
    static let longNames = [
        "--ntasks", "--nodes", "--ntasks-per-node", "--model", "--launcher", "--mpi", "--cluster", "--label-io",
        "--grace", "--join-timeout", "--port", "--bind", "--volume", "--env", "--workdir", "--entrypoint", "--user",
        "--home", "--no-home", "--writable-tmpfs", "--read-only", "--clean-env", "--quiet", "--interactive", "--tty",
        "--help",
    ]

    @Option(name: [.customShort("n"), .long], help: "Ranks of a parallel job.") var ntasks: Int?
    @Option(name: [.customShort("N"), .long], help: "Nodes of a parallel job.") var nodes: Int?
    @Option(help: "Ranks per node.") var ntasksPerNode: Int?
    @Option(help: "Who shares a container: 'node' (all ranks of a node) or 'rank'.") var model: String = "node"
    @Option(help: "What starts the ranks: auto, direct, mpirun, srun.") var launcher: String = "auto"
    @Option(help: "With --model rank: auto, pmi2, pmix, none.") var mpi: String = "auto"
    @Option(help: "Run the job in this virtual cluster.") var cluster: String?
    @Flag(name: [.customShort("l"), .long], help: "Put 'RANK: ' in front of every output line.") var labelIo = false
    @Option(help: "Seconds between TERM and KILL when a job is stopped.") var grace: Int = 5
    @Option(help: "Seconds to wait until every node has joined the job.") var joinTimeout: Int = 120
    @Option(help: "TCP port the job's nodes report to (default: a free one).") var port: Int = 0
    @Option(name: [.customShort("B"), .customShort("v"), .long, .customLong("volume")], help: "SRC[:DST[:ro]]")
    var bind: [String] = []
    @Option(name: [.customShort("e"), .long], help: "K=V, or K to pass the caller's.") var env: [String] = []
    @Option(name: [.customShort("w"), .long], help: "Start directory.") var workdir: String?
    @Option(help: "Instead of the image's ENTRYPOINT; '' for none.") var entrypoint: String?
    @Option(help: "'image' shows the image's USER inside.") var user: String?
    @Option(help: "'none' leaves the home directory out.") var home: String?
    @Flag(help: "The same as --home none.") var noHome = false
    @Flag(help: "A writable root that vanishes with the container.") var writableTmpfs = false
    @Flag(help: "A read-only root (the default).") var readOnly = false
    @Flag(help: "Pass nothing of the caller's environment.") var cleanEnv = false
    @Flag(name: [.customShort("q"), .long], help: "No progress messages.") var quiet = false
    @Flag(name: [.customShort("i"), .long], help: "Accepted; standard input is always passed.") var interactive = false
    @Flag(name: [.customShort("t"), .long], help: "Accepted; the terminal is the caller's.") var tty = false
}
