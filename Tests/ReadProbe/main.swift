import Glibc
import ImageFormats

// Reads a squashfs image as the server of single-file images does, by many threads at once, and prints the most
// memory that took (KiB): a process of its own, which does nothing else.
//
//   ReadProbe FILE THREADS
let words = CommandLine.arguments
guard words.count == 3, let threads = Int(words[2]) else { exit(2) }

private enum Limit {
    /// Of what one thread looks at: images of names alone are larger.
    static let nodes = 2000
    static let readBytes = 256 << 10
}

/// Everything that a kernel may ask, beginning at another place than the other threads.
private func walk(_ reader: SquashReader, _ number: Int) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Limit.readBytes, alignment: 4096)
    defer { buffer.deallocate() }
    guard let root = try? reader.root() else { return }
    var pending = [root]
    var nodes = 0
    while !pending.isEmpty, nodes < Limit.nodes {
        let inode = pending.remove(at: number % pending.count)
        nodes += 1
        _ = try? reader.attributes(of: inode)
        if inode.kind == .file {
            var at: UInt64 = 0
            while at < min(inode.size, 4 << 20), let n = try? reader.read(inode, at: at, into: buffer), n > 0 {
                at += UInt64(n)
            }
            for far in [inode.size / 2, inode.size - min(inode.size, 10)] {
                _ = try? reader.read(inode, at: far, into: buffer)
            }
        }
        guard inode.kind == .directory else { continue }
        _ = try? reader.directory(inode).find(Array("zzz".utf8), reader)
        guard var entries = try? reader.entries(inode) else { continue }
        while pending.count < 64, let entry = try? entries.next() {
            if let found = try? reader.inode(entry.reference) { pending.append(found) }
        }
    }
}

/// VmHWM of proc_pid_status(5): what getrusage(2) says begins with the program that started this one.
private func peakKiB() -> Int {
    let file = open("/proc/self/status", O_RDONLY | O_CLOEXEC)
    defer { close(file) }
    var text = [UInt8](repeating: 0, count: 8192)
    let count = read(file, &text, text.count)
    let lines = String(decoding: text.prefix(max(0, count)), as: UTF8.self).split(separator: "\n")
    let line = lines.first { $0.hasPrefix("VmHWM:") }
    return line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Int($0) } ?? .max
}

/// Not at the top level, whose closures are the main actor's.
private func started(_ reader: SquashReader, _ number: Int) -> pthread_t {
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { argument in
            let work = Unmanaged<Work>.fromOpaque(argument!).takeRetainedValue()
            walk(work.reader, work.number)
            return nil
        }, Unmanaged.passRetained(Work(reader: reader, number: number)).toOpaque())
    return thread
}

let file = open(words[1], O_RDONLY | O_CLOEXEC)
guard file >= 0 else { exit(2) }
if let reader = try? SquashReader(file, length: Int64(lseek(file, 0, SEEK_END))) {
    let running = (0..<threads).map { started(reader, $0) }
    for thread in running { pthread_join(thread, nil) }
    print("read", peakKiB())
} else {
    print("refused", peakKiB())
}

private final class Work: Sendable {
    let reader: SquashReader
    let number: Int
    init(reader: SquashReader, number: Int) {
        self.reader = reader
        self.number = number
    }
}
