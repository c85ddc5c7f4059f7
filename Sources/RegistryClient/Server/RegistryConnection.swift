import Glibc
import ImageStore
import LinuxSystem
import NIOCore
import NIOHTTP1

/// One client's connection: its requests, one after the other.
enum RegistryConnection {
    /// - Parameter idleSeconds: a client that neither sends nor takes a byte for so long is left.
    static func serve(
        _ connection: NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>, _ handler: RegistryHandler,
        _ peer: RegistryAdmission.Peer, idleSeconds: Double
    ) async throws {
        let activity = Activity()
        try await withStallLimit(idleSeconds, activity) {
            try await connection.executeThenClose { inbound, outbound in
                let body = RequestBody(inbound.makeAsyncIterator(), activity)
                while let head = try await body.nextHead() {
                    let answer = await handler.answer(head, body, peer)
                    // What was not read of a body is in the way of the next request.
                    try await body.skip()
                    try await write(answer, to: head, Outbound(outbound, activity))
                    guard head.isKeepAlive else {
                        // A full close would cut off what is still on its way. Our half ends behind it, which
                        // tells clients that wait for our end; then the client's end is awaited.
                        outbound.finish()
                        while try await body.nextHead() != nil { try await body.skip() }
                        return
                    }
                }
            }
        }
    }

    /// The way to the client, whose silence counts while something waits to be taken.
    private struct Outbound {
        private let writer: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>
        private let activity: Activity
        init(_ writer: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>, _ activity: Activity) {
            self.writer = writer
            self.activity = activity
        }

        func write(_ part: HTTPServerResponsePart) async throws {
            activity.beat()
            defer { activity.pause() }
            try await writer.write(part)
        }
    }

    private static func write(
        _ answer: RegistryReply, to head: HTTPRequestHead,
        _ outbound: Outbound
    ) async throws {
        var headers = answer.headers
        headers.replaceOrAdd(name: "Docker-Distribution-Api-Version", value: "registry/2.0")
        if answer.status.code != 204 {
            headers.replaceOrAdd(name: "Content-Length", value: String(answer.length))
        }
        if !head.isKeepAlive { headers.replaceOrAdd(name: "Connection", value: "close") }
        try await outbound.write(.head(HTTPResponseHead(version: .http1_1, status: answer.status, headers: headers)))
        if head.method != .HEAD {
            switch answer.content {
            case .none: break
            case .bytes(let bytes): try await outbound.write(.body(.byteBuffer(ByteBuffer(bytes: bytes))))
            case .file(let blob, let offset, let length): try await send(blob, offset, length, outbound)
            case .arriving(let blob, let offset):
                try await blob.read(from: offset) { try await outbound.write(.body(.byteBuffer($0))) }
            }
        }
        try await outbound.write(.end(nil))
    }

    private static func send(
        _ blob: RegistryContent.Blob, _ offset: Int64, _ length: Int64, _ outbound: Outbound
    ) async throws {
        let end = offset + length
        var position = offset
        while position < end {
            let wanted = Int(min(end - position, 256 << 10))
            let (raw, at) = (blob.descriptor.raw, Int(position))
            var buffer = ByteBuffer()
            let n = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) {
                max(0, pread(raw, $0.baseAddress, wanted, at))
            }
            guard n > 0 else { throw SyscallError("pread", errno: EIO) }
            position += Int64(n)
            try await outbound.write(.body(.byteBuffer(buffer)))
        }
    }
}

/// The parts of a connection's requests, read by one task.
final class RequestBody {
    private var parts: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator
    private var isInBody = false
    private let activity: Activity

    init(_ parts: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator, _ activity: Activity) {
        self.parts = parts
        self.activity = activity
    }

    /// The client's silence counts while it is waited for, not while we work.
    private func nextPart() async throws -> HTTPServerRequestPart? {
        activity.beat()
        defer { activity.pause() }
        return try await parts.next()
    }

    func nextHead() async throws -> HTTPRequestHead? {
        while let part = try await nextPart() {
            if case .head(let head) = part {
                isInBody = true
                return head
            }
        }
        return nil
    }

    /// The next piece of the body; nil at its end.
    func next() async throws -> ByteBuffer? {
        guard isInBody else { return nil }
        while let part = try await nextPart() {
            switch part {
            case .body(let buffer): return buffer
            case .end:
                isInBody = false
                return nil
            case .head: throw RegistryFault.malformed("a request inside another")
            }
        }
        // Cut off before its end: what came is not a whole body.
        throw RegistryFault.transient(.registryUnreachable, "the client broke off")
    }

    func skip() async throws { while try await next() != nil {} }

    /// The whole body; nil when it is longer than `limit`.
    func all(limit: Int) async throws -> [UInt8]? {
        var bytes: [UInt8] = []
        while let buffer = try await next() {
            guard bytes.count + buffer.readableBytes <= limit else { return nil }
            bytes.append(contentsOf: buffer.readableBytesView)
        }
        return bytes
    }
}
