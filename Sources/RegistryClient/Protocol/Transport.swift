import AsyncHTTPClient
import FoundationEssentials
import Glibc
import LinuxSystem
import NIOCore
import NIOHTTP1
import NIOSSL
import Synchronization

/// One HTTP request to a registry or to a service it names.
struct RegistryRequest: Sendable {
    var method = HTTPMethod.GET
    var url: String
    var headers = HTTPHeaders()
    var body: RequestBody?
    /// A login is in its body or address: it goes nowhere else than where it was sent.
    var holdsCredential = false

    enum RequestBody: Sendable {
        case bytes([UInt8])
        /// `length` bytes of `path` from `offset` on.
        case file(path: String, offset: Int64, length: Int64, progress: @Sendable (Int64) -> Void)
    }
}

/// HTTP with the trust, the proxies and the patience of `RegistrySettings`; redirects are followed
/// here, because credentials must not follow them to another host.
final class Transport: Sendable {
    let settings: RegistrySettings
    private let clients = Mutex<[String: HTTPClient]>([:])
    private let trust = Mutex<[String: TLSConfiguration]>([:])

    private enum Limit {
        static let redirects = 10
        static let connectSeconds: Int64 = 15
    }

    init(_ settings: RegistrySettings) { self.settings = settings }

    /// Closes all connections; the transport is not used afterwards.
    func shutdown() async {
        let all = clients.withLock { clients in
            defer { clients = [:] }
            return Array(clients.values)
        }
        for client in all { try? await client.shutdown() }
    }

    /// Sends `request` and follows redirects. `Authorization` is dropped for good at the first
    /// redirect to another scheme, host or port; a request that holds a login elsewhere does not go there at all.
    ///
    /// - Returns: the answer, and whether it came from where the request was sent.
    func send(_ request: RegistryRequest) async throws(RegistryFault) -> (
        response: HTTPClientResponse, isFromOrigin: Bool
    ) {
        var request = request
        var isFromOrigin = true
        for _ in 0...Limit.redirects {
            let response = try await sendOnce(request)
            let isRedirect = [301, 302, 303, 307, 308].contains(response.status.code)
            guard isRedirect, let location = response.headers.first(name: "Location") else {
                return (response, isFromOrigin)
            }
            guard let here = URL(string: request.url), let next = URL(string: location, relativeTo: here)?.absoluteURL,
                let scheme = next.scheme?.lowercased(), let host = next.host, scheme == "https" || scheme == "http"
            else { throw .malformed("a redirect leads to '\(RegistryFault.printable(location))', which is no address") }
            if scheme == "http", here.scheme?.lowercased() == "https", !mayBePlain(host) {
                throw RegistryFault(.registryUntrusted, ["the registry redirects to plain HTTP at \(host)"])
            }
            if (scheme, host, next.port) != (here.scheme?.lowercased(), here.host, here.port) {
                isFromOrigin = false
                if request.holdsCredential {
                    throw RegistryFault(
                        .registryUntrusted,
                        [
                            "\(here.host ?? "") redirects a login to another host,"
                                + " \(RegistryFault.printable(host + (next.port.map { ":\($0)" } ?? "")))"
                        ])
                }
                for name in ["Authorization", "Cookie"] { request.headers.remove(name: name) }
            }
            // RFC 9110, section 15.4: only 307 and 308 repeat what was sent.
            let isRepeated = [307, 308].contains(response.status.code) || request.method == .HEAD
            if !isRepeated, request.method == .POST || response.status == .seeOther {
                (request.method, request.body) = (.GET, nil)
            }
            request.url = next.absoluteString
        }
        throw .malformed("more than \(Limit.redirects) redirects")
    }

    func mayBePlain(_ host: String) -> Bool {
        settings.isInsecure || settings.insecureHosts.contains(host) || RegistryEndpoint.isLoopback(host)
    }

    private func sendOnce(_ request: RegistryRequest) async throws(RegistryFault) -> HTTPClientResponse {
        guard let url = URL(string: request.url), let host = url.host else {
            throw .malformed("'\(RegistryFault.printable(request.url))' is no address")
        }
        let isSecure = url.scheme?.lowercased() == "https"
        let client = try client(
            through: settings.proxies.proxy(forHost: host, port: url.port ?? (isSecure ? 443 : 80), isSecure: isSecure))
        var message = HTTPClientRequest(url: request.url)
        message.method = request.method
        message.headers = request.headers
        message.headers.replaceOrAdd(name: "User-Agent", value: "trireme")
        if isSecure { message.tlsConfiguration = try tls(for: host, port: url.port) }
        let activity = Activity()
        switch request.body {
        case nil: break
        case .bytes(let bytes): message.body = .bytes(ByteBuffer(bytes: bytes))
        case .file(let path, let offset, let length, let progress):
            message.body = .stream(
                FileChunks(path: path, offset: offset, length: length, activity: activity, progress: progress),
                length: .known(length))
        }
        let finished = message
        do {
            return try await withStallLimit(settings.idleSeconds, activity) {
                try await client.execute(finished, deadline: .distantFuture)
            }
        } catch let fault as RegistryFault { throw fault } catch {
            throw RegistryFault(transport: error, host: host + (url.port.map { ":\($0)" } ?? ""))
        }
    }

    /// One client per proxy; connections are shared by all requests that go the same way.
    private func client(through proxy: String?) throws(RegistryFault) -> HTTPClient {
        var configuration = HTTPClient.Configuration()
        configuration.redirectConfiguration = .disallow
        configuration.httpVersion = .http1Only
        configuration.timeout.connect = .seconds(Limit.connectSeconds)
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 8
        if let proxy {
            guard let url = URL(string: proxy.contains("://") ? proxy : "http://" + proxy), let host = url.host else {
                throw RegistryFault(
                    .registryUnreachable, ["the proxy '\(RegistryFault.printable(proxy))' is no address"])
            }
            if url.scheme?.lowercased().hasPrefix("socks") == true {
                configuration.proxy = .socksServer(host: host, port: url.port ?? 1080)
            } else {
                let login = url.user.map {
                    HTTPClient.Authorization.basic(username: $0, password: url.password ?? "")
                }
                configuration.proxy = .server(host: host, port: url.port ?? 3128, authorization: login)
            }
        }
        let ready = configuration
        return clients.withLock { clients in
            if let client = clients[proxy ?? ""] { return client }
            let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: ready)
            clients[proxy ?? ""] = client
            return client
        }
    }

    // MARK: Trust

    private func tls(for host: String, port: Int?) throws(RegistryFault) -> TLSConfiguration {
        let name = host + (port.map { ":\($0)" } ?? "")
        if let known = trust.withLock({ $0[name] }) { return known }
        var configuration = TLSConfiguration.makeClientConfiguration()
        if settings.isInsecure || settings.insecureHosts.contains(name) || settings.insecureHosts.contains(host) {
            configuration.certificateVerification = .none
        }
        do {
            var extra: [NIOSSLCertificate] = []
            if let file = settings.authority { extra += try NIOSSLCertificate.fromPEMFile(file) }
            if let file = getenv("SSL_CERT_FILE").map({ String(cString: $0) }), !file.isEmpty {
                extra += try NIOSSLCertificate.fromPEMFile(file)
            }
            for directory in settings.certificateDirectories.map({ $0 + "/" + name }) {
                for file in try directoryNames(directory) where file.hasSuffix(".crt") {
                    extra += try NIOSSLCertificate.fromPEMFile(directory + "/" + file)
                }
                for file in try directoryNames(directory) where file.hasSuffix(".cert") {
                    let key = directory + "/" + file.dropLast(5) + ".key"
                    configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(directory + "/" + file)
                        .map { .certificate($0) }
                    configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
                }
            }
            if !extra.isEmpty { configuration.additionalTrustRoots = [.certificates(extra)] }
        } catch {
            throw RegistryFault(.registryUntrusted, ["a certificate for \(name) cannot be read: \(error)"])
        }
        trust.withLock { $0[name] = configuration }
        return configuration
    }

    private func directoryNames(_ path: String) throws -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: path))?.sorted() ?? []
    }
}

/// A part of a file, read as it is sent. The reads are short and of a local file; they do not suspend.
private struct FileChunks: AsyncSequence, Sendable {
    typealias Element = ByteBuffer
    let path: String
    let offset: Int64
    let length: Int64
    let activity: Activity
    let progress: @Sendable (Int64) -> Void

    func makeAsyncIterator() -> Iterator { Iterator(self) }

    final class Iterator: AsyncIteratorProtocol {
        private let file: FileChunks
        private var descriptor: Int32 = -1
        private var position: Int64
        init(_ file: FileChunks) {
            self.file = file
            position = file.offset
        }
        deinit { if descriptor >= 0 { close(descriptor) } }

        func next() async throws -> ByteBuffer? {
            let left = file.offset + file.length - position
            guard left > 0 else { return nil }
            if descriptor < 0 { descriptor = try OwnedDescriptor.open(file.path, O_RDONLY).release() }
            var buffer = ByteBuffer()
            let raw = descriptor
            let at = Int(position)
            let wanted = Int(Swift.min(left, 256 << 10))
            let n = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) { space in
                Swift.max(0, pread(raw, space.baseAddress, wanted, at))
            }
            guard n > 0 else { throw SyscallError("pread", file.path, errno: errno == 0 ? EIO : errno) }
            position += Int64(n)
            file.activity.beat()
            file.progress(Int64(n))
            return buffer
        }
    }
}
