import Foundation
import Glibc
import ImageFormats
import TestSupport
import Testing

/// Built only where libisal is.
private let program = (try? Programs.path("trireme-inflate")) ?? ""

@Suite(.enabled(if: access(program, X_OK) == 0, "trireme-inflate is not built here")) struct SealedInflateTests {
    private func gzip(_ bytes: [UInt8], _ options: String = "-6") throws -> [UInt8] {
        Array(try runProgram(["gzip", "-c", "-n", options], input: Data(bytes)).output)
    }

    /// Text, runs and noise, more than the pieces that pass between the processes.
    private let sample: [UInt8] = {
        var noise: UInt32 = 1
        return (0..<1_500_000).map { i in
            noise = noise &* 1_664_525 &+ 1_013_904_223
            return i % 7000 < 3000 ? UInt8(truncatingIfNeeded: i % 93 + 32) : i % 5 == 0 ? 0 : UInt8(noise >> 24)
        }
    }()

    /// All of a stream's bytes, or why there are none.
    private func outcome(_ stream: any ByteStream) -> Result<[UInt8], ArchiveFault> {
        do throws(ArchiveFault) {
            let chunks = BufferedChunks(stream, bytes: 100_001)
            var result: [UInt8] = []
            while let chunk = try chunks.nextChunk() { result += chunk }
            return .success(result)
        } catch { return .failure(error) }
    }

    private func sealed(_ bytes: [UInt8], piece: Int = .max) throws -> Result<[UInt8], ArchiveFault> {
        outcome(try #require(SealedInflate(MemoryStream(bytes, piece: piece), program: program)))
    }

    @Test func membersAndPaddingInPiecesOfAnySize() throws {
        let small = Array(sample[..<9000])
        let stream = try gzip(small, "-9") + gzip([]) + gzip(small, "-1") + [0, 0, 0]
        for piece in [1, 3, 8, 1000, .max] {
            #expect(try sealed(stream, piece: piece).get() == small + small, "in pieces of \(piece)")
        }
        #expect(try sealed(gzip(sample) + gzip(sample, "-1")).get() == sample + sample)
    }

    @Test func headersWithEverythingInThem() throws {
        let plain = try gzip(Array(sample[..<5000]))
        // Flags: an extra field of 300 bytes, a name, a comment (RFC 1952, 2.3).
        var header = Array(plain[..<10])
        header[3] = 0x04 | 0x08 | 0x10
        header += [44, 1] + Array(repeating: 7, count: 300) + Array("layer.tar\0made by hand\0".utf8)
        let stream = header + plain[10...]
        for piece in [1, 11, 200, .max] { #expect(try sealed(stream, piece: piece).get() == Array(sample[..<5000])) }
    }

    @Test func damageIsRefusedWhereZlibRefusesIt() throws {
        let whole = try gzip(Array(sample[..<60000]))
        var cases: [[UInt8]] = [[], [0x1F], whole + Array("garbage, long enough".utf8), whole + [0, 1]]
        cases += stride(from: 1, to: whole.count, by: whole.count / 20).map { Array(whole[..<$0]) }
        cases += [1, 4, 8].map { Array(whole.dropLast($0)) }
        for place in Array(0..<12) + Array(stride(from: 12, to: whole.count, by: whole.count / 60)) {
            var flipped = whole
            flipped[place] ^= 0x41
            cases.append(flipped)
        }
        for place in 1...8 {
            var flipped = whole
            flipped[whole.count - place] ^= 0x80
            cases.append(flipped)
        }
        for (number, bytes) in cases.enumerated() {
            let zlib = outcome(try GunzipStream(MemoryStream(bytes, piece: .max)))
            let ours = try sealed(bytes)
            switch (zlib, ours) {
            case (.success(let a), .success(let b)): #expect(a == b, "case \(number)")
            case (.failure(let a), .failure(let b)):
                #expect(b.kind == .corrupt, "case \(number): \(b.reason)")
                // Where the bytes are wrong is found earlier by one or the other.
                if a.reason.hasPrefix("truncated"), number < 2 { #expect(b.reason == a.reason, "case \(number)") }
            default: Issue.record("case \(number): zlib said \(zlib), trireme-inflate \(ours)")
            }
        }
        #expect(throws: ArchiveFault(.corrupt, "corrupt gzip data: incorrect header check")) {
            try sealed(cases[2]).get()
        }
        #expect(throws: ArchiveFault(.corrupt, "corrupt gzip data: incorrect data check")) {
            try sealed(cases.last!).get()
        }
        #expect(throws: ArchiveFault(.corrupt, "truncated: gzip data ends in the middle")) {
            try sealed(Array(whole.dropLast(1))).get()
        }
    }

    @Test func itHasGivenUpEverySystemCallButThree() throws {
        let stream = try #require(SealedInflate(MemoryStream(try gzip(sample), piece: .max), program: program))
        let status = try String(contentsOfFile: "/proc/\(stream.process)/status", encoding: .utf8)
        // 1: strict. proc(5)
        #expect(status.contains("Seccomp:\t1\n"))
        let files = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(stream.process)/fd")
        #expect(files == ["0"], "its socket, and nothing that it was started with")
        #expect(try outcome(stream).get() == sample)
    }

    @Test func itsDeathIsAFaultOfTheStream() throws {
        let stream = try #require(SealedInflate(MemoryStream(try gzip(sample), piece: .max), program: program))
        kill(stream.process, SIGKILL)
        guard case .failure(let fault) = outcome(stream) else {
            Issue.record("a dead process went on inflating")
            return
        }
        #expect(fault.kind == .corrupt)
        #expect(fault.reason.contains("trireme-inflate"))
    }

    @Test func whatDoesNotAnswerIsNotUsed() {
        for other in ["/bin/true", "/nowhere/trireme-inflate", "/etc/passwd"] {
            let stream = MemoryStream([1, 2, 3], piece: .max)
            #expect(SealedInflate(stream, program: other) == nil)
        }
    }
}
