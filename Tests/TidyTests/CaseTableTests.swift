import Foundation
import Testing

@Suite("The table of cases names tests that exist")
struct CaseTableTests {
    @Test("Every case has a proof, and every proof is there")
    func proofs() throws {
        let table = try String(contentsOfFile: SourceTree.root + "/Documentation/Reference/cases.md", encoding: .utf8)
        let known = try Self.tests()
        var rows = 0
        for line in table.components(separatedBy: "\n") where line.hasPrefix("| ") {
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard cells.count == 3, cells[0] != "case" else {
                #expect(cells.first == "case", "three cells: \(line)")
                continue
            }
            rows += 1
            let proofs = Self.proofs(in: cells[2])
            #expect(!proofs.isEmpty, "no proof: \(line)")
            for proof in proofs { #expect(known.contains(proof), "no test '\(proof)': \(cells[0])") }
        }
        #expect(rows > 30)
        #expect(known.contains("CaseTableTests.proofs") && !known.contains("CaseTableTests.tests"))
        #expect(Self.proofs(in: "`A.b`, `VM: c d`") == ["A.b", "VM: c d"])
    }

    private static func proofs(in cell: String) -> [String] {
        cell.matches(of: /`([^`]+)`/).map { String($0.output.1) }
    }

    /// `Suite.function` of every `@Test`, and `VM: WORDS` of every line of the emulated machine's cases.
    private static func tests() throws -> Set<String> {
        var names = try SourceTree.tests()
        let cases = SourceTree.root + "/Tests/VM/cases"
        for name in try FileManager.default.contentsOfDirectory(atPath: cases) {
            for line in try String(contentsOfFile: cases + "/" + name, encoding: .utf8).components(separatedBy: "\n") {
                if let match = line.firstMatch(of: /expect "([^"]+)"/) { names.insert("VM: \(match.output.1)") }
            }
        }
        return names
    }
}
