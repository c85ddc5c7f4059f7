import Foundation

/// One text file of the tree, by its path relative to the root.
struct TextFile {
    var path: String
    var lines: [String]

    /// `Sources/<target>/…`: the target's name.
    var target: String? {
        let parts = path.split(separator: "/")
        return parts.count > 2 && parts[0] == "Sources" ? String(parts[1]) : nil
    }
}

/// The files of this project, without what git ignores.
struct SourceTree {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().standardized.path

    /// Names at the top that are built, not written.
    private static let built: Set<String> = [".build", ".git", ".try", "dist", "Package.resolved"]
    private static let textExtensions: Set<String> = ["swift", "c", "h", "md", "recipe", "sh", "txt", "modulemap", ""]

    static func files() throws -> [TextFile] {
        var result: [TextFile] = []
        for top in try FileManager.default.contentsOfDirectory(atPath: root).sorted()
        where !built.contains(top) && !top.hasPrefix(".build") {
            var isDirectory: ObjCBool = false
            _ = FileManager.default.fileExists(atPath: root + "/" + top, isDirectory: &isDirectory)
            let paths =
                isDirectory.boolValue
                ? try FileManager.default.subpathsOfDirectory(atPath: root + "/" + top).map { top + "/" + $0 } : [top]
            for path in paths where textExtensions.contains((path as NSString).pathExtension) {
                // Directories and what is not text have no such reading.
                guard let text = try? String(contentsOfFile: root + "/" + path, encoding: .utf8) else { continue }
                result.append(TextFile(path: path, lines: text.components(separatedBy: "\n")))
            }
        }
        return result
    }

    static func swiftFiles() throws -> [TextFile] { try files().filter { $0.path.hasSuffix(".swift") } }

    /// `Suite.function` of every `@Test`.
    static func tests() throws -> Set<String> {
        var names: Set<String> = []
        for file in try swiftFiles() where file.path.hasPrefix("Tests/") {
            var suite = ""
            var isTest = false
            for line in file.lines {
                if let match = line.firstMatch(of: /^(?:@Suite.*? )?(?:final )?(?:struct|class|extension) (\w+)/) {
                    suite = String(match.output.1)
                }
                if line.drop(while: { $0 == " " }).hasPrefix("@Test") { isTest = true }
                if isTest, let match = line.firstMatch(of: /func (\w+)\(/) {
                    names.insert("\(suite).\(match.output.1)")
                    isTest = false
                }
            }
        }
        return names
    }
}
