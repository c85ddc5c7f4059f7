import FuzzerDriver
import Glibc
import ImageFormats

/// The input, a few bytes a time: what is cut anywhere must read the same.
private final class Pieces: ByteStream {
    private var rest: ArraySlice<UInt8>
    private let piece: Int
    init(_ bytes: [UInt8], piece: Int) {
        rest = bytes[...]
        self.piece = piece
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        let count = min(rest.count, piece, buffer.count)
        buffer.copyBytes(from: rest.prefix(count))
        rest = rest.dropFirst(count)
        return count
    }
}

/// What an archive said, to compare two readings of it.
private struct Reading: Equatable {
    var entries = 0
    var digest: UInt64 = 0xCBF2_9CE4_8422_2325
    var fault: String?

    mutating func add(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { digest = (digest ^ UInt64(byte)) &* 0x100_0000_01B3 }
    }
}

/// Bytes of plain data after which a reading is given up: a bomb is the importer's to refuse.
private let plainLimit = 8 << 20

private func read(_ bytes: [UInt8], piece: Int) -> Reading {
    var reading = Reading()
    var plain = 0
    do throws(ArchiveFault) {
        let stream = try Compression.detect(bytes).decompressing(Pieces(bytes, piece: piece))
        let archive = TarReader(BufferedChunks(stream, bytes: 64 << 10))
        while plain < plainLimit, let entry = try archive.next() {
            guard entry.size >= 0, entry.storedBytes >= 0 else { fatalError("a negative size was believed") }
            reading.entries += 1
            reading.add(entry.path)
            reading.add(entry.linkTarget)
            if entry.storedBytes > Int64(plainLimit) { break }
            try archive.readData { data throws(ArchiveFault) in
                plain += data.count
                reading.add(data)
            }
        }
    } catch {
        reading.fault = error.reason
    }
    return reading
}

/// A squashfs image of anybody's: refused, or read within its own bounds.
private func mount(_ bytes: [UInt8]) {
    var name = "/tmp/squashfs-XXXXXX".utf8CString.map { $0 }
    let file = mkstemp(&name)
    guard file >= 0 else { fatalError("mkstemp: \(errno)") }
    unlink(name)
    defer { close(file) }
    guard write(file, bytes, bytes.count) == bytes.count else { fatalError("write: \(errno)") }
    guard let reader = try? SquashReader(file, length: Int64(bytes.count)) else { return }
    if let root = try? reader.root() {
        _ = try? reader.directory(root).find(Array("a".utf8), reader)
        _ = try? reader.attributes(of: root)
    }
    for path in ["etc/passwd", "a/b", "link"] {
        guard let inode = try? reader.find(path) else { continue }
        _ = try? reader.target(of: inode)
        _ = try? reader.contents(of: path)
    }
}

/// Any bytes: an image or archive that is read, the same in whatever pieces it comes, or refused.
private func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if bytes.starts(with: Array("hsqs".utf8)) {
        mount(bytes)
        return 0
    }
    let whole = read(bytes, piece: .max)
    let pieces = read(bytes, piece: 7)
    // Of corrupt data a decompressor may give more or less before it notices, and notice something else.
    let agrees = whole.fault == nil ? pieces == whole : pieces.fault != nil
    guard agrees else { fatalError("an archive reads otherwise in pieces: \(whole), \(pieces)") }
    return 0
}

/// SwiftPM links this as the program's main.
@_cdecl("ArchiveFuzzer_main")
public func run(
    _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
    var count = count
    var arguments = arguments
    return LLVMFuzzerRunDriver(&count, &arguments) { testOneInput($0, $1) }
}
