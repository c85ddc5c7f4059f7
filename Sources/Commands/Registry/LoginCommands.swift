import ArgumentParser
import Diagnostics
import Glibc
import LinuxSystem
import RegistryClient

/// `trireme login`
package struct LoginCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "login", abstract: "Log in to a registry; the login is checked and kept in docker's config.json.",
        discussion: "The password is asked for, or read from standard input; it is never an argument, which others see."
    )

    @Argument(help: "HOST[:PORT]; Docker Hub when left out.") var host = RemoteReference.dockerHub
    @Option(name: .shortAndLong, help: "The user; asked for when left out.") var username: String?
    @Flag(help: "Read the password from standard input.") var passwordStdin = false
    @OptionGroup var connection: ConnectionOptions

    package init() {}

    package func run() throws {
        let login = RegistryLogin(host, settings: connection.settings)
        let isTerminal = isatty(STDIN_FILENO) == 1
        guard isTerminal || passwordStdin else {
            throw Diagnostic(
                DiagnosticCode("usage"), "login", reasons: ["standard input is no terminal to ask at"],
                remedies: ["trireme login \(login.registry) -u USER --password-stdin <FILE"])
        }
        if passwordStdin, username == nil {
            throw Diagnostic(
                DiagnosticCode("usage"), "login --password-stdin", reasons: ["no user was named"], remedies: ["-u USER"]
            )
        }
        let user = try username ?? LoginCommand.ask("User for \(login.registry): ", echo: true)
        let password = passwordStdin ? try LoginCommand.readInput() : try LoginCommand.ask("Password: ", echo: false)
        guard !user.isEmpty, !password.isEmpty, !user.contains(":") else {
            throw Diagnostic(
                DiagnosticCode("usage"), "login", reasons: ["user or password is empty, or the user holds a colon"])
        }
        let isAsked = try login.store(user: user, password: password)
        Output.standard.line(
            isAsked
                ? "Logged in to \(login.registry) as \(user)"
                : "\(login.registry) asks for no login; this one is kept for when it does")
    }

    private static func ask(_ prompt: String, echo: Bool) throws(Diagnostic) -> String {
        Output.standard.write(prompt, to: .progress)
        var before = termios()
        let isChanged = !echo && tcgetattr(STDIN_FILENO, &before) == 0
        if isChanged {
            var quiet = before
            quiet.c_lflag &= ~tcflag_t(ECHO)
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet)
        }
        defer {
            if isChanged {
                tcsetattr(STDIN_FILENO, TCSAFLUSH, &before)
                Output.standard.line("", to: .progress)
            }
        }
        guard let line = readLine() else {
            throw Diagnostic(DiagnosticCode("usage"), "login", reasons: ["the input ended"])
        }
        return line
    }

    /// All of standard input but one line end.
    private static func readInput() throws(Diagnostic) -> String {
        let bytes: [UInt8]
        do throws(SyscallError) {
            let raw = try checked("dup") { fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) }
            bytes = try OwnedDescriptor(owning: raw).readAll(limit: 1 << 20)
        } catch { throw Diagnostic(DiagnosticCode("credentials"), "standard input", reasons: [error.sentence]) }
        var text = String(decoding: bytes, as: UTF8.self)
        if text.hasSuffix("\r\n") || text.hasSuffix("\n") { text.removeLast() }
        return text
    }
}

/// `trireme logout`
package struct LogoutCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "logout", abstract: "Forget the login at a registry.")

    @Argument(help: "HOST[:PORT]; Docker Hub when left out.") var host = RemoteReference.dockerHub
    @OptionGroup var connection: ConnectionOptions

    package init() {}

    package func run() throws {
        let login = RegistryLogin(host, settings: connection.settings)
        let wasThere = try login.erase()
        Output.standard.line(wasThere ? "Logged out of \(login.registry)" : "Not logged in to \(login.registry)")
    }
}
