import Glibc
import LinuxSystem

/// The leader's standard streams: buffered towards a reader that may be slow, windowed from a
/// writer that may be fast. Descriptors 0 to 2 are shared with other processes, so their flags
/// stay untouched; poll(2) says when a write of PIPE_BUF bytes cannot block.
struct LeaderStreams {
    private var pending: [[UInt8]] = [[], [], []]
    private var heads = [0, 0, 0]
    private var inputIsOpen = true
    /// A reader of ours is gone.
    private(set) var isBroken = false
    /// Why something was not written, though its reader is there.
    private var failure: SyscallError?
    private var isLossTold = false
    /// Bytes of input sent and not yet taken by the process.
    private var inputInFlight = 0

    private static let congestedBytes = 1 << 20
    private static let inputWindowBytes = 256 << 10
    private static let pipeBytes = 4096

    private func count(_ stream: Int) -> Int { pending[stream].count - heads[stream] }
    var isCongested: Bool { count(1) > Self.congestedBytes || count(2) > Self.congestedBytes }
    var isWaiting: Bool { count(1) > 0 || count(2) > 0 }
    func isWaiting(_ stream: Int) -> Bool { count(stream) > 0 }

    /// Our terminal passes everything on as it comes: lines that no terminal made get their carriage return here.
    var isRaw = false

    mutating func add(_ stream: Int, _ bytes: [UInt8], isFromTerminal: Bool = false) {
        guard stream == 1 || stream == 2 else { return }
        if isRaw, !isFromTerminal, bytes.contains(UInt8(ascii: "\n")) {
            for byte in bytes { pending[stream] += byte == UInt8(ascii: "\n") ? [UInt8(ascii: "\r"), byte] : [byte] }
        } else {
            pending[stream] += bytes
        }
    }

    /// Call when poll(2) says the stream takes data.
    mutating func flush(_ stream: Int) {
        let size = min(count(stream), Self.pipeBytes)
        guard size > 0 else { return }
        let head = heads[stream]
        let n = pending[stream].withUnsafeBytes { write(Int32(stream), $0.baseAddress! + head, size) }
        if n > 0 {
            heads[stream] += n
        } else if errno != EINTR, errno != EAGAIN {
            // A reader that went away does not end the job; output that nobody got ends it.
            if errno == EPIPE {
                isBroken = true
            } else if failure == nil {
                failure = SyscallError("write", stream == 1 ? "standard output" : "standard error", errno: errno)
            }
            heads[stream] = pending[stream].count
        }
        if count(stream) == 0 {
            pending[stream].removeAll(keepingCapacity: true)
            heads[stream] = 0
        } else if heads[stream] > Self.congestedBytes {
            pending[stream].removeFirst(heads[stream])
            heads[stream] = 0
        }
    }

    /// Why output is lost, told once.
    mutating func takeFailure() -> SyscallError? {
        defer { if failure != nil { isLossTold = true } }
        return isLossTold ? nil : failure
    }

    /// Writes what is left, for a reader that takes it within that time.
    mutating func drain(milliseconds: Int32) {
        for stream in [1, 2] {
            while isWaiting(stream) {
                var slot = pollfd(fd: Int32(stream), events: Int16(POLLOUT), revents: 0)
                guard poll(&slot, 1, milliseconds) > 0 else { break }
                flush(stream)
            }
        }
    }

    /// False for a terminal that belongs to another process group: reading would stop us.
    var readsInput: Bool {
        guard inputIsOpen, inputInFlight < Self.inputWindowBytes else { return false }
        return isatty(0) == 0 || tcgetpgrp(0) == getpgrp()
    }

    /// Our input is nobody's any more, which is not its end: somebody who attaches may bring more.
    mutating func leaveInput() { inputIsOpen = false }

    /// What is there; empty at the end of file, once.
    mutating func readInput() -> [UInt8]? {
        guard inputIsOpen else { return nil }
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        let n = read(0, &chunk, chunk.count)
        if n < 0, errno == EINTR || errno == EAGAIN { return nil }
        if n <= 0 {
            inputIsOpen = false
            return []
        }
        inputInFlight += n
        return Array(chunk[..<n])
    }

    /// Somebody attached sent this much past us.
    mutating func inputAdded(_ count: Int) { inputInFlight += count }
    mutating func inputTaken(_ count: Int) { inputInFlight -= count }
}
