import FuzzerDriver
import Glibc
import ImageFormats
@testable import ImageMount

/// A squashfs image of anybody's behind the server of single-file images: all that the kernel asks of one, and
/// what no kernel would ask. What follows the image in the input (its superblock says how long it is) is
/// requests, of `requestBytes` each.
private enum Limit {
    /// Questions per input: walks that do not end are the caller's to end.
    static let questions = 400
    /// What a server may have resident beyond what it began with (SECURITY.md).
    static let residentKiB = 64 << 10
    static let requestBytes = 24
    /// struct squashfs_super_block, bytes_used.
    static let imageBytesAt = 40
}

/// One request as the kernel words it (linux/fuse.h, struct fuse_in_header).
private func request(_ operation: UInt32, node: UInt64, _ body: [UInt8]) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: FuseProtocol.inHeaderBytes)
    bytes.withUnsafeMutableBytes {
        $0.storeBytes(of: operation, toByteOffset: 4, as: UInt32.self)
        $0.storeBytes(of: 7, toByteOffset: 8, as: UInt64.self)
        $0.storeBytes(of: node, toByteOffset: 16, as: UInt64.self)
    }
    return bytes + body
}

private func bytes(_ numbers: UInt64...) -> [UInt8] {
    numbers.flatMap { number in withUnsafeBytes(of: number) { Array($0) } }
}

private struct Interrogation {
    let fileSystem: FuseFileSystem
    let memory: UnsafeMutableRawBufferPointer
    private(set) var asked = 0
    /// In the order of finding, the root first.
    private var nodes: [UInt64] = [FuseProtocol.rootNode]

    init(_ fileSystem: FuseFileSystem, _ memory: UnsafeMutableRawBufferPointer) {
        self.fileSystem = fileSystem
        self.memory = memory
    }

    private mutating func ask(_ operation: UInt32, _ node: UInt64, _ body: [UInt8]) -> [UInt8] {
        asked += 1
        return request(operation, node: node, body).withUnsafeBytes { raw in
            guard let question = FuseRequest(raw), let answer = fileSystem.answer(question, in: memory) else {
                return []
            }
            guard answer.count >= FuseProtocol.outHeaderBytes, answer.count <= memory.count,
                answer.loadUnaligned(as: UInt32.self) == answer.count
            else { fatalError("a reply of \(answer.count) bytes") }
            return Array(answer)
        }
    }

    private mutating func ask(_ operation: FuseOperation, _ node: UInt64, _ body: [UInt8] = []) -> [UInt8] {
        ask(operation.rawValue, node, body)
    }

    /// About every node that the answers name.
    mutating func walk() {
        _ = ask(.initialize, 0, [UInt8](repeating: 0xFF, count: 16))
        _ = ask(.statFileSystem, FuseProtocol.rootNode)
        var next = 0
        while next < nodes.count, asked < Limit.questions {
            let node = nodes[next]
            next += 1
            _ = ask(.getAttributes, node)
            _ = ask(.readLink, node)
            _ = ask(.lookup, node, Array("a\0".utf8))
            for at: UInt64 in [0, 4095, 1 << 31, 1 << 62, .max] { _ = ask(.read, node, bytes(0, at, 1 << 18, 0, 0)) }
            _ = ask(.listExtended, node, bytes(65536))
            _ = ask(.getExtended, node, bytes(65536) + Array("user.a\0".utf8))
            _ = ask(.readDirectory, node, bytes(0, 1, 4096, 0, 0))
            note(ask(.readDirectoryPlus, node, bytes(0, 0, 1 << 16, 0, 0)))
        }
    }

    /// In a reply of READDIRPLUS each entry begins with its node; 0 names nothing.
    private mutating func note(_ listing: [UInt8]) {
        var at = FuseProtocol.outHeaderBytes
        while at + FuseProtocol.entryBytes + 24 <= listing.count, nodes.count < Limit.questions {
            let (found, name) = listing.withUnsafeBytes {
                (
                    $0.loadUnaligned(fromByteOffset: at, as: UInt64.self),
                    $0.loadUnaligned(fromByteOffset: at + FuseProtocol.entryBytes + 16, as: UInt32.self)
                )
            }
            if found != 0, !nodes.contains(found) { nodes.append(found) }
            at += FuseProtocol.entryBytes + (24 + Int(name) + 7) & ~7
        }
    }

    /// Asks what the input words: an operation, a node that was found or any number, and what follows the header.
    mutating func ask(_ raw: ArraySlice<UInt8>) {
        var rest = raw
        while rest.count >= 2, asked < 2 * Limit.questions {
            let chosen = rest.prefix(Limit.requestBytes)
            rest = rest.dropFirst(Limit.requestBytes)
            let (operation, place) = (chosen[chosen.startIndex], chosen[chosen.startIndex + 1])
            let body = Array(chosen.dropFirst(2))
            var node = nodes[Int(place) % nodes.count]
            if place >= 0xC0, body.count >= 8 { node = body.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) } }
            _ = ask(UInt32(operation), node, body)
            // At an offset the kernel's word for it is the second.
            _ = ask(UInt32(operation), node, bytes(0) + body)
        }
    }
}

/// A line of /proc/self/status that counts KiB.
private func residentKiB(_ name: String) -> Int {
    let file = open("/proc/self/status", O_RDONLY | O_CLOEXEC)
    defer { close(file) }
    var text = [UInt8](repeating: 0, count: 8192)
    let count = read(file, &text, text.count)
    let lines = String(decoding: text.prefix(max(0, count)), as: UTF8.self).split(separator: "\n")
    guard let line = lines.first(where: { $0.hasPrefix(name + ":") }),
        let number = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap({ Int($0) })
    else { fatalError("/proc/self/status has no \(name)") }
    return number
}

/// proc_pid_clear_refs(5): the peak counts from now on.
private func resetPeak() {
    let file = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)
    defer { close(file) }
    guard write(file, "5", 1) == 1 else { fatalError("clear_refs: \(errno)") }
}

private func serve(_ file: Int32, _ input: [UInt8]) {
    guard let reader = try? SquashReader(file, length: Int64(input.count)),
        let fileSystem = try? FuseFileSystem(reader, userID: 1, groupID: 1)
    else { return }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: FuseReply.capacity, alignment: 64)
    defer { memory.deallocate() }
    var interrogation = Interrogation(fileSystem, memory)
    interrogation.walk()
    let used = input.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: Limit.imageBytesAt, as: UInt64.self) }
    interrogation.ask(input[Int(min(used, UInt64(input.count)))...])
}

private func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    var name = "/tmp/squashfs-XXXXXX".utf8CString.map { $0 }
    let file = mkstemp(&name)
    guard file >= 0 else { fatalError("mkstemp: \(errno)") }
    unlink(name)
    defer { close(file) }
    guard write(file, input, input.count) == input.count else { fatalError("write: \(errno)") }
    resetPeak()
    let before = residentKiB("VmRSS")
    serve(file, input)
    let grown = residentKiB("VmHWM") - before
    guard grown <= Limit.residentKiB else { fatalError("\(grown) KiB for an image of \(count) bytes") }
    return 0
}

/// SwiftPM links this as the program's main.
@_cdecl("SquashFuzzer_main")
public func run(
    _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
    FuzzerReturnFreedMemory()
    var count = count
    var arguments = arguments
    return LLVMFuzzerRunDriver(&count, &arguments) { testOneInput($0, $1) }
}
