import AsyncHTTPClient
import FoundationEssentials
import ImageStore
import NIOCore
import NIOHTTP1
import OCIModel
import RegistryWire

/// One repository of one registry (distribution-spec v1.1): requests with authorisation and patience.
final class Registry: Sendable {
    let transport: Transport
    let endpoint: RegistryEndpoint
    let repository: String
    private let authorizer: Authorizer
    /// What tokens are asked for (`Scope`).
    private let scope: String
    var settings: RegistrySettings { transport.settings }

    enum Limit {
        /// Manifests, indexes and configurations; registries accept 4 MiB.
        static let json = 8 << 20
        static let errorBytes = 256 << 10
    }

    init(
        _ transport: Transport, _ endpoint: RegistryEndpoint, scope: String, repository: String,
        credential: CredentialSource
    ) {
        self.transport = transport
        self.endpoint = endpoint
        self.repository = repository
        self.scope = scope
        authorizer = Authorizer(transport, endpoint, credential)
    }

    /// `https://host/v2/<name>/<path>`
    func url(_ path: String) -> String { "\(endpoint.base)/v2/\(repository)/\(path)" }

    /// An absolute address for a `Location`, which may be relative to the registry.
    func absolute(_ location: String) -> String? {
        guard let base = URL(string: endpoint.base + "/") else { return nil }
        return URL(string: location, relativeTo: base)?.absoluteString
    }

    /// One attempt: authorised, redirects followed, an expired token renewed once. The answer's status
    /// is one of `accepted`; every other is a fault.
    func attempt(
        _ request: RegistryRequest, accepting accepted: Set<UInt>, what: String
    ) async throws(RegistryFault) -> HTTPClientResponse {
        var request = request
        // Where an upload or a link leads to another host, our credentials stay behind.
        let isOurs = isOurs(request.url)
        var header = isOurs ? try await authorizer.header(for: scope) : nil
        var isRenewed = false
        while true {
            request.headers.remove(name: "Authorization")
            if let header { request.headers.add(name: "Authorization", value: header) }
            let (response, isFromOrigin) = try await transport.send(request)
            if accepted.contains(response.status.code) { return response }
            if response.status.code == 401, isOurs, isFromOrigin, !isRenewed {
                let challenges = response.headers["WWW-Authenticate"].flatMap(Challenge.parse)
                header = try await authorizer.answer(challenges, scope: scope, rejected: header)
                isRenewed = true
                continue
            }
            let body =
                (try? await response.bytes(
                    limit: Limit.errorBytes, idleSeconds: settings.idleSeconds, host: endpoint.host)) ?? []
            var fault = RegistryFault(
                status: response.status, headers: response.headers, body: body,
                what: isFromOrigin ? what : "\(what) (after a redirect to another host)")
            if fault.code == .registryAuthentication, isFromOrigin { await adviseLogin(&fault) }
            throw fault
        }
    }

    /// A registry that has never asked for a login has none to give.
    private func adviseLogin(_ fault: inout RegistryFault) async {
        guard await authorizer.wasAsked else { return }
        let problems = await authorizer.problems
        fault.reasons += problems.flatMap(\.reasons)
        if fault.remedies.isEmpty { fault.remedies = ["trireme login \(endpoint.authority)"] }
        fault.remedies += problems.flatMap(\.remedies)
    }

    /// Whether the registry has ever asked for a login.
    var asksForLogin: Bool { get async { await authorizer.wasAsked } }

    private func isOurs(_ url: String) -> Bool {
        guard let there = URL(string: url), let here = URL(string: endpoint.base) else { return false }
        return there.scheme == here.scheme && there.host == here.host && there.port == here.port
    }

    /// `attempt`, until it succeeds or there is no point.
    func send(
        _ request: RegistryRequest, accepting accepted: Set<UInt>, what: String
    ) async throws(RegistryFault) -> HTTPClientResponse {
        try await Backoff(settings).run { () throws(RegistryFault) in
            try await self.attempt(request, accepting: accepted, what: what)
        }
    }

    /// A manifest or an index: its bytes, type and digest, checked against `expected` and the answer's header.
    func manifest(_ name: String, expecting expected: Digest?) async throws(RegistryFault) -> RemoteManifest {
        var request = RegistryRequest(url: url("manifests/\(name)"))
        for type in [
            MediaType.manifest, MediaType.index, MediaType.dockerManifest, MediaType.dockerManifestList,
        ] { request.headers.add(name: "Accept", value: type) }
        let what = "manifest \(RegistryFault.printable(name))"
        let finished = request
        return try await Backoff(settings).run { () throws(RegistryFault) in
            let response = try await self.attempt(finished, accepting: [200], what: what)
            let bytes = try await response.bytes(
                limit: Limit.json, idleSeconds: self.settings.idleSeconds, host: self.endpoint.host)
            if let length = response.headers.first(name: "Content-Length").flatMap(Int.init), length != bytes.count {
                throw .transient(.registryUnreachable, "\(what): \(bytes.count) of \(length) bytes came")
            }
            return try RemoteManifest(
                bytes: bytes, type: response.headers.first(name: "Content-Type"),
                claimed: response.headers.first(name: "Docker-Content-Digest"), expected: expected, what: what)
        }
    }

    /// A small blob, whole and verified.
    func blob(_ descriptor: Descriptor, what: String) async throws(RegistryFault) -> [UInt8] {
        guard descriptor.size <= Limit.json else {
            throw RegistryFault(.notAnImage, ["\(what): \(descriptor.size) bytes are too many for a description"])
        }
        let request = RegistryRequest(url: url("blobs/\(descriptor.digest)"))
        return try await Backoff(settings).run { () throws(RegistryFault) in
            let response = try await self.attempt(request, accepting: [200], what: what)
            let bytes = try await response.bytes(
                limit: Limit.json, idleSeconds: self.settings.idleSeconds, host: self.endpoint.host)
            if bytes.count < Int(descriptor.size) {
                throw .transient(
                    .registryUnreachable, "\(what): \(bytes.count) of \(descriptor.size) bytes came")
            }
            guard Digest(sha256: bytes) == descriptor.digest else {
                throw RegistryFault(
                    .contentMismatch,
                    ["\(what): digest mismatch: expected \(descriptor.digest), found \(Digest(sha256: bytes))"])
            }
            return bytes
        }
    }
}

extension MediaType {
    static let dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
    static let dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
    static let dockerConfiguration = "application/vnd.docker.container.image.v1+json"
    static let emptyConfiguration = "application/vnd.oci.empty.v1+json"
}

/// A manifest as it came, verified.
struct RemoteManifest: Sendable {
    var bytes: [UInt8]
    /// From the manifest itself, else from the answer's header.
    var mediaType: String
    var digest: Digest

    private struct Head: Decodable {
        var schemaVersion: Int?
        var mediaType: String?
        var manifests: [Descriptor]?
        var config: Descriptor?
    }

    init(
        bytes: [UInt8], type: String?, claimed: String?, expected: Digest?, what: String
    ) throws(RegistryFault) {
        let digest = Digest(sha256: bytes)
        if let expected, expected != digest {
            throw RegistryFault(
                .contentMismatch, ["\(what): digest mismatch: expected \(expected), found \(digest)"])
        }
        if let claimed, let claimed = Digest(claimed), claimed != digest {
            throw RegistryFault(
                .contentMismatch, ["\(what): the registry calls it \(claimed), its content is \(digest)"])
        }
        let header = type?.split(separator: ";").first.map(String.init)
        guard let head = try? JSONDecoder().decode(Head.self, from: Data(bytes)) else {
            throw .malformed("\(what): the answer is no manifest but '\(RegistryFault.printable(header ?? "untyped"))'")
        }
        if head.schemaVersion == 1 {
            throw RegistryFault(
                .notAnImage, ["\(what): an image of Docker's first format (schema 1), which is not read"],
                remedies: ["push it again with a tool of this decade"])
        }
        // The content decides: answers of 'application/json' or 'text/plain' are seen in the wild.
        let derived = head.manifests != nil ? MediaType.index : MediaType.manifest
        mediaType = head.mediaType ?? (header.flatMap { RemoteManifest.known.contains($0) ? $0 : nil }) ?? derived
        self.bytes = bytes
        self.digest = digest
    }

    static let known: Set<String> = [
        MediaType.manifest, MediaType.index, MediaType.dockerManifest, MediaType.dockerManifestList,
    ]
    var isIndex: Bool { mediaType == MediaType.index || mediaType == MediaType.dockerManifestList }
}
