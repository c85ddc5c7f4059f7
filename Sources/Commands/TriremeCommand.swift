import ArgumentParser
import Diagnostics
import Glibc
import LinuxSystem

/// The root of the command line. `trireme` itself runs `run`, `exec` and `shell`
/// of one container and hands everything else to `trireme-cli`, which starts here.
package struct TriremeCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "trireme",
        abstract: "Containers on HPC machines: run, images, jobs and virtual clusters, without root.",
        version: "trireme " + triremeVersion,
        subcommands: [
            RunCommand.self, ExecCommand.self, ShellCommand.self, ImageCommand.self, ImageLoad.self, ImageSave.self,
            ImagePullCommand.self, ImagePushCommand.self, ImagesShortcut.self, RemoveImageShortcut.self,
            LoginCommand.self, LogoutCommand.self, RegistryCommand.self,
            ClusterCommand.self, AllocCommand.self, JobCommand.self, JobProcesses.self, JobLogs.self, JobStats.self,
            DoctorCommand.self, CleanCommand.self, ExplainCommand.self,
        ])

    package init() {}

    /// Parses `arguments` (without the program's name), runs the verb and returns the exit status.
    package static func execute(_ arguments: [String]) -> Int32 {
        StandardDescriptors.occupy()
        let status = perform(arguments)
        guard status == Diagnostics.ExitCode.success, let failure = Output.failure else { return status }
        Output.standard.diagnose(Output.lost("the result of this command is lost", failure))
        return Diagnostics.ExitCode.ownFailure
    }

    private static func perform(_ arguments: [String]) -> Int32 {
        do {
            try refuseUnknownVerb(arguments)
            let line = try RunOptionWords.withValues(arguments)
            var command = try parseAsRoot(line.parsed)
            if var passing = command as? any PassesWords {
                passing.words += line.passed
                command = passing
            }
            try command.run()
            return Diagnostics.ExitCode.success
        } catch let diagnostic as Diagnostic {
            Output.standard.diagnose(diagnostic)
            return Diagnostics.ExitCode.ownFailure
        } catch let exit as ArgumentParser.ExitCode {
            return exit.rawValue
        } catch {
            guard exitCode(for: error) != .success else {
                Output.standard.line(fullMessage(for: error))
                return Diagnostics.ExitCode.success
            }
            Output.standard.diagnose(usage(message(for: error), arguments))
            return Diagnostics.ExitCode.ownFailure
        }
    }

    /// What ArgumentParser says, as everything else is said: `trireme: 'image ls': unknown option '--x' [usage]`.
    private static func usage(_ message: String, _ arguments: [String]) -> Diagnostic {
        var verbs: [String] = []
        var known = configuration.subcommands
        for word in arguments {
            guard
                let next = known.first(where: {
                    $0.configuration.commandName == word || $0.configuration.aliases.contains(word)
                })
            else { break }
            verbs.append(word)
            known = next.configuration.subcommands
        }
        var lines = message.split(separator: "\n").map { $0.trimmingPrefix { $0 == " " } }.map(String.init)
        var text = lines.isEmpty ? "the command line was not understood" : lines.removeFirst()
        var remedies: [String] = []
        // "Unknown option '--x'. Did you mean '--y'?"
        if let hint = text.firstRange(of: " Did you mean ") {
            remedies.append("did" + text[hint.lowerBound...].dropFirst(" Did".count))
            text = String(text[..<hint.lowerBound])
        }
        while text.last == "." { text.removeLast() }
        let verb = verbs.joined(separator: " ")
        remedies += lines + ["trireme \(verb.isEmpty ? "" : verb + " ")--help"]
        return Diagnostic(
            DiagnosticCode("usage"), verb.isEmpty ? "" : "'\(verb)'",
            reasons: [text.prefix(1).lowercased() + text.dropFirst()], remedies: remedies)
    }

    /// ArgumentParser calls a wrong verb an unexpected argument; we say which verb was meant.
    private static func refuseUnknownVerb(_ arguments: [String]) throws(Diagnostic) {
        guard let verb = arguments.first, !verb.hasPrefix("-"), verb != "help" else { return }
        let known = configuration.subcommands.flatMap {
            [$0.configuration.commandName ?? ""] + $0.configuration.aliases
        }
        if let answer = KindVerbs.answer(arguments) { throw answer }
        if known.contains(verb) { return }
        if let answer = ForeignVerbs.answer(to: verb) {
            throw Diagnostic(
                DiagnosticCode("unknown-verb"), "'\(verb)'", reasons: [answer.reason], remedies: answer.remedies)
        }
        throw Diagnostic(
            DiagnosticCode("unknown-verb"), "'\(verb)'", reasons: ["is not a trireme command"],
            remedies: NearMiss.nearest(to: verb, among: known).map { "did you mean 'trireme \($0)'?" }
                + ["trireme --help"])
    }
}

/// The version `trireme --version` prints.
package let triremeVersion = "0.1.0"
