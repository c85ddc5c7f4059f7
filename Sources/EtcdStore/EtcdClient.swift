import AsyncHTTPClient
import CoordinationStore
import FoundationEssentials
import NIOCore
import NIOHTTP1
import NIOSSL

/// Where a site's etcd is and how it knows us.
package struct EtcdSettings: Codable, Equatable, Sendable {
    /// `http://HOST:PORT` or `https://HOST:PORT`, members of one cluster.
    package var endpoints: [String]
    /// PEM files; empty for none. `authority` is trusted besides the system's.
    package var authority = ""
    package var certificate = ""
    package var key = ""

    /// - Parameter list: endpoints separated by commas; nil when one is no http address.
    package init?(list: String, authority: String = "", certificate: String = "", key: String = "") {
        endpoints = list.split(separator: ",").map {
            var text = String($0)
            while text.hasSuffix("/") { text.removeLast() }
            return text
        }
        let areAddresses = endpoints.allSatisfy { text in
            guard let url = URL(string: text), url.host != nil else { return false }
            return url.scheme == "https" || url.scheme == "http"
        }
        guard areAddresses, !endpoints.isEmpty else { return nil }
        self.authority = authority
        self.certificate = certificate
        self.key = key
    }
}

/// Why the site's store did not do something.
package struct StoreFault: Error, Equatable, Sendable {
    package var reason: String
    /// Asking again cannot help: certificates that do not fit, a refused user.
    package var isPermanent: Bool
    package init(_ reason: String, isPermanent: Bool = false) {
        self.reason = reason
        self.isPermanent = isPermanent
    }
}

/// etcd's version 3 protocol through its HTTP gateway (etcd documentation, "gRPC gateway", `/v3/…`):
/// JSON with keys and values in base64 and 64-bit numbers as text.
package final class EtcdClient: Sendable {
    private let settings: EtcdSettings
    private let http: HTTPClient

    /// A member without quorum answers late or never; the next one is asked then.
    private static let requestSeconds: Int64 = 3

    /// - Throws: `StoreFault` when a certificate cannot be read.
    package init(_ settings: EtcdSettings) throws(StoreFault) {
        self.settings = settings
        var configuration = HTTPClient.Configuration()
        configuration.httpVersion = .http1Only
        configuration.timeout.connect = .seconds(2)
        // What a job says to its store, and the certificate it shows there, goes nowhere else.
        configuration.redirectConfiguration = .disallow
        configuration.connectionPool.retryConnectionEstablishment = false
        var tls = TLSConfiguration.makeClientConfiguration()
        do {
            if !settings.authority.isEmpty {
                tls.additionalTrustRoots = [
                    .certificates(try NIOSSLCertificate.fromPEMFile(settings.authority))
                ]
            }
            if !settings.certificate.isEmpty {
                tls.certificateChain = try NIOSSLCertificate.fromPEMFile(settings.certificate).map { .certificate($0) }
                let key = settings.key.isEmpty ? settings.certificate : settings.key
                tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
            }
        } catch { throw StoreFault("a certificate cannot be read: \(error)") }
        configuration.tlsConfiguration = tls
        http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    package func shutdown() async { try? await http.shutdown() }

    // MARK: What is asked

    package func grant(seconds: Int) async throws(StoreFault) -> Int64 {
        struct Question: Encodable {
            var seconds: Int
            enum CodingKeys: String, CodingKey { case seconds = "TTL" }
        }
        let answer: LeaseName = try await post("/v3/lease/grant", Question(seconds: seconds))
        guard let lease = Int64(answer.id) else { throw StoreFault("etcd named no lease") }
        return lease
    }

    /// False when the lease has ended.
    package func renew(_ lease: Int64) async throws(StoreFault) -> Bool {
        struct Answer: Decodable {
            struct Result: Decodable {
                var seconds: String?
                enum CodingKeys: String, CodingKey { case seconds = "TTL" }
            }
            var result: Result
        }
        let answer: Answer = try await post("/v3/lease/keepalive", LeaseName(id: "\(lease)"))
        return answer.result.seconds.flatMap { Int($0) } ?? 0 > 0
    }

    package func revoke(_ lease: Int64) async throws(StoreFault) {
        let _: Nothing = try await post("/v3/lease/revoke", LeaseName(id: "\(lease)"))
    }

    package func put(_ key: String, _ value: String, lease: Int64) async throws(StoreFault) {
        struct Question: Encodable {
            var key: String
            var value: String
            var lease: String
        }
        let _: Nothing = try await post(
            "/v3/kv/put", Question(key: Self.base64(key), value: Self.base64(value), lease: "\(lease)"))
    }

    /// Read through the quorum: what is seen is agreed on.
    package func list(_ prefix: String) async throws(StoreFault) -> [StoreEntry] {
        struct Answer: Decodable {
            struct Pair: Decodable {
                var key: String
                var value: String?
                var revision: String?
                var lease: String?
                enum CodingKeys: String, CodingKey {
                    case key, value, lease
                    case revision = "mod_revision"
                }
            }
            var kvs: [Pair]?
        }
        let answer: Answer = try await post("/v3/kv/range", Range(prefix))
        return (answer.kvs ?? []).map {
            StoreEntry(
                key: Self.plain($0.key), value: Self.plain($0.value ?? ""),
                revision: $0.revision.flatMap { Int64($0) } ?? 0, lease: $0.lease.flatMap { Int64($0) } ?? 0)
        }
    }

    package func remove(_ prefix: String) async throws(StoreFault) {
        let _: Nothing = try await post("/v3/kv/deleterange", Range(prefix))
    }

    // MARK: How

    private struct Nothing: Decodable {}
    private struct LeaseName: Codable {
        var id: String
        enum CodingKeys: String, CodingKey { case id = "ID" }
    }

    /// All keys that begin with a prefix: up to the prefix with its last byte raised.
    private struct Range: Encodable {
        var key: String
        var end: String
        enum CodingKeys: String, CodingKey {
            case key
            case end = "range_end"
        }
        init(_ prefix: String) {
            var end = Array(prefix.utf8)
            if let last = end.popLast() { end.append(last + 1) }
            key = EtcdClient.base64(prefix)
            self.end = Data(end).base64EncodedString()
        }
    }

    private static func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }
    private static func plain(_ text: String) -> String {
        Data(base64Encoded: text).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    /// Asks the members in turn until one answers.
    private func post<Answer: Decodable>(_ path: String, _ question: some Encodable) async throws(StoreFault)
        -> Answer
    {
        guard let body = try? JSONEncoder().encode(question) else { throw StoreFault("unspeakable") }
        var reasons: [String] = []
        var permanent = 0
        for endpoint in settings.endpoints {
            do {
                var request = HTTPClientRequest(url: endpoint + path)
                request.method = .POST
                request.headers.add(name: "Content-Type", value: "application/json")
                request.body = .bytes(ByteBuffer(bytes: body))
                let response = try await http.execute(request, timeout: .seconds(Self.requestSeconds))
                let content = try await response.body.collect(upTo: 64 << 20)
                let bytes = Data(content.readableBytesView)
                if response.status == .ok { return try JSONDecoder().decode(Answer.self, from: bytes) }
                let said = Self.complaint(bytes)
                if [401, 403].contains(response.status.code) || said.contains("HTTPS server") { permanent += 1 }
                reasons.append("\(endpoint): \(response.status.code) \(said)")
            } catch {
                if let refusal = Self.refusal(error) {
                    permanent += 1
                    reasons.append("\(endpoint): \(refusal)")
                } else {
                    reasons.append("\(endpoint): \(error)")
                }
            }
        }
        throw StoreFault(reasons.joined(separator: "; "), isPermanent: permanent == settings.endpoints.count)
    }

    private static func complaint(_ bytes: Data) -> String {
        struct Complaint: Decodable { var error: String? }
        return (try? JSONDecoder().decode(Complaint.self, from: bytes))?.error
            // Not etcd's own answer but its web server's: a line of text.
            ?? String(decoding: bytes.prefix(200), as: UTF8.self).split(separator: "\n").first.map(String.init) ?? ""
    }

    /// Why TLS will never come about with this member, in words; nil for faults that may pass.
    private static func refusal(_ error: any Error) -> String? {
        let text = "\(error)"
        let isNameWrong = error is NIOSSLExtraError
        guard isNameWrong || error is NIOSSLError || error is BoringSSLError else { return nil }
        if isNameWrong { return "its certificate is for another name: \(text)" }
        let causes = [
            ("CERTIFICATE_VERIFY_FAILED", "its certificate is signed by no authority trusted here (--kvs-cacert)"),
            ("CERTIFICATE_REQUIRED", "it wants a client certificate (--kvs-cert, --kvs-key)"),
            ("UNKNOWN_CA", "it does not know the authority of our certificate (--kvs-cert)"),
            ("BAD_CERTIFICATE", "it does not take our certificate (--kvs-cert)"),
            ("CERTIFICATE_EXPIRED", "our certificate has expired (--kvs-cert)"),
            ("CERTIFICATE_UNKNOWN", "it does not take our certificate (--kvs-cert)"),
            ("WRONG_VERSION_NUMBER", "it does not speak TLS: write http://"),
        ]
        // A connection that broke in the middle of the handshake may come about another time.
        return causes.first { text.contains($0.0) }?.1
    }
}
