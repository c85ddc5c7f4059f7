/// Every code a diagnostic can carry, with its meaning and what to do.
///
/// `trireme explain` prints it; a test checks that no code is used without an entry.
package enum DiagnosticCatalogue {
    package struct Entry: Sendable {
        package let code: String
        package let meaning: String
        package let advice: String
        init(_ code: String, _ meaning: String, _ advice: String) {
            self.code = code
            self.meaning = meaning
            self.advice = advice
        }
    }

    package static func entry(for code: String) -> Entry? { entries.first { $0.code == code } }

    package static let entries: [Entry] = [
        Entry(
            "unknown-verb", "the first word is not a command of trireme",
            "Run 'trireme --help' for the commands."),
        Entry(
            "unknown-code", "the word given to 'trireme explain' is not an error code",
            "Codes stand in brackets at the end of an error's first line."),
        Entry(
            "program-directory", "trireme cannot tell where it is installed",
            "It reads /proc/self/exe; /proc must be mounted."),
    ]
}
