import Foundation
import Testing

/// The repository lints itself. Each rule is also shown a text that breaks it:
/// a check that cannot fail is none.
@Suite("The tree keeps its own rules")
struct TidyTests {
    @Test("Imports follow the architecture's picture")
    func imports() throws {
        let violations = try SourceTree.swiftFiles().flatMap(ImportRules.violations)
        #expect(violations.isEmpty, "\(violations.joined(separator: "\n"))")

        let crossing = TextFile(path: "Sources/JobModel/Bad.swift", lines: ["import Glibc", "package import OCIModel"])
        #expect(ImportRules.violations(in: crossing).count == 1)
        #expect(ImportRules.module(importedBy: "@preconcurrency import struct Foundation.Data") == "Foundation")
    }

    @Test("The two halves never meet in the table, and the hot path has no Foundation")
    func importTable() {
        for (target, modules) in ImportRules.allowed {
            if ImportRules.containerHalf.contains(target) {
                #expect(modules.isDisjoint(with: ImportRules.jobHalf), "\(target) is of the container half")
            }
            if ImportRules.jobHalf.contains(target) {
                #expect(modules.isDisjoint(with: ImportRules.containerHalf), "\(target) is of the job half")
            }
            if ImportRules.withoutFoundation.contains(target) {
                #expect(modules.isDisjoint(with: ImportRules.foundation), "\(target) must stay small")
            }
        }
    }

    @Test("Files and functions stay small")
    func sizes() throws {
        let violations = try SourceTree.swiftFiles().flatMap(SizeRules.violations)
        #expect(violations.isEmpty, "\(violations.joined(separator: "\n"))")

        let body = Array(repeating: "        work()", count: 80)
        let long = TextFile(path: "Sources/X/Long.swift", lines: ["    func long() {"] + body + ["    }", ""])
        #expect(SizeRules.violations(in: long).count == 1)
        #expect(SizeRules.functions(in: ["func a() {", "  b()", "}"]).map(\.lineCount) == [3])
    }

    @Test("The C shim translates and decides nothing: it stays small")
    func shim() throws {
        let shim = try SourceTree.files().filter { $0.target == "CLinux" }
        #expect(!shim.isEmpty)
        #expect(shim.map(SizeRules.lineCount).reduce(0, +) <= SizeRules.shimLineLimit)
    }

    @Test("Connections are accepted in one place, which rests when there is no descriptor for them")
    func accepting() throws {
        let place = "Sources/LinuxSystem/RestingListener.swift"
        func calls(_ file: TextFile) -> Int {
            guard file.target != nil, file.target != "CLinux" else { return 0 }
            return file.lines.count { line in
                // A method of that name is somebody else's.
                !line.contains("///") && line.contains(/(^|[^.\w])(Glibc\.accept4?|linux_accept4|accept4?)\(/)
                    && !line.contains("func accept(")
            }
        }
        for file in try SourceTree.files() where file.path != place { #expect(calls(file) == 0, "\(file.path)") }
        let bad = TextFile(
            path: "Sources/X/Bad.swift",
            lines: ["let a = linux_accept4(door, 0)", "Glibc.accept(door, nil, nil)", "peers.accept()"])
        #expect(calls(bad) == 2)
    }

    @Test("No drawers for odds and ends: every file is named after a noun of the field")
    func names() throws {
        let drawers = ["Utils", "Utilities", "Helpers", "Extras", "Misc"]
        for file in try SourceTree.swiftFiles() {
            let name = (file.path as NSString).lastPathComponent
            #expect(!drawers.contains { name.contains($0) || file.path.contains("/\($0)/") }, "\(file.path)")
        }
    }

    @Test("Nothing unfinished is left behind, and no path of one workplace")
    func marks() throws {
        // Spelled in pieces, so that this file does not find itself.
        let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X:", "not " + "implemented"]
        let places = ["/wo" + "rk/", "/ro" + "ot/", "/fa" + "rm/"]
        for file in try SourceTree.files() where !file.path.hasPrefix("Benchmarks/Results/") {
            for (number, line) in file.lines.enumerated() {
                if file.path.hasPrefix("Sources/") || file.path.hasPrefix("Tests/") {
                    #expect(!marks.contains { line.contains($0) }, "\(file.path):\(number + 1): \(line)")
                }
                #expect(!places.contains { mentions(line, place: $0) }, "\(file.path):\(number + 1): \(line)")
            }
        }
        #expect(mentions("see /wo" + "rk/x", place: "/wo" + "rk/"))
        #expect(!mentions("dir/wo" + "rk/x", place: "/wo" + "rk/"))
    }

    /// Whether an absolute path below `place` stands in `line`.
    private func mentions(_ line: String, place: String) -> Bool {
        var rest = line[...]
        while let found = rest.range(of: place) {
            let before = found.lowerBound > line.startIndex ? line[line.index(before: found.lowerBound)] : " "
            if !(before.isLetter || before.isNumber || "_./)}$".contains(before)) { return true }
            rest = rest[found.upperBound...]
        }
        return false
    }
}
