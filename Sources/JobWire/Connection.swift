import CLinux
import Glibc
import LinuxSystem

/// One non-blocking stream socket (or pipe end pair) speaking frames.
///
/// Holds what could not be written yet; `wantsWrite` tells the loop to poll for it.
/// The owner stops reading from its sources while `isCongested`, so a slow reader
/// slows the ranks down instead of filling memory.
package final class Connection {
    package let descriptor: OwnedDescriptor
    private var decoder = FrameDecoder()
    private var outgoing: [UInt8] = []
    private var outgoingStart = 0
    private var handshake: Handshake?
    package private(set) var isClosed = false

    package static let congestedBytes = 1 << 20

    /// - Parameter handshake: must succeed before any frame is taken or sent.
    package init(_ descriptor: consuming OwnedDescriptor, handshake: Handshake? = nil) {
        self.descriptor = descriptor
        self.handshake = handshake
        if let handshake { outgoing += handshake.opening }
    }

    package var isAuthenticated: Bool { handshake?.isFinished ?? true }
    package var handshakeSteps: Int { handshake?.stepsTaken ?? Handshake.steps }
    package var wantsWrite: Bool { outgoing.count > outgoingStart && !isClosed }
    package var isCongested: Bool { outgoing.count - outgoingStart > Self.congestedBytes }

    package func send(_ message: WireMessage) {
        if isClosed { return }
        message.frame.append(to: &outgoing)
    }

    /// Writes what the socket takes. A broken connection closes it.
    package func flush() {
        while wantsWrite {
            let n = outgoing.withUnsafeBytes { raw in
                Glibc.send(
                    descriptor.raw, raw.baseAddress! + outgoingStart, raw.count - outgoingStart,
                    Int32(MSG_NOSIGNAL))
            }
            if n > 0 {
                outgoingStart += n
            } else {
                if n < 0, errno == EINTR { continue }
                if n < 0, errno == EAGAIN { break }
                isClosed = true
            }
        }
        if outgoingStart == outgoing.count {
            outgoing.removeAll(keepingCapacity: true)
            outgoingStart = 0
        } else if outgoingStart > Self.congestedBytes {
            outgoing.removeFirst(outgoingStart)
            outgoingStart = 0
        }
    }

    /// Reads what is there (at most `limit` bytes, so one sender cannot starve the rest) and
    /// returns the messages completed by it. End of file and errors set `isClosed`.
    package func receive(limit: Int = 256 << 10) throws(WireFailure) -> [WireMessage] {
        var total = 0
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
        defer { chunk.deallocate() }
        while total < limit {
            let n = Glibc.read(descriptor.raw, chunk.baseAddress, chunk.count)
            if n < 0, errno == EINTR { continue }
            if n < 0, errno == EAGAIN { break }
            if n <= 0 {
                isClosed = true
                break
            }
            total += n
            let part = UnsafeRawBufferPointer(rebasing: chunk[..<n])
            if handshake?.isFinished == false {
                let (reply, rest) = try handshake!.receive(Array(part))
                outgoing += reply
                rest.withUnsafeBytes { decoder.add($0) }
            } else {
                decoder.add(part)
            }
            if n < chunk.count { break }
        }
        var messages: [WireMessage] = []
        while isAuthenticated, let frame = try decoder.next() { messages.append(try WireMessage(frame)) }
        return messages
    }

    package func close() { isClosed = true }
}
