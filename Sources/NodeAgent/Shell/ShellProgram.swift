import CLinux
import ContainerLaunch
import Glibc
import JobModel
import JobWire
import LinuxSystem

/// `ssh` and `rsh` of a job's containers, for programs that insist on one: the command runs in the container of
/// another node of the job, through the agents. No key, no port, nothing in ~/.ssh.
package enum ShellProgram {
    /// Which of the two a program is that was called by that name.
    package static func named(_ word: [UInt8]) -> ShellArguments.Program? {
        let name = word.split(separator: UInt8(ascii: "/")).last ?? []
        return ShellArguments.Program(rawValue: String(decoding: name, as: UTF8.self))
    }

    /// ssh(1), EXIT STATUS: "255 if an error occurred".
    private static let failure: Int32 = 255

    static func run(_ program: ShellArguments.Program, _ words: [[UInt8]]) -> Int32 {
        let arguments: ShellArguments
        do throws(ShellArguments.Refusal) { arguments = try ShellArguments(program, words) } catch {
            return say("\(program.rawValue): \(error.sentence)", failure)
        }
        if arguments.asksForVersion { return say("\(program.rawValue) of trireme, through the job's agents", 0) }
        if !arguments.isQuiet { for warning in arguments.warnings { _ = say(warning, 0) } }
        let host = String(decoding: arguments.host, as: UTF8.self)
        func refuse(_ sentence: String) -> Int32 {
            arguments.isQuiet ? failure : say("\(program.rawValue): \(sentence)", failure)
        }
        let account = ShellAccount.own()
        if let user = arguments.user, !isOurs(user, account) {
            let name = account?.name ?? "\(geteuid())"
            return refuse(
                "\(String(decoding: user, as: UTF8.self))@\(host): Permission denied (the job's processes are \(name)'s)"
            )
        }
        let connection: Connection
        do throws(SyscallError) { connection = try LocalClient.connect() } catch {
            return refuse("connect to host \(host): no agent of a job on this node: \(error.sentence)")
        }
        let terminal = ShellTerminal(arguments, warns: !arguments.isQuiet)
        let command = RemoteCommand(
            host: host, others: ShellNames.others(of: host),
            line: line(arguments.command, shell: ShellAccount.shell(of: account)), takesInput: arguments.takesInput,
            terminal: terminal.size)
        if arguments.isVerbose { _ = say("debug1: asking the job's agent on this node for \(host)", 0) }
        connection.send(.remote(channel: 0, command))
        let session = ShellSession(connection, arguments, terminal)
        switch session.run() {
        case .ended(let code): return code
        case .refused(let sentence): return refuse(sentence)
        }
    }

    private static func isOurs(_ user: [UInt8], _ account: ShellAccount?) -> Bool {
        let names = ["USER", "LOGNAME"] as [String]
        let environment = names.compactMap { name in getenv(name).map { String(cString: $0) } }
        return (environment + [account?.name].compactMap { $0 }).contains(String(decoding: user, as: UTF8.self))
    }

    /// What /bin/sh gets there: as sshd does it, the command is the login shell's to read, and begins at home.
    package static func line(_ command: [UInt8], shell: String) -> [UInt8] {
        let start = Array("cd \"${HOME:-/}\" 2>/dev/null || cd /; exec ".utf8) + quoted(Array(shell.utf8))
        return start + (command.isEmpty ? Array(" -l".utf8) : Array(" -c ".utf8) + quoted(command))
    }

    /// One word for sh(1).
    private static func quoted(_ word: [UInt8]) -> [UInt8] {
        let quote = UInt8(ascii: "'")
        return [quote] + word.flatMap { $0 == quote ? Array("'\\''".utf8) : [$0] } + [quote]
    }

    private static func say(_ text: String, _ status: Int32) -> Int32 {
        RemoteShell.writeAll(2, Array("\(text)\n".utf8))
        return status
    }
}

/// The terminal a session has there, and what becomes of ours meanwhile.
final class ShellTerminal {
    /// Nil: none.
    let size: TerminalSize?
    private var caller: CallerTerminal?

    init(_ arguments: ShellArguments, warns: Bool) {
        let wish = arguments.terminal ?? (arguments.command.isEmpty ? .whenOursIs : ShellArguments.TerminalWish.none)
        var window = winsize()
        let isOurs = ioctl(0, UInt(TIOCGWINSZ), &window) == 0
        switch wish {
        case .none: size = nil
        case .whenOursIs:
            size = isOurs ? TerminalSize(rows: Int(window.ws_row), columns: Int(window.ws_col)) : nil
            if !isOurs, warns, arguments.terminal != nil || arguments.command.isEmpty {
                RemoteShell.writeAll(
                    2,
                    Array(
                        "Pseudo-terminal will not be allocated because stdin is not a terminal.\n".utf8))
            }
        case .always:
            size =
                isOurs
                ? TerminalSize(rows: Int(window.ws_row), columns: Int(window.ws_col))
                : TerminalSize(rows: 24, columns: 80)
        }
    }

    /// The command runs: from here on what is typed is its own, byte for byte.
    func take() {
        guard size != nil, isatty(0) == 1, caller == nil else { return }
        signal(SIGTTOU, SIG_IGN)
        let taken = CallerTerminal(isGuarded: true)
        taken.makeRaw(true)
        caller = taken
    }

    func giveBack() {
        caller?.giveBack()
        caller = nil
    }
}
