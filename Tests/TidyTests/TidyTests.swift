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

    @Test("Imports point down and never across, over any number of steps")
    func importTable() {
        #expect(ImportRules.faults(in: ImportRules.rooms) == [])
        for (target, room) in ImportRules.rooms where room.isSmall {
            #expect(room.imports.isDisjoint(with: ImportRules.foundation), "\(target) must stay small")
        }

        typealias Room = ImportRules.Room
        var rooms: [String: Room] = [
            "Base": Room(group: .base, level: 0, imports: []),
            "Image": Room(group: .container, level: 1, imports: ["Base"]),
            "Job": Room(group: .job, level: 1, imports: ["Base"]),
            "Leader": Room(group: .job, level: 3, imports: ["Job"]),
            "Both": Room(group: .meeting, level: 4, imports: ["Image", "Leader"]),
        ]
        #expect(ImportRules.faults(in: rooms) == [])
        #expect(ImportRules.closure(of: "Both", in: rooms) == ["Base", "Image", "Job", "Leader"])
        // Through a neighbour of the same half, nothing of the other one is reached.
        rooms["Job"]?.imports.insert("Image")
        #expect(ImportRules.faults(in: rooms).contains { $0.hasPrefix("Leader (job) reaches Image") })
        #expect(ImportRules.faults(in: rooms).contains { $0.hasPrefix("Job (L1) reaches Image (L1)") })
    }

    @Test("The manifest links what the table allows, and the sources use it: no arrow is left over")
    func manifest() throws {
        let manifest = try String(contentsOfFile: SourceTree.root + "/Package.swift", encoding: .utf8)
        var linked = ManifestTargets.read(manifest)
        // Its modules reach it from Scripts/build-launcher, without the package manager.
        linked["trireme"] = ImportRules.rooms["trireme"]?.imports
        #expect(Set(linked.keys) == Set(ImportRules.rooms.keys))
        var used: [String: Set<String>] = [:]
        for file in try SourceTree.swiftFiles() {
            guard let target = file.target else { continue }
            used[target, default: []].formUnion(file.lines.compactMap(ImportRules.module(importedBy:)))
        }
        for (target, room) in ImportRules.rooms.sorted(by: { $0.key < $1.key }) {
            let modules = room.imports.subtracting(ImportRules.foundation)
            #expect(linked[target] == modules, "Package.swift and ImportRules differ: \(target)")
            let dead = room.imports.subtracting(used[target] ?? [])
            #expect(dead == [], "\(target) may import what it does not use")
        }

        let small = ManifestTargets.read(
            """
            let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
            target("A", ["B", crypto]),  // target("X", ["Y"])
            .systemLibrary(name: "C", providers: [.apt(["zlib1g-dev"])]), target("B"),
            """)
        #expect(small == ["A": ["B", "Crypto"], "B": [], "C": []])
    }

    @Test("The architecture page shows the table")
    func picture() throws {
        let page = try String(
            contentsOfFile: SourceTree.root + "/Documentation/Design/architecture.md", encoding: .utf8)
        let picture = ArchitecturePicture.text()
        #expect(page.contains("```\n" + picture + "```"), "put this picture into architecture.md:\n\(picture)")
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
