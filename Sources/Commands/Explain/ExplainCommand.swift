import ArgumentParser
import Diagnostics

/// `trireme explain CODE`: what an error code means and what to do about it.
package struct ExplainCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Explain the code shown in brackets at the end of an error.")

    @Argument(help: "The code, as in [image-not-found]; none lists all.")
    var code: String?

    package init() {}

    package func run() throws {
        guard let code else {
            for entry in DiagnosticCatalogue.entries { Output.standard.line("\(entry.code)\t\(entry.meaning)") }
            return
        }
        let slug = code.trimming(while: { $0 == "[" || $0 == "]" })
        guard let entry = DiagnosticCatalogue.entry(for: slug) else {
            let near = NearMiss.nearest(to: slug, among: DiagnosticCatalogue.entries.map(\.code))
            throw Diagnostic(
                DiagnosticCode("unknown-code"), "error code '\(slug)'", reasons: ["no such code"],
                remedies: near.map { "did you mean '\($0)'?" } + ["trireme explain    lists all codes"])
        }
        Output.standard.line("\(entry.code): \(entry.meaning)\n\n\(entry.advice)")
    }
}

extension String {
    /// This string without the leading and trailing characters that satisfy `unwanted`.
    fileprivate func trimming(while unwanted: (Character) -> Bool) -> String {
        var rest = self[...]
        while let first = rest.first, unwanted(first) { rest.removeFirst() }
        while let last = rest.last, unwanted(last) { rest.removeLast() }
        return String(rest)
    }
}
