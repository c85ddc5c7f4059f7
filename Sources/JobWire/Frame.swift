// The wire between leader, agents and the small clients of an agent. Little-endian:
//
//   u32  bytes of payload that follow the header
//   u16  kind
//   u16  zero
//   u32  channel
//
// A connection is one ordered stream of frames; a channel names one process
// started for the job (see `WireMessage`).

/// One decoded frame.
package struct Frame: Equatable, Sendable {
    package var kind: UInt16
    package var channel: UInt32
    package var payload: [UInt8]

    package init(kind: UInt16, channel: UInt32 = 0, payload: [UInt8] = []) {
        self.kind = kind
        self.channel = channel
        self.payload = payload
    }

    package static let headerBytes = 12
    /// A job carries a launch plan (at most 4 MiB) and an environment; nothing else is large.
    package static let payloadLimit = 8 << 20

    package func append(to bytes: inout [UInt8]) {
        var writer = WireWriter(bytes)
        bytes = []
        writer.put(UInt32(payload.count))
        writer.put(UInt32(kind))
        writer.put(channel)
        writer.bytes += payload
        bytes = writer.bytes
    }
}

/// Why a peer's bytes make no sense; the connection is then closed.
package enum WireFailure: Error, Equatable, Sendable {
    case frameTooLarge(Int)
    case unknownKind(UInt16)
    case malformed(UInt16)
    case handshake
}

/// Turns a byte stream into frames; owns no descriptor.
package struct FrameDecoder: Sendable {
    private var buffer: [UInt8] = []
    private var start = 0

    package init() {}

    package mutating func add(_ bytes: UnsafeRawBufferPointer) { buffer.append(contentsOf: bytes) }

    /// The next whole frame, nil when more bytes are needed.
    package mutating func next() throws(WireFailure) -> Frame? {
        let available = buffer.count - start
        guard available >= Frame.headerBytes else {
            compact()
            return nil
        }
        let (length, kind, channel) = buffer.withUnsafeBytes { raw in
            (
                Int(raw.loadUnaligned(fromByteOffset: start, as: UInt32.self).littleEndian),
                raw.loadUnaligned(fromByteOffset: start + 4, as: UInt32.self).littleEndian,
                raw.loadUnaligned(fromByteOffset: start + 8, as: UInt32.self).littleEndian
            )
        }
        guard length <= Frame.payloadLimit else { throw .frameTooLarge(length) }
        guard kind <= 0xFFFF else { throw .unknownKind(0xFFFF) }
        guard available >= Frame.headerBytes + length else {
            compact()
            return nil
        }
        let from = start + Frame.headerBytes
        let frame = Frame(kind: UInt16(kind), channel: channel, payload: Array(buffer[from..<(from + length)]))
        start = from + length
        return frame
    }

    private mutating func compact() {
        guard start > 0 else { return }
        buffer.removeFirst(start)
        start = 0
    }
}

/// Appends numbers and byte strings.
package struct WireWriter {
    package var bytes: [UInt8]
    package init(_ bytes: [UInt8] = []) { self.bytes = bytes }

    package mutating func put(_ number: UInt32) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }
    package mutating func put(_ number: Int) { put(UInt32(bitPattern: Int32(clamping: number))) }
    package mutating func put(_ data: [UInt8]) {
        put(UInt32(data.count))
        bytes += data
    }
    package mutating func put(_ text: String) { put(Array(text.utf8)) }
    package mutating func put(_ list: [[UInt8]]) {
        put(UInt32(list.count))
        for item in list { put(item) }
    }
}

/// Takes them off again; every read is bounded by the payload.
package struct WireReader {
    private let payload: [UInt8]
    private var offset = 0
    private let kind: UInt16

    package init(_ frame: Frame) {
        payload = frame.payload
        kind = frame.kind
    }

    package mutating func number() throws(WireFailure) -> Int {
        guard offset + 4 <= payload.count else { throw .malformed(kind) }
        let value = payload.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self).littleEndian }
        offset += 4
        return Int(Int32(bitPattern: value))
    }
    package mutating func data() throws(WireFailure) -> [UInt8] {
        let count = try number()
        guard count >= 0, count <= payload.count - offset else { throw .malformed(kind) }
        defer { offset += count }
        return Array(payload[offset..<(offset + count)])
    }
    package mutating func text() throws(WireFailure) -> String { String(decoding: try data(), as: UTF8.self) }
    package mutating func list() throws(WireFailure) -> [[UInt8]] {
        let count = try number()
        // An item is at least its own length: bounds the count before memory is spent.
        guard count >= 0, count <= (payload.count - offset) / 4 else { throw .malformed(kind) }
        var result: [[UInt8]] = []
        for _ in 0..<count { result.append(try data()) }
        return result
    }
    package func finish() throws(WireFailure) { if offset != payload.count { throw .malformed(kind) } }
}
