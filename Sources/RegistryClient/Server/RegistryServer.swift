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
        /// Every user of this machine may pull at an address of this machine alone; at others whoever reaches it may.
        package var isPublic = false
        /// The job's, of which client and server prove to each other that they know it; nil outside jobs.
        package var secret: String?
        /// Seconds without a byte after which a client is left.
        package var idleSeconds = 60.0
        /// PEM files; both or none.
        package var certificate: String?
        package var key: String?
        package init(dataDirectory: String) { self.dataDirectory = dataDirectory }
    }

    private enum Limit {
        /// For a request of who is not the owner.
        static let strangerSeconds = 5.0
        /// Connections, and files on their way to them.
        static let descriptors: rlim_t = 65536
    }

    private let options: Options
    private let handler: RegistryHandler
    private let admission: RegistryAdmission

    /// - Parameter importer: brings a pushed image into the store.
    package init(
        _ options: Options, store: ImageStore, settings: RegistrySettings, preparer: some ImagePreparer
    ) throws(Diagnostic) {
        self.options = options
        let content: RegistryContent
        do throws(SyscallError) {
            let directory = try PrivateDirectory(options.dataDirectory, makingParents: Files.makeDirectories)
            content = RegistryContent(store: store, directory: directory)
            try content.open()
            admission = RegistryAdmission(
                job: options.secret.map(RegistryAdmission.Job.init),
                login: options.secret == nil ? try PushLogin(directory) : nil, isReadOnly: options.isReadOnly,
                isPublic: options.isPublic || !RegistryServer.isLocal(options.address),
                isSecure: options.certificate != nil)
        } catch {
            throw Diagnostic(
                .registryServe, options.dataDirectory, reasons: [error.sentence],
                remedies: error.errno == EPERM ? ["it is another user's: --data DIR"] : [])
        }
        do throws(RegistryFault) {
            let upstream = try options.upstream.map { url throws(RegistryFault) in
                try Upstream(url, settings: settings, content: content)
            }
            handler = RegistryHandler(
                content: content, imports: ImportQueue(store: store, preparer: preparer), upstream: upstream,
                admission: admission)
        } catch { throw error.diagnostic(options.upstream ?? "upstream") }
    }

    /// What who pushes logs in with; nil where nobody can.
    package var pushLogin: (user: String, password: String, file: String, isNew: Bool)? {
        guard let login = admission.login, !admission.isReadOnly else { return nil }
        return (PushLogin.user, login.word, options.dataDirectory + "/" + PushLogin.fileName, login.isNew)
    }

    /// Serves until the process is ended.
    ///
    /// - Parameter ready: told the address when connections are accepted.
    package func run(ready: @escaping @Sendable (String) -> Void) throws(Diagnostic) {
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            limit.rlim_cur = max(limit.rlim_cur, min(limit.rlim_max, Limit.descriptors))
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
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
            let (handler, idleSeconds) = (handler, options.idleSeconds)
            let asksKernel = !admission.isPublic && admission.job == nil
            try await withThrowingDiscardingTaskGroup { group in
                try await server.executeThenClose { connections in
                    for try await connection in connections {
                        // A client that breaks off ends its own connection only.
                        group.addTask {
                            let peer = RegistryServer.peer(of: connection.channel, asksKernel: asksKernel)
                            // Other users of this machine must be quick: their connections take the owner's place.
                            let isStranger = asksKernel && !peer.isOwner
                            let idleSeconds = isStranger ? min(idleSeconds, Limit.strangerSeconds) : idleSeconds
                            try? await RegistryConnection.serve(connection, handler, peer, idleSeconds: idleSeconds)
                        }
                    }
                }
            }
        } catch {
            let cause = (error as? IOError).map { String(cString: strerror($0.errnoCode)).lowercased() } ?? "\(error)"
            throw RegistryFault(
                .registryServe, ["cannot listen: \(cause)"], remedies: ["choose another with --address HOST:PORT"])
        }
    }

    private static func peer(of channel: any Channel, asksKernel: Bool) -> RegistryAdmission.Peer {
        var peer = RegistryAdmission.Peer()
        guard let here = channel.localAddress, let there = channel.remoteAddress, let server = end(here),
            let client = end(there)
        else { return peer }
        let host = here.ipAddress ?? ""
        peer.address = (host.contains(":") ? "[\(host)]" : host) + ":\(server.port)"
        if asksKernel, let user = TCPPeer.user(of: client, connectedTo: server) {
            // Root reads every file of the owner's anyway; docker's daemon is root.
            peer.isOwner = user == geteuid() || user == 0
        }
        return peer
    }

    private static func end(_ address: SocketAddress) -> TCPPeer.End? {
        guard let text = address.ipAddress, let port = address.port.flatMap({ UInt16(exactly: $0) }) else { return nil }
        for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
            var bytes = [UInt8](repeating: 0, count: count)
            if inet_pton(family, text, &bytes) == 1 { return TCPPeer.End(address: bytes, port: port) }
        }
        return nil
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
