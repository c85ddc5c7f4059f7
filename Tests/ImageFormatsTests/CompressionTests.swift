import Foundation
import Glibc
import ImageFormats
import TestSupport
import Testing

@Suite struct CompressionTests {
    /// `bytes` through a program that reads standard input.
    private func piped(_ program: [String], _ bytes: [UInt8]) throws -> [UInt8] {
        Array(try runProgram(program, input: Data(bytes)).output)
    }

    private let sample: [UInt8] = (0..<700_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 7) }

    private func plain(_ bytes: [UInt8], piece: Int = .max) throws -> [UInt8] {
        let stream = try Compression.detect(bytes.prefix(Compression.magicBytes)).decompressing(
            MemoryStream(bytes, piece: piece))
        let chunks = BufferedChunks(stream, bytes: 1000)
        var result: [UInt8] = []
        while let chunk = try chunks.nextChunk() { result += chunk }
        return result
    }

    @Test func gzipMembersFollowEachOther() throws {
        let one = try piped(["gzip", "-c"], sample)
        let two = try piped(["gzip", "-9c"], Array(sample.reversed()))
        let both = sample + sample.reversed()
        #expect(try plain(one + two) == both)
        #expect(try plain(one + two + [0, 0, 0], piece: 3) == both)
        #expect(throws: ArchiveFault.self) { try plain(one + Array("garbage".utf8)) }
    }

    @Test func zstdFramesAndSkippableOnes() throws {
        let frame = try piped(["zstd", "-c"], sample)
        let skippable: [UInt8] = [0x55, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 9, 9, 9]
        #expect(try plain(skippable + frame + skippable + frame) == sample + sample)
        #expect(try plain(frame, piece: 5) == sample)
    }

    @Test(arguments: ["gzip", "zstd"])
    func damageIsSeen(program: String) throws {
        let whole = try piped([program, "-c"], sample)
        #expect(throws: ArchiveFault.self) { try plain(Array(whole.dropLast(9))) }
        #expect(throws: ArchiveFault.self) { try plain(Array(whole.prefix(whole.count / 2))) }
        var flipped = whole
        flipped[whole.count / 2] ^= 0x55
        #expect(throws: ArchiveFault.self) { _ = try plain(flipped) == sample }
    }

    @Test(arguments: ["bzip2", "xz"])
    func othersAreNamed(program: String) throws {
        let bytes: [UInt8] = program == "xz" ? [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0] : Array("BZh91A".utf8)
        do {
            _ = try Compression.detect(bytes)
            Issue.record("\(program) was not recognised")
        } catch { #expect(error.reason.contains(program)) }
    }

    @Test func aRingShowsEveryConsumerEverything() throws {
        let ring = ChunkRing(slots: 3, bytes: 1000, consumers: 2)
        let other = ring.reader(1)
        let sample = sample
        let producer = try Worker { ring.pump(MemoryStream(sample, piece: 777)) }
        let counter = try Worker {
            var count = 0
            while let chunk = try? other.nextChunk() { count += chunk.count }
            if count != sample.count { Issue.record("the second consumer saw \(count) bytes") }
        }
        let reader = ring.reader(0)
        var seen: [UInt8] = []
        while let chunk = try reader.nextChunk() { seen += chunk }
        producer.join()
        counter.join()
        #expect(seen == sample)
    }
}
