import CLinux
import Foundation
import Glibc
import ImageFormats
import LinuxSystem
import Synchronization
import TestSupport
import Testing

/// A stream over bytes in memory, in pieces of a chosen size.
final class MemoryStream: ByteStream {
    private var rest: ArraySlice<UInt8>
    private let piece: Int
    init(_ bytes: [UInt8], piece: Int = .max) {
        rest = bytes[...]
        self.piece = piece
    }
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        let n = min(buffer.count, rest.count, piece)
        buffer.copyBytes(from: rest.prefix(n))
        rest = rest.dropFirst(n)
        return n
    }
}

/// One unpacked layer in a directory with a neighbour that must stay untouched.
final class Unpacked {
    let scratch: TemporaryDirectory
    let root: String
    private(set) var summary = ExtractionSummary()

    /// The extractor wants umask 0, which belongs to the whole process: tests run side by side, so none puts it back.
    private static let openUmask: mode_t = umask(0)

    init(_ archive: [UInt8], over lower: [Unpacked] = [], piece: Int = .max, limits: ExtractionLimits = .init()) throws
    {
        scratch = try TemporaryDirectory()
        root = scratch.path + "/root"
        try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: false)
        try "safe".write(toFile: scratch.path + "/victim", atomically: false, encoding: .utf8)
        _ = Self.openUmask
        let descriptors = try ([root] + lower.map(\.root)).map {
            try OwnedDescriptor.open($0, O_RDONLY | O_DIRECTORY).release()
        }
        defer { descriptors.forEach { close($0) } }
        let extractor = LayerExtractor(into: descriptors[0], budget: ExtractionBudget(limits)) {
            Array(descriptors[1...])
        }
        try extractor.extract(TarReader(BufferedChunks(MemoryStream(archive, piece: piece))))
        summary = extractor.summary
    }

    func text(_ path: String) -> String? { try? String(contentsOfFile: root + "/" + path, encoding: .utf8) }
    func status(_ path: String) -> stat? {
        var status = stat()
        return lstat(root + "/" + path, &status) == 0 ? status : nil
    }
    func isWhiteout(_ path: String) -> Bool { status(path)?.isWhiteout ?? false }
    func isOpaque(_ path: String) -> Bool {
        var value: UInt8 = 0
        return linux_lgetxattr(root + "/" + path, "user.overlay.opaque", &value, 1) == 1 && value == UInt8(ascii: "y")
    }
    var neighbours: [String] { (try? FileManager.default.contentsOfDirectory(atPath: scratch.path).sorted()) ?? [] }
}

func tar(_ build: (inout TarWriter) -> Void) -> [UInt8] {
    var writer = TarWriter()
    build(&writer)
    return writer.finished()
}

func fault(_ archive: [UInt8], over lower: [Unpacked] = [], limits: ExtractionLimits = .init()) -> ArchiveFault? {
    do {
        _ = try Unpacked(archive, over: lower, limits: limits)
        return nil
    } catch { return error as? ArchiveFault }
}

@Suite struct HostileArchives {
    @Test(arguments: ["../victim", "a/../../victim", "..", "./../victim", "a/b/../../../victim"])
    func aNameAboveTheRootIsRefused(name: String) {
        let said = fault(tar { $0.file(name, "x") })
        #expect(said?.kind == .hostile)
        #expect(said?.entry == name)
    }

    @Test func absoluteNamesStayInside() throws {
        let layer = try Unpacked(tar { $0.file("/etc/x", "in") })
        #expect(layer.text("etc/x") == "in")
    }

    @Test(arguments: ["/etc", "../../..", "/../../etc", "/nowhere/at/all"])
    func aLinkAsParentIsFollowedInsideOnly(target: String) throws {
        let name = "passwd-\(UUID().uuidString)"
        let layer = try Unpacked(
            tar {
                $0.add("d", type: "2", link: target)
                $0.file("d/\(name)", "in")
            })
        #expect(layer.neighbours == ["root", "victim"])
        #expect(!FileManager.default.fileExists(atPath: "/etc/\(name)"))
        // Somewhere below the root, exactly once.
        let found = FileManager.default.enumerator(atPath: layer.root)!.compactMap { $0 as? String }.filter {
            $0.hasSuffix(name)
        }
        #expect(found.count == 1)
    }

    @Test func aFileIsNeverWrittenThroughALink() throws {
        let layer = try Unpacked(
            tar {
                $0.add("f", type: "2", link: "../victim")
                $0.file("f", "mine")
            })
        #expect(layer.text("f") == "mine")
        #expect(layer.status("f")?.isFile == true)
        #expect(try String(contentsOfFile: layer.scratch.path + "/victim", encoding: .utf8) == "safe")
    }

    @Test(arguments: ["../../etc/passwd", "/etc/passwd", "../victim"])
    func aHardLinkOutsideIsRefused(target: String) {
        let said = fault(tar { $0.add("link", type: "1", link: target) })
        #expect(said != nil)
        #expect(
            said?.entry.contains("passwd") == true || said?.entry.contains("victim") == true || said?.entry == "link")
    }

    @Test func aHardLinkThroughALinkStaysInside() {
        let said = fault(
            tar {
                $0.add("d", type: "2", link: "/etc")
                $0.add("stolen", type: "1", link: "d/passwd")
            })
        #expect(said?.entry == "stolen")
    }

    @Test(arguments: [".wh.", "d/.wh.", ".wh...", ".wh.."])
    func aWhiteoutOfNothingIsRefused(name: String) {
        #expect(fault(tar { $0.file(name, "") })?.kind == .hostile)
    }

    @Test func overlayMarksCannotBeSmuggledIn() throws {
        let layer = try Unpacked(
            tar {
                $0.add(
                    "d", type: "5", mode: 0o755,
                    pax: [("SCHILY.xattr.user.overlay.opaque", "y"), ("SCHILY.xattr.user.kept", "k")])
            })
        #expect(!layer.isOpaque("d"))
        #expect(layer.summary.droppedAttributes == 1)
    }

    @Test func truncationAndNoiseAreFaults() {
        let whole = tar { $0.file("a", String(repeating: "x", count: 5000)) }
        #expect(fault(Array(whole.prefix(3000)))?.kind == .corrupt)
        #expect(fault(Array(whole.prefix(300)))?.kind == .corrupt)
        var flipped = whole
        flipped[20] ^= 0xFF
        #expect(fault(flipped)?.reason.contains("checksum") == true)
        #expect(fault([UInt8](repeating: 7, count: 2048))?.kind == .corrupt)
    }

    @Test func limitsHold() {
        var limits = ExtractionLimits()
        limits.entries = 3
        #expect(fault(tar { for i in 0..<4 { $0.file("f\(i)", "") } }, limits: limits)?.kind == .limit)
        limits = ExtractionLimits()
        limits.bytes = 10
        #expect(fault(tar { $0.file("f", "12345678901") }, limits: limits)?.kind == .limit)
    }
}

@Suite struct LayerForms {
    @Test func emptyArchivesAreLayers() throws {
        #expect(try Unpacked([]).summary.entries == 0)
        #expect(try Unpacked([UInt8](repeating: 0, count: 1024)).summary.entries == 0)
    }

    @Test func whiteouts() throws {
        let layer = try Unpacked(
            tar {
                $0.file(".wh.gone", "")
                $0.file("again", "new")
                $0.file(".wh.again", "")
                $0.file(".wh.before", "")
                $0.file("before", "new")
                $0.file("sub/.wh.x", "")
            })
        #expect(layer.isWhiteout("gone"))
        #expect(layer.text("again") == "new")
        #expect(layer.text("before") == "new")
        #expect(layer.isWhiteout("sub/x"))
        #expect(layer.status(".wh.gone") == nil)
    }

    @Test func opaqueInAnyOrder() throws {
        let layer = try Unpacked(
            tar {
                $0.directory("late")
                $0.file("late/x", "1")
                $0.file("late/.wh..wh..opq", "")
                $0.file("early/.wh..wh..opq", "")
                $0.file("early/x", "2")
                $0.file(".wh.dir", "")
                $0.directory("dir")
                $0.directory("dir2")
                $0.file(".wh.dir2", "")
            })
        #expect(layer.isOpaque("late") && layer.text("late/x") == "1")
        #expect(layer.isOpaque("early") && layer.text("early/x") == "2")
        #expect(layer.isOpaque("dir"), "a directory made anew over its whiteout hides the old one")
        #expect(layer.isOpaque("dir2"))
        #expect(layer.status("late/.wh..wh..opq") == nil)
    }

    @Test func aTypeReplacesAnother() throws {
        let kinds: [(Character, String)] = [("0", "file"), ("5", "directory"), ("2", "link")]
        for (first, _) in kinds {
            for (second, _) in kinds where first != second {
                let layer = try Unpacked(
                    tar {
                        $0.add("x", type: first, mode: 0o755, link: first == "2" ? "y" : "")
                        if first == "5" { $0.file("x/inner", "i") }
                        $0.add("x", type: second, mode: 0o755, link: second == "2" ? "y" : "")
                    })
                let status = try #require(layer.status("x"))
                #expect(second == "0" ? status.isFile : second == "5" ? status.isDirectory : status.isLink)
                #expect(layer.summary.duplicates == 1)
            }
        }
    }

    @Test func hardLinksShareAnInode() throws {
        let layer = try Unpacked(
            tar {
                $0.file("a", "same")
                $0.add("b", type: "1", link: "a")
                $0.add("d/c", type: "1", link: "./b")
                $0.add("s", type: "2", link: "missing")
                $0.add("s2", type: "1", link: "s")
            })
        #expect(layer.status("a")?.st_nlink == 3)
        #expect(layer.status("d/c")?.st_ino == layer.status("a")?.st_ino)
        #expect(layer.status("s2")?.isLink == true)
    }

    @Test func aHardLinkIntoALowerLayerIsCopiedUp() throws {
        let bottom = try Unpacked(tar { $0.file("lib/a", "low") })
        let hidden = try Unpacked(tar { $0.file("lib/.wh.a", "") }, over: [bottom])
        let layer = try Unpacked(tar { $0.add("b", type: "1", link: "lib/a") }, over: [bottom])
        #expect(layer.text("b") == "low")
        #expect(layer.status("b")?.st_ino == layer.status("lib/a")?.st_ino)
        #expect(fault(tar { $0.add("b", type: "1", link: "lib/a") }, over: [hidden, bottom]) != nil)
    }

    @Test func modesAndTimes() throws {
        let layer = try Unpacked(
            tar {
                $0.directory("closed", mode: 0)
                $0.add("closed/f", mode: 0, content: [1], pax: [("mtime", "1500000000.25")])
                $0.add("suid", mode: 0o4755)
                $0.directory("sticky", mode: 0o1777)
                $0.add("fifo", type: "6")
                $0.add("null", type: "3")
            })
        #expect(layer.status("closed")!.st_mode & 0o7777 == 0o700)
        #expect(layer.status("closed")!.st_mtim.tv_sec == 1_600_000_000)
        #expect(layer.status("closed/f")!.st_mtim.tv_sec == 1_500_000_000)
        #expect(layer.status("closed/f")!.st_mtim.tv_nsec == 250_000_000)
        #expect(layer.status("suid")!.st_mode & 0o7777 == 0o755)
        #expect(layer.status("sticky")!.st_mode & 0o7777 == 0o1777)
        #expect(layer.status("fifo") == nil && layer.status("null") == nil)
        #expect(layer.summary.skippedDevices == 2)
        var mode = [UInt8](repeating: 0, count: 8)
        #expect(linux_lgetxattr(layer.root + "/suid", "user.trireme.mode", &mode, 8) == 4)
        #expect(String(decoding: mode.prefix(4), as: UTF8.self) == "4755")
    }

    /// Directories no entry speaks of are like the ones below, looked at last; what an entry says later counts more,
    /// and of two entries the second.
    @Test func directoriesThatAreOnlyImplied() throws {
        let below = try Unpacked(
            tar {
                $0.add("like", type: "5", mode: 0o1770, mtime: 1000)
                $0.add("said", type: "5", mode: 0o1770, mtime: 1000)
            })
        var hasAsked = 0
        let scratch = try TemporaryDirectory()
        let root = try OwnedDescriptor.open(scratch.path, O_RDONLY | O_DIRECTORY)
        let lower = try OwnedDescriptor.open(below.root, O_RDONLY | O_DIRECTORY)
        func unpack(_ archive: [UInt8]) throws {
            let extractor = LayerExtractor(into: root.raw) {
                hasAsked += 1
                return [lower.raw]
            }
            try extractor.extract(TarReader(BufferedChunks(MemoryStream(archive))))
        }
        func directory(_ name: String) -> [Int] {
            var status = stat()
            guard lstat(scratch.path + "/" + name, &status) == 0, status.isDirectory else { return [] }
            return [Int(status.st_mode & 0o7777), status.st_mtim.tv_sec]
        }
        try unpack(
            tar {
                $0.file("said/file", "x")
                $0.file("said/deep/file", "x")
                $0.add("said", type: "5", mode: 0o750, mtime: 2000)
                $0.add("said/deep", type: "5", mode: 0o711, mtime: 2001)
                $0.add("twice", type: "5", mode: 0o755, mtime: 1)
                $0.add("twice", type: "5", mode: 0o700, mtime: 2002)
            })
        #expect(hasAsked == 0, "entries speak of all")
        #expect(directory("said") == [0o750, 2000] && directory("said/deep") == [0o711, 2001])
        #expect(directory("twice") == [0o700, 2002])
        try unpack(
            tar {
                $0.file("like/file", "x")
                $0.file("new/gone/file", "x")
                $0.add("new/gone", type: "2", link: "elsewhere")
            })
        #expect(hasAsked == 1)
        #expect(directory("like") == [0o1770, 1000] && directory("new") == [0o755, 0])
        #expect(directory("new/gone") == [])
    }

    /// The kernel gives up on ".." when anything on the machine is renamed meanwhile, and says "try again".
    @Test func linksUpwardsAreFollowedWhileOthersRename() throws {
        let scratch = try TemporaryDirectory()
        try FileManager.default.createDirectory(atPath: scratch.path + "/a/b", withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            atPath: scratch.path + "/up", withDestinationPath: "a/b/../b/../b/../../a/../a/b")
        try "x".write(toFile: scratch.path + "/here", atomically: false, encoding: .utf8)
        let root = try OwnedDescriptor.open(scratch.path, O_RDONLY | O_DIRECTORY)
        final class Flag: Sendable { let isOver = Atomic<Bool>(false) }
        let flag = Flag()
        let other = try Worker { [path = scratch.path] in
            while !flag.isOver.load(ordering: .relaxed) {
                rename(path + "/here", path + "/there")
                rename(path + "/there", path + "/here")
            }
        }
        let inRoot: UInt64 = 0x10  // RESOLVE_IN_ROOT
        for _ in 0..<20_000 {
            let descriptor = linux_openat2(root.raw, "up", UInt64(O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, inRoot)
            let code = errno
            if descriptor >= 0 { close(descriptor) }
            guard descriptor < 0 else { continue }
            Issue.record("\(String(cString: strerror(code)))")
            break
        }
        flag.isOver.store(true, ordering: .relaxed)
        other.join()
    }

    @Test func namesAreBytes() throws {
        let long = "d/" + String(repeating: "n", count: 250)
        let odd: [UInt8] = [0xFF, 0xFE, 10, 0x41]
        let layer = try Unpacked(
            tar {
                $0.gnuLongName(Array(long.utf8))
                $0.file("short", "long")
                $0.add(odd, content: [1])
                $0.add("x", content: [2], pax: [("path", "pax/é\nname")])
                $0.add("nfc\u{e9}", content: [1])
                $0.add("nfce\u{301}", content: [2])
                $0.gnuLongName(Array(String(repeating: "t", count: 300).utf8), type: "K")
                $0.add("sym", type: "2", link: "cut")
            })
        #expect(layer.text(long) == "long")
        #expect(layer.status("pax/é\nname") != nil)
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: layer.root + "/sym").count == 300)
        let directory = try OwnedDescriptor.open(layer.root, O_RDONLY | O_DIRECTORY)
        let names = try DirectoryTree.names(in: directory.raw)
        #expect(names.contains(odd))
        #expect(names.contains(Array("nfc\u{e9}".utf8)) && names.contains(Array("nfce\u{301}".utf8)))
    }

    @Test func anyPieceSizeReadsAlike() throws {
        let archive = tar {
            $0.file("a", String(repeating: "0123456789", count: 333))
            $0.add("x", content: [1, 2], pax: [("path", "p/q")])
            $0.file("z", "end")
        }
        for piece in [1, 7, 511, 512, 513, 4096] {
            let layer = try Unpacked(archive, piece: piece)
            #expect(layer.text("a")?.count == 3330)
            #expect(layer.status("p/q")?.st_size == 2)
            #expect(layer.text("z") == "end")
        }
    }

    /// GNU tar's four ways of writing holes, by its own hand.
    @Test(arguments: [
        ["--format=gnu"], ["--format=pax", "--sparse-version=0.0"], ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ])
    func sparseFiles(options: [String]) throws {
        let scratch = try TemporaryDirectory()
        let source = scratch.path + "/holes"
        let file = try OwnedDescriptor.open(source, O_RDWR | O_CREAT, mode: 0o644)
        for i in 0..<40 { #expect(pwrite(file.raw, "block\(i)", 6, i * 1_000_000) == 6) }
        ftruncate(file.raw, 50_000_000)
        try runProgram(["tar", "-C", scratch.path, "--sparse"] + options + ["-cf", scratch.path + "/t.tar", "holes"])
        let archive = try OwnedDescriptor.open(scratch.path + "/t.tar", O_RDONLY).readAll()
        #expect(archive.count < 5_000_000)
        let layer = try Unpacked(archive)
        #expect(try runProgram(["cmp", source, layer.root + "/holes"]).status == 0)
        #expect(layer.status("holes")!.st_blocks * 512 < 5_000_000, "the holes are kept")
    }
}
