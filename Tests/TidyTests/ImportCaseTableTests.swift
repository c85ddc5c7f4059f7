import Foundation
import Testing

@Suite("The table of import cases names tests that exist")
struct ImportCaseTableTests {
    @Test("Every case has a proof, and every proof is there")
    func proofs() throws {
        let path = SourceTree.root + "/Documentation/Reference/import-cases.md"
        let known = try SourceTree.tests()
        var rows = 0
        for line in try String(contentsOfFile: path, encoding: .utf8).components(separatedBy: "\n")
        where line.hasPrefix("| ") && !line.hasPrefix("| case |") {
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            #expect(cells.count == 3, "three cells: \(line)")
            let proofs = (cells.last ?? "").matches(of: /`([^`]+)`/).map { String($0.output.1) }
            #expect(!proofs.isEmpty, "no proof: \(line)")
            for proof in proofs { #expect(known.contains(proof), "no test '\(proof)'") }
            rows += 1
        }
        #expect(rows > 30)
        #expect(known.contains("ImportCaseTableTests.proofs") && !known.contains("ImportCaseTableTests.tests"))
    }
}
