import Foundation
import Testing

@Suite("Options of run are described and tried")
struct OptionTests {
    /// The groups whose options concern one container; those of jobs are tried by short spellings in clusters.
    private static let groups = [
        "FileOptions", "EnvironmentOptions", "IsolationOptions", "LimitOptions", "DeviceOptions", "ProcessOptions",
        "ExplainOptions",
    ]

    @Test("Every long spelling is on a reference page, and every one of a container in a test")
    func spellings() throws {
        let files = try SourceTree.files()
        func words(under directory: String) -> Set<String> {
            var found: Set<String> = []
            for file in files where file.path.hasPrefix(directory) && !file.path.hasSuffix("OptionTests.swift") {
                for line in file.lines { found.formUnion(Self.options(in: line)) }
            }
            return found
        }
        let (described, tried) = (words(under: "Documentation/Reference/"), words(under: "Tests/"))
        let sources = files.filter { $0.path.hasPrefix("Sources/Commands/Run/Options/") }
        var counted = 0
        for file in sources {
            let group = ((file.path as NSString).lastPathComponent as NSString).deletingPathExtension
            let text = file.lines.joined(separator: "\n")
            guard let list = text.firstMatch(of: /static let longNames = \[([^\]]*)\]/) else { continue }
            for option in Self.options(in: String(list.output.1)) {
                counted += 1
                let isDescribed = described.contains(option)
                #expect(isDescribed, "\(group): \(option) is on no reference page")
                guard Self.groups.contains(group) else { continue }
                let isTried = tried.contains(option)
                #expect(isTried, "\(group): \(option) is in no test")
            }
        }
        #expect(counted > 70)
        #expect(Self.options(in: "`--a-b=c`, --d and ---") == ["--a-b", "--d"])
    }

    private static func options(in text: String) -> [String] {
        text.matches(of: /(?:^|[^-\w])(--[a-z][a-z-]*[a-z])(?![\w-])/).map { String($0.output.1) }
            + text.matches(of: /(?:^|[^-\w])(--[a-z])(?![\w-])/).map { String($0.output.1) }
    }
}
