import Glibc
import ImageFormats
import LinuxSystem
import TestSupport
import Testing

/// Numbers, counts and depths no honest archive has. Each once trapped, looped or filled memory somewhere.
@Suite struct HostileNumbers {
    @Test(arguments: ["9223372036854775807", "9223372036854775000", "-1", "1e9", "99999999999999999999", ""])
    func aPaxSizeIsNeverBelieved(size: String) {
        let said = fault(tar { $0.add("f", content: [1], pax: [("size", size)]) })
        #expect(said != nil && said?.kind != .system)
    }

    @Test func aHeaderSizeOfAllOnesIsRefused() {
        for field in [
            [0x7F] + [UInt8](repeating: 0xFF, count: 11), [0x80, 0, 0, 0, 0x7F] + [UInt8](repeating: 0xFF, count: 7),
        ] {
            var archive = tar { $0.add("f", content: [1]) }
            archive.replaceSubrange(124..<136, with: field)
            archive.replaceSubrange(148..<156, with: [UInt8](repeating: 0x20, count: 8))
            let sum = archive[..<512].reduce(0) { $0 + Int($1) }
            let digits = String(sum, radix: 8)
            archive.replaceSubrange(
                148..<156, with: Array((String(repeating: "0", count: 6 - digits.count) + digits).utf8) + [0, 0x20])
            #expect(fault(archive).map { $0.kind == .corrupt || $0.kind == .limit } == true)
        }
    }

    @Test(arguments: ["-9223372036854775808.5", "9223372036854775807.999999999", "-0.5", "1.5e3", "12."])
    func aTimeIsATimeOrAFault(time: String) throws {
        let archive = tar { $0.add("f", content: [1], pax: [("mtime", time)]) }
        if let said = fault(archive) { #expect(said.kind == .corrupt, "\(time): \(said.reason)") }
    }

    @Test(arguments: [
        [
            ("GNU.sparse.major", "0"), ("GNU.sparse.size", "9223372036854775807"),
            ("GNU.sparse.map", "0,9223372036854775807"),
        ],
        [("GNU.sparse.size", "10"), ("GNU.sparse.map", "5,-1")],
        [("GNU.sparse.size", "10"), ("GNU.sparse.map", "9223372036854775800,100")],
        [("GNU.sparse.size", "10"), ("GNU.sparse.map", "5,1,0,1")],
        [("GNU.sparse.size", "10"), ("GNU.sparse.map", "1")],
        [("GNU.sparse.numbytes", "1")],
        [("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "10")],
    ])
    func aSparseMapThatCannotBe(records: [(String, String)]) {
        let said = fault(tar { $0.add("f", content: [1], pax: records) })
        #expect(said != nil && said?.kind != .system, "\(String(describing: said))")
    }

    @Test func aNegativeRealSizeOfAGNUSparseFileIsRefused() {
        var archive = tar { $0.add("f", type: "S", content: [1]) }
        // One segment of the largest length, a real size of -2^63.
        archive.replaceSubrange(386..<398, with: Array("00000000000".utf8) + [0])
        archive.replaceSubrange(398..<410, with: Array("77777777777".utf8) + [0])
        archive.replaceSubrange(483..<495, with: [0xFF, 0xFF, 0xFF, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0])
        archive.replaceSubrange(148..<156, with: [UInt8](repeating: 0x20, count: 8))
        let sum = archive[..<512].reduce(0) { $0 + Int($1) }
        let digits = String(sum, radix: 8)
        archive.replaceSubrange(
            148..<156, with: Array((String(repeating: "0", count: 6 - digits.count) + digits).utf8) + [0, 0x20])
        #expect(fault(archive)?.kind == .corrupt)
    }

    @Test func extendedHeadersWithoutEndAreRefused() {
        let endless = tar { writer in
            for _ in 0..<100 { writer.gnuLongName(Array("name".utf8)) }
            writer.file("f", "x")
        }
        #expect(fault(endless)?.kind == .limit)
        let attributes = (0..<300).map { ("SCHILY.xattr.user.a\($0)", "v") }
        #expect(fault(tar { $0.add("f", content: [1], pax: attributes) })?.kind == .limit)
        let repeated = (0..<300).map { ("SCHILY.xattr.user.a", "v\($0)") }
        #expect(fault(tar { $0.add("f", content: [1], pax: repeated) }) == nil)
    }

    @Test func theLimitsAreTheImagesNotTheLayers() throws {
        var limits = ExtractionLimits()
        limits.entries = 3
        let budget = ExtractionBudget(limits)
        func unpack(_ archive: [UInt8]) throws {
            let scratch = try TemporaryDirectory()
            let root = try OwnedDescriptor.open(scratch.path, O_RDONLY | O_DIRECTORY)
            try LayerExtractor(into: root.raw, budget: budget) { [] }.extract(
                TarReader(BufferedChunks(MemoryStream(archive))))
        }
        try unpack(tar { for i in 0..<2 { $0.file("f\(i)", "") } })
        #expect(throws: ArchiveFault.self) { try unpack(tar { for i in 0..<2 { $0.file("f\(i)", "") } }) }
    }

    /// Deeper than a path, a descriptor table or a stack allows; made by way of links, removed without any.
    @Test func aTreeWithoutBottomIsRemoved() throws {
        let step = Array(repeating: "d", count: 1000).joined(separator: "/")
        let layer = try Unpacked(
            tar {
                $0.directory(step)
                $0.add("s1", type: "2", link: step)
                for level in 1..<6 {
                    $0.directory("s\(level)/\(step)")
                    $0.add("s\(level + 1)", type: "2", link: "s\(level)/\(step)")
                }
                $0.file("s6/bottom", "x")
            })
        let parent = try OwnedDescriptor.open(layer.scratch.path, O_RDONLY | O_DIRECTORY)
        try DirectoryTree.remove(Array("root".utf8), in: parent.raw)
        #expect(layer.neighbours == ["victim"])
    }

    @Test func whatCannotBeEnteredIsRemoved() throws {
        let layer = try Unpacked(tar { $0.file("a/b/c", "x") })
        chmod(layer.root + "/a/b", 0)
        chmod(layer.root + "/a", 0o500)
        let parent = try OwnedDescriptor.open(layer.scratch.path, O_RDONLY | O_DIRECTORY)
        chmod(layer.root + "/a", 0o700)
        try DirectoryTree.remove(Array("root".utf8), in: parent.raw)
        #expect(layer.neighbours == ["victim"])
    }

    @Test func namesDoNotSpeakToTheTerminal() {
        let said = ArchiveFault(.corrupt, entry: [0x1B, 0x5B, 0x32, 0x4A, 0xC2, 0x9B, 10], "x")
        #expect(said.entry == "\\x1b[2J\\x9b\\x0a")
    }
}
