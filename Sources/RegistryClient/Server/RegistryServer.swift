import Diagnostics
import Glibc
import ImageStore
import LinuxSystem
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import OCIModel

/// Serves a store's images as a registry (distribution-spec v1.1), takes pushes, and reads through to
/// an upstream registry what it does not have, each blob once.
package struct RegistryServer: Sendable {
    /// The repository in which every image of the store is found by its digest, whatever it is called.
    package static let byDigest = "sha256"

    package struct Options: Sendable {
        /// `127.0.0.1:5000`, `[::1]:5000`; port 0 takes a free one.
        package var address = "127.0.0.1:5000"
        package var dataDirectory: String
        /// Base URL of the registry that is read through to.
        package var upstream: String?
        package var isReadOnly = false
        /// Asked of every client as a bearer's token; nil lets everybody in.
        package var secret: String?
        /// PEM files; both or none.
        package var certificate: String?
        package var key: String?
        package init(dataDirectory: String) { self.dataDirectory = dataDirectory }
    }

    private let options: Options
    private let handler: RegistryHandler

    /// - Parameter importer: brings a pushed image into the store.
    package init(
        _ options: Options, store: ImageStore, settings: RegistrySettings, preparer: some ImagePreparer
    ) throws(Diagnostic) {
        self.options = options
        let content = RegistryContent(store: store, root: options.dataDirectory)
        do throws(SyscallError) { try content.open() } catch {
            throw Diagnostic(.registryServe, options.dataDirectory, reasons: [error.sentence])
        }
        do throws(RegistryFault) {
            let upstream = try options.upstream.map { url throws(RegistryFault) in
                try Upstream(url, settings: settings, content: content)
            }
            handler = RegistryHandler(
                content: content, imports: ImportQueue(store: store, preparer: preparer), upstream: upstream,
                isReadOnly: options.isReadOnly, secret: options.secret)
        } catch { throw error.diagnostic(options.upstream ?? "upstream") }
    }

    /// Serves until the process is ended.
    ///
    /// - Parameter ready: told the address when connections are accepted.
    package func run(ready: @escaping @Sendable (String) -> Void) throws(Diagnostic) {
        do throws(RegistryFault) {
            let server = self
            try blocking { () throws(RegistryFault) in try await server.serve(ready) }
        } catch { throw error.diagnostic(options.address) }
    }

    private func serve(_ ready: @Sendable (String) -> Void) async throws(RegistryFault) {
        let (host, port) = try RegistryServer.split(options.address)
        let tls = try tlsContext()
        do {
            let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .serverChannelOption(.backlog, value: 512)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .bind(host: host, port: port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
                        try channel.pipeline.syncOperations.configureHTTPServerPipeline(withErrorHandling: true)
                        return try NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>(
                            wrappingChannelSynchronously: channel,
                            configuration: .init(isOutboundHalfClosureEnabled: true))
                    }
                }
            let scheme = tls == nil ? "http" : "https"
            let shown = server.channel.localAddress.flatMap { address in
                address.port.map { "\(host.contains(":") ? "[\(host)]" : host):\($0)" }
            }
            ready("\(scheme)://\(shown ?? options.address)")
            let handler = handler
            try await withThrowingDiscardingTaskGroup { group in
                try await server.executeThenClose { connections in
                    for try await connection in connections {
                        // A client that breaks off ends its own connection only.
                        group.addTask { try? await RegistryConnection.serve(connection, handler) }
                    }
                }
            }
        } catch {
            let cause = (error as? IOError).map { String(cString: strerror($0.errnoCode)).lowercased() } ?? "\(error)"
            throw RegistryFault(
                .registryServe, ["cannot listen: \(cause)"], remedies: ["choose another with --address HOST:PORT"])
        }
    }

    private func tlsContext() throws(RegistryFault) -> NIOSSLContext? {
        guard let certificate = options.certificate, let key = options.key else {
            guard options.certificate == nil, options.key == nil else {
                throw RegistryFault(.registryServe, ["TLS needs both a certificate and its key"])
            }
            return nil
        }
        do {
            let chain = try NIOSSLCertificate.fromPEMFile(certificate).map { NIOSSLCertificateSource.certificate($0) }
            let privateKey = try NIOSSLPrivateKey(file: key, format: .pem)
            return try NIOSSLContext(
                configuration: .makeServerConfiguration(certificateChain: chain, privateKey: .privateKey(privateKey)))
        } catch { throw RegistryFault(.registryServe, ["the certificate or its key cannot be used: \(error)"]) }
    }

    /// `127.0.0.1:5000`, `[::1]:5000`, `:5000` (all interfaces).
    static func split(_ address: String) throws(RegistryFault) -> (host: String, port: Int) {
        guard let colon = address.lastIndex(of: ":"), let port = Int(address[address.index(after: colon)...]),
            (0...65535).contains(port)
        else { throw RegistryFault(.registryServe, ["not HOST:PORT"]) }
        var host = String(address[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        return (host.isEmpty ? "0.0.0.0" : host, port)
    }

    /// Whether only this machine can reach `address`.
    package static func isLocal(_ address: String) -> Bool {
        (try? split(address)).map { RegistryEndpoint.isLoopback($0.host) } ?? false
    }
}

/// One client's connection: its requests, one after the other.
enum RegistryConnection {
    static func serve(
        _ connection: NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>, _ handler: RegistryHandler
    ) async throws {
        try await connection.executeThenClose { inbound, outbound in
            let body = RequestBody(inbound.makeAsyncIterator())
            while let head = try await body.nextHead() {
                let answer = await handler.answer(head, body)
                // What was not read of a body is in the way of the next request.
                try await body.skip()
                try await write(answer, to: head, outbound)
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

    private static func write(
        _ answer: RegistryReply, to head: HTTPRequestHead,
        _ outbound: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>
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
            case .file(let path, let offset, let length):
                try await send(path, offset, length, outbound)
            case .arriving(let blob, let offset):
                try await blob.read(from: offset) { try await outbound.write(.body(.byteBuffer($0))) }
            }
        }
        try await outbound.write(.end(nil))
    }

    private static func send(
        _ path: String, _ offset: Int64, _ length: Int64,
        _ outbound: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>
    ) async throws {
        let file = try OwnedDescriptor.open(path, O_RDONLY)
        let end = offset + length
        var position = offset
        while position < end {
            let wanted = Int(min(end - position, 256 << 10))
            let (raw, at) = (file.raw, Int(position))
            var buffer = ByteBuffer()
            let n = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) {
                max(0, pread(raw, $0.baseAddress, wanted, at))
            }
            guard n > 0 else { throw SyscallError("pread", path, errno: EIO) }
            position += Int64(n)
            try await outbound.write(.body(.byteBuffer(buffer)))
        }
    }
}

/// The parts of a connection's requests, read by one task.
final class RequestBody {
    private var parts: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator
    private var isInBody = false

    init(_ parts: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator) { self.parts = parts }

    func nextHead() async throws -> HTTPRequestHead? {
        while let part = try await parts.next() {
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
        while let part = try await parts.next() {
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

/// An answer on its way to a client.
struct RegistryReply {
    enum Content {
        case none
        case bytes([UInt8])
        case file(path: String, offset: Int64, length: Int64)
        case arriving(ArrivingBlob, offset: Int64)
    }
    var status: HTTPResponseStatus
    var headers = HTTPHeaders()
    var content = Content.none
    /// Of the content, whether it is sent or not (HEAD).
    var length: Int64 = 0

    init(_ status: HTTPResponseStatus, _ headers: [(String, String)] = []) {
        self.status = status
        self.headers = HTTPHeaders(headers)
    }

    init(json bytes: [UInt8], status: HTTPResponseStatus = .ok, type: String = "application/json") {
        self.init(status, [("Content-Type", type)])
        content = .bytes(bytes)
        length = Int64(bytes.count)
    }

    /// The specification's form of an error.
    init(_ error: RegistryErrorCode, _ message: String) {
        // Messages are our own words and names of a grammar without quotes.
        let text = "{\"errors\":[{\"code\":\"\(error.rawValue)\",\"message\":\"\(message)\"}]}\n"
        self.init(json: Array(text.utf8), status: HTTPResponseStatus(statusCode: Int(error.status)))
    }
}
