import Diagnostics
import Testing

@Suite struct DiagnosticCodeTests {
    @Test("`trireme explain` knows every code that an error can carry, once")
    func everyCodeIsExplained() throws {
        let known = DiagnosticCatalogue.entries.map(\.code)
        #expect(known.count == Set(known).count)
        let use = #/DiagnosticCode\("([a-z0-9-]+)"\)/#
        var used: Set<String> = []
        for file in try SourceTree.swiftFiles() where file.target != nil {
            for line in file.lines { used.formUnion(line.matches(of: use).map { String($0.1) }) }
        }
        #expect(used.count > 20, "the pattern finds codes")
        #expect(used.subtracting(known).sorted() == [])
    }
}
