import Foundation
import Testing

@Suite("Every promise about a failure has a test")
struct FailureTableTests {
    @Test("Documentation/Reference/failures.md names tests that exist, in every row")
    func everyRowIsProven() throws {
        let path = SourceTree.root + "/Documentation/Reference/failures.md"
        let table = try String(contentsOfFile: path, encoding: .utf8)
        let tests = Set(
            try SourceTree.files().filter { $0.path.hasPrefix("Tests/") && $0.path.hasSuffix(".swift") }
                .flatMap { $0.lines }.flatMap { $0.matches(of: /func ([A-Za-z]+)\(/).map { String($0.output.1) } })
        let rows = table.split(separator: "\n").filter { $0.hasPrefix("| ") }.dropFirst()
        #expect(rows.count > 25)
        for row in rows {
            let cells = row.split(separator: "|")
            try #require(cells.count == 3, "\(row)")
            let named = cells[2].matches(of: /`([A-Za-z]+)`/).map { String($0.output.1) }
            #expect(!named.isEmpty, "no test in: \(row)")
            for name in named where !tests.contains(name) { Issue.record("no test '\(name)', named in: \(row)") }
        }
    }
}
