import Foundation
import Testing

@Suite("The documents tell the truth about the tree")
struct DocumentationTests {
    @Test("Every link to a file of the tree resolves")
    func links() throws {
        let documents = try SourceTree.files().filter { $0.path.hasSuffix(".md") }
        #expect(documents.contains { $0.path == "README.md" })
        var checked = 0
        for document in documents {
            let directory = (document.path as NSString).deletingLastPathComponent
            for target in Self.linkTargets(in: document.lines.joined(separator: "\n")) {
                guard !target.contains("://"), !target.hasPrefix("#"), !target.hasPrefix("mailto:") else { continue }
                let path = target.split(separator: "#", omittingEmptySubsequences: false)[0]
                let full = SourceTree.root + "/" + (directory.isEmpty ? "" : directory + "/") + path
                #expect(FileManager.default.fileExists(atPath: full), "\(document.path): no file '\(target)'")
                checked += 1
            }
        }
        #expect(checked > 0)
        #expect(Self.linkTargets(in: "see [a](b.md) and [c](d/e.md#f)") == ["b.md", "d/e.md#f"])
    }

    @Test("The README shows the two commands a newcomer types")
    func readme() throws {
        let readme = try String(contentsOfFile: SourceTree.root + "/README.md", encoding: .utf8)
        #expect(readme.contains("make try"))
        #expect(readme.contains("make test"))
    }

    @Test("The tour names files that exist, and every target")
    func tour() throws {
        let tour = try String(contentsOfFile: SourceTree.root + "/Documentation/Tour.md", encoding: .utf8)
        for target in ImportRules.rooms.keys { #expect(tour.contains(target), "the tour leaves out \(target)") }
    }

    /// The targets of Markdown links, in order.
    static func linkTargets(in text: String) -> [String] {
        text.matches(of: /\]\(([^)\s]+)\)/).map { String($0.output.1) }
    }
}
