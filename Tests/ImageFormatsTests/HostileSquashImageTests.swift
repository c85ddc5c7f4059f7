import Foundation
import Glibc
import ImageFormats
import LinuxSystem
import TestSupport
import Testing

/// Images of `Tests/HostileImages/images.py`: refused, or read as they are.
@Suite("squashfs: hostile images", .serialized) struct HostileSquashImageTests {
    let scratch: TemporaryDirectory

    init() throws {
        scratch = try TemporaryDirectory()
        let script =
            URL(fileURLWithPath: #filePath).deletingLastPathComponent().path
            + "/../HostileImages/images.py"
        let run = try runProgram(["python3", script, scratch.path])
        #expect(run.status == 0, "\(run.errorText)")
    }

    private struct Reading {
        var files = 0
        var fault: ArchiveFault?
    }

    /// Everything a server is asked for, up to a bound.
    private func walk(_ name: String) throws -> Reading {
        let file = try OwnedDescriptor.open("\(scratch.path)/\(name).sqfs", O_RDONLY)
        let size = lseek(file.raw, 0, SEEK_END)
        var reading = Reading()
        do throws(ArchiveFault) {
            let reader = try SquashReader(file.raw, length: Int64(size))
            var pending = [try reader.root()]
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 64)
            defer { buffer.deallocate() }
            while let inode = pending.popLast(), reading.files < 6000 {
                reading.files += 1
                _ = try reader.attributes(of: inode)
                if inode.kind == .file {
                    for at in [0, inode.size / 2, inode.size - min(inode.size, 10)] {
                        _ = try reader.read(inode, at: at, into: buffer)
                    }
                }
                guard inode.kind == .directory else { continue }
                _ = try reader.directory(inode).find(Array("zzz".utf8), reader)
                var entries = try reader.entries(inode)
                while pending.count < 50, let entry = try entries.next() {
                    pending.append(try reader.inode(entry.reference))
                }
            }
        } catch { reading.fault = error }
        return reading
    }

    @Test(arguments: [
        "fragment-of-nothing", "block-list", "block-list-long", "attributes", "huge", "listing-of-zeros",
    ])
    func isRefused(name: String) throws {
        let reading = try walk(name)
        let fault = try #require(reading.fault, "\(name) was read")
        #expect([.corrupt, .limit, .hostile].contains(fault.kind), "\(name): \(fault.reason)")
    }

    @Test func longDirectoriesAreReadByPages() throws {
        let reading = try walk("names")
        #expect(reading.fault == nil, "\(String(describing: reading.fault))")
        let file = try OwnedDescriptor.open("\(scratch.path)/names.sqfs", O_RDONLY)
        let reader = try SquashReader(file.raw, length: Int64(lseek(file.raw, 0, SEEK_END)))
        let directory = try reader.directory(try reader.root())
        #expect(directory.count == 300_000)
        // At the borders of pages, in the middle, beyond either end.
        for index in [0, 1, 511, 512, 513, 1023, 1024, 150_000, 299_999] {
            let name = try directory.entry(index, reader).name
            #expect(name.starts(with: String(format: "%08d", index).utf8))
            #expect(try directory.find(name, reader)?.name == name)
            #expect(try directory.find(name + [0x21], reader) == nil)
        }
        #expect(try directory.find(Array("!".utf8), reader) == nil)
        #expect(try directory.find(Array("~".utf8), reader) == nil)
    }

    @Test func theRestIsReadOrRefused() throws {
        for name in ["sound", "confused", "deep", "fragments", "attribute-sets"] {
            #expect(try walk(name).fault == nil, "\(name)")
        }
        let file = try OwnedDescriptor.open("\(scratch.path)/cycle.sqfs", O_RDONLY)
        let reader = try SquashReader(file.raw, length: Int64(lseek(file.raw, 0, SEEK_END)))
        let target = try TemporaryDirectory()
        let root = try OwnedDescriptor.open(target.path, O_RDONLY | O_DIRECTORY)
        #expect(throws: ArchiveFault.self) {
            var extraction = SquashExtraction(reader, into: root.raw)
            _ = try extraction.run()
        }
    }

    /// Blocks on both sides of a page of the block list, read in any order, are the same.
    @Test func pagesOfABlockList() throws {
        let fixture = try SquashFixture()
        try fixture.shell("rm -rf tree/*; seq 1 3000000 >tree/numbers")
        var options = SquashWriter.Options()
        options.blockBytes = 4096
        try fixture.write("numbers.sqfs", options: options)
        let content = try Data(contentsOf: URL(fileURLWithPath: fixture.path + "/tree/numbers"))
        let file = try OwnedDescriptor.open(fixture.path + "/numbers.sqfs", O_RDONLY)
        let reader = try SquashReader(file.raw, length: Int64(lseek(file.raw, 0, SEEK_END)))
        let inode = try #require(try reader.find("numbers"))
        var buffer = [UInt8](repeating: 0, count: 10000)
        for at in [content.count - 5000, 1024 * 4096 - 3, 0, 2048 * 4096 - 5000, 5000 * 4096 + 17, 1023 * 4096] {
            let n = try buffer.withUnsafeMutableBytes { try reader.read(inode, at: UInt64(at), into: $0) }
            #expect(n == min(10000, content.count - at))
            #expect(buffer[..<n].elementsEqual(content[at..<at + n]), "at \(at)")
        }
    }

    /// What a reader keeps of directories and block lists does not keep the reader.
    @Test func aReaderGoesWithItsLastUser() throws {
        for name in ["sound", "names", "fragments"] {
            let file = try OwnedDescriptor.open("\(scratch.path)/\(name).sqfs", O_RDONLY)
            weak var left: SquashReader?
            try {
                let reader = try SquashReader(file.raw, length: Int64(lseek(file.raw, 0, SEEK_END)))
                left = reader
                _ = try reader.directory(try reader.root()).find(Array("a".utf8), reader)
                if let inode = try reader.find("a"), inode.kind == .file {
                    var buffer = [UInt8](repeating: 0, count: 16)
                    _ = try? buffer.withUnsafeMutableBytes { try reader.read(inode, at: 0, into: $0) }
                }
            }()
            #expect(left == nil, "\(name)")
        }
    }
}
