import ArgumentParser
import Diagnostics
import Glibc

/// The root of the command line. `trireme` itself runs `run`, `exec` and `shell`
/// of one container and hands everything else to `trireme-cli`, which starts here.
package struct TriremeCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "trireme",
        abstract: "Containers on HPC machines: run, images, jobs and virtual clusters, without root.",
        version: triremeVersion,
        subcommands: [RunCommand.self, ImageCommand.self, ClusterCommand.self])

    package init() {}

    /// Parses `arguments` (without the program's name), runs the verb and returns the exit status.
    package static func execute(_ arguments: [String]) -> Int32 {
        do {
            var command = try parseAsRoot(arguments)
            try command.run()
            return Diagnostics.ExitCode.success
        } catch let diagnostic as Diagnostic {
            Output.standard.diagnose(diagnostic)
            return Diagnostics.ExitCode.ownFailure
        } catch let exit as ArgumentParser.ExitCode {
            return exit.rawValue
        } catch {
            let isHelp = exitCode(for: error) == .success
            Output.standard.write(fullMessage(for: error) + "\n", to: isHelp ? .result : .progress)
            return isHelp ? Diagnostics.ExitCode.success : Diagnostics.ExitCode.ownFailure
        }
    }
}

/// The version `trireme --version` prints.
package let triremeVersion = "0.1.0"
