/// A failure as a user reads it: what failed, why, and what to type next.
///
/// Every error that can reach a user is one of these. Leaf modules throw their
/// own typed errors and are turned into a `Diagnostic` where the user's word for
/// the thing (`subject`) is known.
package struct Diagnostic: Error, Equatable, Sendable {
    /// A stable name for the kind of failure, known to `trireme explain`.
    package var code: DiagnosticCode
    /// What the user typed or would recognise: an image name, a path, a node.
    package var subject: String
    /// The cause chain from the nearest to the deepest, each lower case without a full stop.
    package var reasons: [String]
    /// Next steps, most useful first; each a sentence fragment or a command to type.
    package var remedies: [String]

    package init(_ code: DiagnosticCode, _ subject: String, reasons: [String] = [], remedies: [String] = []) {
        self.code = code
        self.subject = subject
        self.reasons = reasons
        self.remedies = remedies
    }

    /// The same failure with one more fact in front of its causes.
    package func because(_ reason: String) -> Diagnostic {
        var copy = self
        copy.reasons.insert(reason, at: 0)
        return copy
    }
}

/// The kinds of failure. The raw value is the stable slug shown in brackets.
package struct DiagnosticCode: RawRepresentable, Hashable, Sendable {
    package var rawValue: String
    package init(rawValue: String) { self.rawValue = rawValue }
    package init(_ slug: StaticString) { rawValue = "\(slug)" }
}

extension Diagnostic {
    /// `trireme: image-not-found: openfoam: reason: cause` and one `hint:` line per remedy.
    package func rendered(program: String = "trireme") -> String {
        var text = "\(program): " + ([subject] + reasons).filter { !$0.isEmpty }.joined(separator: ": ")
        text += " [\(code.rawValue)]\n"
        for remedy in remedies { text += "  hint: \(remedy)\n" }
        return Diagnostic.harmless(text)
    }
}

extension Diagnostic {
    /// `text` without control characters but newlines: what an image or a server said must not move the cursor.
    package static func harmless(_ text: String) -> String {
        func isControl(_ value: UInt32) -> Bool { (value < 32 && value != 10) || (127...159).contains(value) }
        guard text.unicodeScalars.contains(where: { isControl($0.value) }) else { return text }
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            if isControl(scalar.value) {
                result.append(contentsOf: ("\\x" + String(scalar.value + 256, radix: 16).dropFirst()).unicodeScalars)
            } else {
                result.append(scalar)
            }
        }
        return String(result)
    }
}

/// Exit codes of trireme itself (`spec/failures.md`); an application's own status passes through.
package enum ExitCode {
    package static let success: Int32 = 0
    /// The wall-clock limit ended the application.
    package static let timeLimit: Int32 = 124
    /// Trireme itself failed.
    package static let ownFailure: Int32 = 125
    /// The command was found but could not be executed.
    package static let notExecutable: Int32 = 126
    /// The command was not found.
    package static let notFound: Int32 = 127
    /// Ended by signal `number`; of a number that no signal has (signal(7)), the highest or lowest code there is.
    package static func signal(_ number: Int32) -> Int32 { 128 + min(max(number, 0), 127) }
}
