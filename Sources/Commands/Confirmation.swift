import Diagnostics
import Glibc

/// A question before what cannot be taken back. Asked on a terminal only: a script means what it says.
enum Confirmation {
    private static let isTerminal = isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1

    /// - Throws: `not-confirmed` unless the answer is yes.
    static func ask(_ question: String, remedy: String) throws(Diagnostic) {
        guard isTerminal else { return }
        Output.standard.write("\(question) Go on? [y/N] ", to: .progress)
        let answer = readLine()?.lowercased().filter { !$0.isWhitespace } ?? ""
        guard answer == "y" || answer == "yes" else {
            throw Diagnostic(
                DiagnosticCode("not-confirmed"), "nothing was removed", reasons: ["the answer was not yes"],
                remedies: [remedy])
        }
    }

    /// What is being done just now, on a terminal, until `work` is over.
    static func showing<R>(_ text: String, isQuiet: Bool, _ work: () throws(Diagnostic) -> R) throws(Diagnostic) -> R {
        let isShown = !isQuiet && isatty(STDERR_FILENO) == 1
        if isShown { Output.standard.write("\(text) …", to: .progress) }
        defer { if isShown { Output.standard.write("\r\u{1B}[K", to: .progress) } }
        return try work()
    }
}
