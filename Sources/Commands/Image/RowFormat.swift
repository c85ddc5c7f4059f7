import ArgumentParser
import Diagnostics

/// How a list of results is printed (`--format`), in docker's words.
enum RowFormat: ExpressibleByArgument {
    /// Columns, the usual ones or those of a template.
    case table(RowTemplate?)
    case json, jsonl
    case template(RowTemplate)

    init?(argument: String) {
        switch argument {
        case "table": self = .table(nil)
        case "json": self = .json
        case "jsonl": self = .jsonl
        default:
            let isTable = argument.hasPrefix("table ")
            guard let template = RowTemplate(isTable ? String(argument.dropFirst(6)) : argument) else { return nil }
            self = isTable ? .table(template) : .template(template)
        }
    }
}

/// A result that can be printed in every format.
protocol FormattedRow: Encodable {
    /// Columns of the table: what a template calls them, and their headings.
    static var columns: [(field: String, heading: String)] { get }
    /// What a template may ask for beyond the columns.
    static var furtherFields: [String] { get }
    /// The text of a field; nil for one that is unknown.
    func text(_ field: String) -> String?
    /// The field as JSON; nil where it is its text.
    func json(_ field: String) throws -> String?
}

extension FormattedRow {
    func json(_ field: String) throws -> String? { nil }
    static var furtherFields: [String] { [] }
}

/// Go's template language as far as lists need it: text, `{{.Field}}`, `{{json .}}`, `{{json .Field}}`,
/// `\t` and `\n`.
struct RowTemplate {
    enum Part {
        case text(String)
        case field(String)
        case json(String?)
    }
    let parts: [Part]

    /// Nil for what is not a template: no `{{`, or one that is not closed or not understood.
    init?(_ text: String) {
        var parts: [Part] = []
        var rest = text.split(separator: "\\t", omittingEmptySubsequences: false).joined(separator: "\t")[...]
        rest = rest.split(separator: "\\n", omittingEmptySubsequences: false).joined(separator: "\n")[...]
        while let start = rest.firstRange(of: "{{") {
            if start.lowerBound > rest.startIndex { parts.append(.text(String(rest[..<start.lowerBound]))) }
            rest = rest[start.upperBound...]
            guard let end = rest.firstRange(of: "}}") else { return nil }
            let words = rest[..<end.lowerBound].split(separator: " ").map(String.init)
            rest = rest[end.upperBound...]
            switch words.count {
            case 1 where words[0].hasPrefix(".") && words[0].count > 1:
                parts.append(.field(String(words[0].dropFirst())))
            case 2 where words[0] == "json" && words[1] == ".": parts.append(.json(nil))
            case 2 where words[0] == "json" && words[1].hasPrefix("."):
                parts.append(.json(String(words[1].dropFirst())))
            default: return nil
            }
        }
        if !rest.isEmpty { parts.append(.text(String(rest))) }
        guard parts.contains(where: { if case .text = $0 { false } else { true } }) else { return nil }
        self.parts = parts
    }

    func line<Row: FormattedRow>(_ row: Row) throws -> String {
        try parts.map { part in
            switch part {
            case .text(let text): text
            case .field(let field): try value(row, field)
            case .json(nil): try json(row, pretty: false)
            case .json(let field?): try row.json(field) ?? json(try value(row, field), pretty: false)
            }
        }.joined()
    }

    func heading<Row: FormattedRow>(_ type: Row.Type) -> String {
        parts.map { part in
            switch part {
            case .text(let text): text
            case .field(let field), .json(let field?):
                type.columns.first { $0.field == field }?.heading ?? field.uppercased()
            case .json(nil): "JSON"
            }
        }.joined()
    }

    private func value<Row: FormattedRow>(_ row: Row, _ field: String) throws -> String {
        if let text = row.text(field) { return text }
        let known = Row.columns.map(\.field) + Row.furtherFields
        throw Diagnostic(
            DiagnosticCode("usage"), "--format", reasons: ["there is no field '.\(field)'"],
            remedies: NearMiss.nearest(to: field, among: known).map { "did you mean '{{.\($0)}}'?" }
                + ["fields: " + known.map { ".\($0)" }.joined(separator: " ")])
    }
}

extension Output {
    /// Prints `rows`; a table without rows is its heading.
    func rows<Row: FormattedRow>(_ rows: [Row], as format: RowFormat) throws {
        switch format {
        case .json: line(try json(rows, pretty: true))
        case .jsonl: for row in rows { line(try json(row, pretty: false)) }
        case .template(let template): for row in rows { line(try template.line(row)) }
        case .table(nil):
            write(
                TextTable.text(
                    [Row.columns.map(\.heading)] + rows.map { row in Row.columns.map { row.text($0.field) ?? "" } }))
        case .table(let template?):
            let lines = [template.heading(Row.self)] + (try rows.map { try template.line($0) })
            write(
                TextTable.text(
                    lines.map { $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init) }))
        }
    }
}

/// Cells under each other, three spaces between columns.
enum TextTable {
    static func text(_ cells: [[String]]) -> String {
        let cells = cells.map { $0.map { Diagnostic.harmless($0) } }
        let columns = cells.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in cells.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0 }
        return cells.map { line in
            let padded = zip(line, widths).map { $0 + String(repeating: " ", count: max(0, $1 - $0.count)) }
            var text = padded.joined(separator: "   ")
            while text.last == " " { text.removeLast() }
            return text + "\n"
        }.joined()
    }
}
