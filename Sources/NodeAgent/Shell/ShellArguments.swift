/// What was typed after `ssh` or `rsh`, read as those read it (ssh(1), rsh(1)) and kept as far as it means
/// something within a job.
///
/// What only says how to get in (ports, keys, ciphers) is taken and has no effect: nodes of a job know each other.
/// What cannot be had here is refused, so that nobody believes to have it.
package struct ShellArguments: Equatable, Sendable {
    package enum Program: String, Sendable { case ssh, rsh }
    package enum TerminalWish: Sendable { case none, whenOursIs, always }

    package private(set) var host: [UInt8] = []
    package private(set) var user: [UInt8]?
    /// The words joined by blanks; empty for a login shell.
    package private(set) var command: [UInt8] = []
    package private(set) var takesInput = true
    package private(set) var goesToBackground = false
    package private(set) var isQuiet = false
    package private(set) var isVerbose = false
    package private(set) var asksForVersion = false
    /// Nil: a terminal for a login shell, none for a command.
    package private(set) var terminal: TerminalWish?
    /// What is not as asked, and does not matter enough to refuse.
    package private(set) var warnings: [String] = []

    /// A sentence for the user.
    package struct Refusal: Error, Equatable, Sendable { package var sentence: String }

    private let program: Program
    private var rest: ArraySlice<[UInt8]>
    private var hostName: [UInt8]?

    /// - Throws: what the words ask for and a job does not have, or what is wrong with them.
    package init(_ program: Program, _ words: [[UInt8]]) throws(Refusal) {
        self.program = program
        rest = words[...]
        try takeOptions()
        if asksForVersion { return }
        guard let target = rest.popFirst() else {
            throw Refusal(sentence: "usage: \(program.rawValue) [options] [user@]host [command [argument ...]]")
        }
        takeTarget(target)
        // Both programs take options behind the host too.
        try takeOptions()
        if let hostName { host = hostName }
        command = Array(rest.joined(separator: [UInt8(ascii: " ")]))
        rest = []
    }

    private mutating func takeTarget(_ target: [UInt8]) {
        var target = target[...]
        let scheme = Array("ssh://".utf8)
        if program == .ssh, target.starts(with: scheme) {
            target = target.dropFirst(scheme.count).prefix { $0 != UInt8(ascii: "/") }
            let colon = target.lastIndex(of: UInt8(ascii: ":"))
            if let colon, !target[colon...].contains(UInt8(ascii: "]")) { target = target[..<colon] }
        }
        if let at = target.lastIndex(of: UInt8(ascii: "@")) {
            user = Array(target[..<at])
            target = target[target.index(after: at)...]
        }
        host = Array(target)
    }

    // MARK: Options

    private static let sshFlags = Set("1246aACfgkKMnqtTvVxXyY".utf8)
    private static let sshValued = Set("bBceEFiIlmopPS".utf8)
    private static let rshFlags = Set("8dKnx".utf8)
    private static let rshValued = Set("kl".utf8)

    private mutating func takeOptions() throws(Refusal) {
        let flags = program == .ssh ? Self.sshFlags : Self.rshFlags
        let valued = program == .ssh ? Self.sshValued : Self.rshValued
        while let word = rest.first, word.count > 1, word[0] == UInt8(ascii: "-") {
            rest.removeFirst()
            if word == Array("--".utf8) { return }
            var letters = word.dropFirst()
            while let letter = letters.popFirst() {
                if flags.contains(letter) {
                    takeFlag(letter)
                } else if valued.contains(letter) {
                    guard let value = letters.isEmpty ? rest.popFirst() : Array(letters) else {
                        throw Refusal(sentence: "option requires an argument -- '\(Self.text(letter))'")
                    }
                    letters = []
                    try takeValue(letter, value)
                } else {
                    throw Refusal(sentence: Self.refusal(of: letter, program))
                }
            }
        }
    }

    private static func text(_ letter: UInt8) -> String { String(decoding: [letter], as: UTF8.self) }

    private mutating func takeFlag(_ letter: UInt8) {
        switch letter {
        case UInt8(ascii: "n"): takesInput = false
        case UInt8(ascii: "f"):
            takesInput = false
            goesToBackground = true
        case UInt8(ascii: "q"): isQuiet = true
        case UInt8(ascii: "v"): isVerbose = true
        case UInt8(ascii: "V"): asksForVersion = true
        case UInt8(ascii: "t"): terminal = terminal == .whenOursIs ? .always : .whenOursIs
        case UInt8(ascii: "T"): terminal = TerminalWish.none
        case UInt8(ascii: "X"), UInt8(ascii: "Y"):
            warnings.append("Warning: X11 forwarding does not exist between the nodes of a job")
        default: break
        }
    }

    private mutating func takeValue(_ letter: UInt8, _ value: [UInt8]) throws(Refusal) {
        switch letter {
        case UInt8(ascii: "l"): user = value
        case UInt8(ascii: "o"): try takeSetting(value)
        default: break
        }
    }

    /// `KEYWORD=VALUE` or `KEYWORD VALUE` (ssh_config(5)).
    private mutating func takeSetting(_ setting: [UInt8]) throws(Refusal) {
        func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        let name = setting.prefix { !isBlank($0) && $0 != UInt8(ascii: "=") }
        var value = setting.dropFirst(name.count).drop(while: isBlank)
        if value.first == UInt8(ascii: "=") { value = value.dropFirst().drop(while: isBlank) }
        let keyword = String(decoding: name, as: UTF8.self).lowercased()
        let word = String(decoding: value, as: UTF8.self).lowercased()
        switch keyword {
        case "": throw Refusal(sentence: "-o: no setting")
        case "user": user = user ?? Array(value)
        case "hostname": hostName = Array(value)
        case "stdinnull": if word == "yes" { takesInput = false }
        case "forkafterauthentication": if word == "yes" { takeFlag(UInt8(ascii: "f")) }
        case "loglevel": if word == "quiet" { isQuiet = true }
        case "requesttty":
            terminal =
                switch word {
                case "force": .always
                case "yes": .whenOursIs
                case "no": TerminalWish.none
                default: terminal
                }
        case "localforward", "remoteforward", "dynamicforward", "proxycommand", "proxyjump", "remotecommand",
            "tunnel", "sessiontype", "stdioforward":
            guard ["none", "no", "default"].contains(word) else {
                throw Refusal(sentence: "-o \(String(decoding: name, as: UTF8.self)): not possible within a job")
            }
        default: break
        }
    }

    private static func refusal(of letter: UInt8, _ program: Program) -> String {
        let reason: String? =
            switch letter {
            case _ where program == .rsh: nil
            case UInt8(ascii: "D"), UInt8(ascii: "L"), UInt8(ascii: "R"), UInt8(ascii: "W"), UInt8(ascii: "w"):
                "nothing is forwarded within a job: its nodes reach each other's ports themselves"
            case UInt8(ascii: "J"): "the nodes of a job are reached without jumping over others"
            case UInt8(ascii: "N"): "without a command there is nothing to do within a job"
            case UInt8(ascii: "s"): "there are no subsystems (sftp) within a job: use tar, or rsync, through ssh"
            case UInt8(ascii: "G"), UInt8(ascii: "O"), UInt8(ascii: "Q"):
                "there is no such connection to ask about within a job"
            default: nil
            }
        return reason.map { "-\(text(letter)): \($0)" } ?? "unknown option -- '\(text(letter))'"
    }
}
