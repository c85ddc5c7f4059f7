import Foundation
import Glibc
import ImageFormats
import LinuxSystem
import TestSupport
import Testing

@Suite("squashfs: the same as squashfs-tools, both ways")
struct SquashTests {
    @Test("What we write, unsquashfs reads: content, modes, times, attributes, hard links")
    func writtenIsReadByOthers() throws {
        let fixture = try SquashFixture()
        try fixture.write("ours.sqfs")
        try fixture.shell("unsquashfs -quiet -no-progress -dest theirs ours.sqfs")
        #expect(try fixture.listing("theirs") == fixture.listing("tree"))
        #expect(try fixture.shell("unsquashfs -stat ours.sqfs").contains("Compression zstd"))
    }

    @Test(
        "What mksquashfs writes, we read",
        arguments: [
            "-comp zstd", "-comp gzip -b 4096", "-comp zstd -noI -noD -noF", "-comp gzip -always-use-fragments",
        ])
    func writtenByOthersIsRead(_ how: String) throws {
        let fixture = try SquashFixture()
        try fixture.shell("mksquashfs tree theirs.sqfs \(how) -quiet -no-progress >/dev/null")
        try fixture.extract("theirs.sqfs", to: "out")
        #expect(try fixture.listing("out") == fixture.listingWithoutPrivileges("tree"))
    }

    @Test("What we write, we read; gzip and other block sizes too")
    func roundTrip() throws {
        let fixture = try SquashFixture()
        // unsquashfs keeps this bit for root alone.
        try fixture.shell("chmod 4751 tree/a/random-too")
        var options = SquashWriter.Options()
        options.compression = .gzip
        options.level = 6
        options.blockBytes = 16 << 10
        try fixture.write("ours.sqfs", options: options)
        try fixture.extract("ours.sqfs", to: "out")
        #expect(try fixture.listing("out") == fixture.listingWithoutPrivileges("tree"))
    }

    @Test("The same tree gives the same bytes, and equal files are stored once")
    func reproducible() throws {
        let fixture = try SquashFixture()
        var options = SquashWriter.Options()
        options.fixedTime = 1_000_000_000
        options.threadCount = 1
        try fixture.write("one.sqfs", options: options)
        options.threadCount = 5
        try fixture.write("two.sqfs", options: options)
        try fixture.shell("cmp one.sqfs two.sqfs")
        let size = try FileManager.default.attributesOfItem(atPath: fixture.path + "/one.sqfs")[.size] as? Int ?? 0
        // The 300000 random bytes, which are in the tree twice, do not shrink.
        #expect((300_000..<360_000).contains(size))
    }

    @Test("Other compressions are refused with words that help")
    func refusedCompression() throws {
        let fixture = try SquashFixture()
        try fixture.shell("mksquashfs tree/a xz.sqfs -comp xz -quiet -no-progress >/dev/null")
        #expect {
            try fixture.extract("xz.sqfs", to: "out")
        } throws: { error in
            guard let fault = error as? ArchiveFault else { return false }
            return fault.kind == .unsupported && fault.reason.contains("xz") && fault.reason.contains("unsquashfs")
        }
    }

    @Test("A SIF file's system partition is found behind its descriptors")
    func sif() throws {
        let fixture = try SquashFixture()
        try fixture.write("ours.sqfs")
        let payload = try Data(contentsOf: URL(fileURLWithPath: fixture.path + "/ours.sqfs"))
        var file = SIFBytes.header(descriptors: 2)
        file += SIFBytes.descriptor(type: 0x4001, offset: 20, size: 5, fileSystem: 0, partition: 0)
        file += SIFBytes.descriptor(type: 0x4004, offset: 8192, size: payload.count, fileSystem: 1, partition: 2)
        file += [UInt8](repeating: 0, count: 8192 - file.count) + payload
        try Data(file).write(to: URL(fileURLWithPath: fixture.path + "/image.sif"))
        try fixture.extract("image.sif", to: "out")
        #expect(try fixture.listing("out") == fixture.listingWithoutPrivileges("tree"))
        for (fileSystem, said) in [(2, "ext3"), (5, "encrypted")] {
            var other = Array(file[..<(128 + 585)])
            other += SIFBytes.descriptor(
                type: 0x4004, offset: 8192, size: payload.count, fileSystem: UInt32(fileSystem), partition: 2)
            other += [UInt8](repeating: 0, count: 8192)
            let image = try MemoryImage(other)
            #expect(throws: ArchiveFault.self, "\(said)") { try image.walk() }
        }
    }
}

@Suite("squashfs: images that lie")
struct HostileSquashTests {
    private func small(_ options: String = "-comp zstd") throws -> [UInt8] {
        let fixture = try SquashFixture()
        try fixture.shell(
            """
            rm -rf tree/big; mkdir -p s/loopdir/inner; cp tree/a/small tree/text s/; ln -s x s/link; cp s/small s/loopdir/inner
            setfattr -n user.colour -v blue s/small; head -c 20000 /dev/urandom > s/r
            mksquashfs s s.sqfs -b 4096 \(options) -quiet -no-progress -no-duplicates >/dev/null
            """)
        return Array(try Data(contentsOf: URL(fileURLWithPath: fixture.path + "/s.sqfs")))
    }

    /// Whatever happens must be an `ArchiveFault` or a successful reading of something.
    private func survives(_ bytes: [UInt8]) throws -> Bool {
        let image = try MemoryImage(bytes)
        do { return try image.walk() > 0 } catch is ArchiveFault { return false }
    }

    @Test("Every truncation is an error")
    func truncated() throws {
        let image = try small()
        #expect(try survives(image))
        let used = image.withUnsafeBytes { Int($0.loadUnaligned(fromByteOffset: 40, as: UInt64.self)) }
        for length in Array(0...100) + Array(stride(from: 101, to: used, by: 61)) {
            #expect(try !survives(Array(image[..<length])), "\(length) of \(used) bytes")
        }
    }

    @Test("Every field of the superblock may hold anything")
    func superblock() throws {
        let image = try small()
        for at in stride(from: 0, to: 96, by: 2) {
            for value: UInt16 in [0, 1, 0x7FFF, 0x8000, 0xFFFF] {
                var bytes = image
                bytes[at] = UInt8(value & 0xFF)
                bytes[at + 1] = UInt8(value >> 8)
                _ = try survives(bytes)
            }
        }
        for at in stride(from: 32, to: 96, by: 8) {
            for value in [UInt64.max, UInt64.max - 1, UInt64(Int64.max), 1 << 48, UInt64(image.count) - 1] {
                var bytes = image
                withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(at..<(at + 8), with: $0) }
                _ = try survives(bytes)
            }
        }
        var bytes = image
        bytes[0] ^= 1
        #expect(try !survives(bytes), "wrong magic")
    }

    @Test(
        "Tables may hold anything: bytes of uncompressed ones changed one after the other",
        arguments: [0xFF, 0x80, 0x01])
    func tables(_ flip: Int) throws {
        let image = try small("-comp gzip -noI -noD -noF -noX")
        let inodes = image.withUnsafeBytes { Int($0.loadUnaligned(fromByteOffset: 64, as: UInt64.self)) }
        let used = image.withUnsafeBytes { Int($0.loadUnaligned(fromByteOffset: 40, as: UInt64.self)) }
        var failures = 0
        for at in inodes..<used {
            var bytes = image
            bytes[at] ^= UInt8(flip)
            if try !survives(bytes) { failures += 1 }
        }
        #expect(failures > 50, "most of these bytes matter")
    }

    @Test("A directory that holds itself is refused, not followed")
    func loop() throws {
        var image = try small("-comp gzip -noI")
        let root = image.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 32, as: UInt64.self) }
        let table = image.withUnsafeBytes { Int($0.loadUnaligned(fromByteOffset: 72, as: UInt64.self)) }
        let name = Array("loopdir".utf8)
        let at = try #require(
            (table..<(image.count - name.count)).first { image[$0..<($0 + name.count)].elementsEqual(name) })
        image[at - 8] = UInt8(root & 0xFF)
        image[at - 7] = UInt8(root >> 8 & 0xFF)
        let memory = try MemoryImage(image)
        let scratch = try TemporaryDirectory()
        let target = try OwnedDescriptor.open(scratch.path, O_RDONLY | O_DIRECTORY)
        let reader = try SquashReader(memory.file, length: Int64(memory.count))
        var extraction = SquashExtraction(reader, into: target.raw)
        var fault: ArchiveFault?
        do { _ = try extraction.run() } catch { fault = error }
        #expect(fault?.kind == .hostile)
    }
}

/// Parts of a SIF file (SIFFile.swift says how they are laid out).
private enum SIFBytes {
    static func header(descriptors: UInt64) -> [UInt8] {
        var bytes =
            Array("#!/usr/bin/env run-singularity\n\0".utf8) + Array("SIF_MAGIC\0".utf8) + Array("01\u{0}02\u{0}".utf8)
        bytes += [UInt8](repeating: 0, count: 128 - bytes.count)
        bytes.replaceSubrange(88..<96, with: little(descriptors))
        bytes.replaceSubrange(96..<104, with: little(UInt64(128)))
        return bytes
    }

    static func descriptor(type: UInt32, offset: Int, size: Int, fileSystem: UInt32, partition: UInt32) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 585)
        bytes.replaceSubrange(0..<4, with: little(type))
        bytes[4] = 1
        bytes.replaceSubrange(17..<25, with: little(UInt64(offset)))
        bytes.replaceSubrange(25..<33, with: little(UInt64(size)))
        bytes.replaceSubrange(201..<205, with: little(fileSystem))
        bytes.replaceSubrange(205..<209, with: little(partition))
        return bytes
    }

    private static func little<N: FixedWidthInteger>(_ number: N) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian) { Array($0) }
    }
}
