import AsyncHTTPClient
import Diagnostics
import FoundationEssentials
import ImageStore
import LinuxSystem
import NIOHTTP1
import OCIModel
import RegistryWire
import Synchronization

/// One image of the store to a registry: blobs it lacks first, the manifest last, byte for byte as
/// the store has it, so its digest stays.
package struct ImagePush {
    private let image: StoredImage
    private let reference: RemoteReference
    private let store: ImageStore
    private let settings: RegistrySettings
    private let report: @Sendable (TransferEvent) -> Void

    private enum Limit {
        static let parallelBlobs = 4
    }

    /// - Parameter report: called from several tasks, one at a time.
    package init(
        _ image: StoredImage, to reference: RemoteReference, store: ImageStore, settings: RegistrySettings,
        report: @escaping @Sendable (TransferEvent) -> Void
    ) {
        self.image = image
        self.reference = reference
        self.store = store
        self.settings = settings
        self.report = report
    }

    /// - Returns: the digest under which the registry has the image.
    package func run() throws(Diagnostic) -> Digest {
        let policy = try settings.policy()
        do throws(RegistryFault) {
            try policy.admit(reference.name)
            let descriptor = image.record.manifest
            let path = store.layout.blob(descriptor.digest)
            guard let bytes = try? Files.read(path), Digest(sha256: bytes) == descriptor.digest,
                let manifest = try? JSONDecoder().decode(ImageManifest.self, from: Data(bytes))
            else {
                throw RegistryFault(
                    DiagnosticCode("store-damaged"), ["the manifest is not what was stored"],
                    remedies: ["trireme image rm \(image.name), then load or pull it again"])
            }
            if let digest = reference.digest, digest != descriptor.digest {
                throw RegistryFault(
                    .contentMismatch, ["the digest asked for is not the image's, \(descriptor.digest)"])
            }
            let credential = settings.credential(for: reference.host, reference.repository)
            let transport = Transport(settings)
            defer { try? blocking { () throws(RegistryFault) in await transport.shutdown() } }
            let sources = mountSources
            let reference = reference
            let push = self
            try blocking { () throws(RegistryFault) in
                let endpoint = try await RegistryEndpoint.reachable(reference.host, transport)
                let registry = Registry(
                    transport, endpoint, scope: Scope.push(reference.repository, mountingFrom: sources.values),
                    repository: reference.repository, credential: credential)
                push.report(.resolved(host: endpoint.authority, digest: descriptor.digest))
                let sent = manifest.layers.filter { !ForeignLayers.staysBehind($0) }
                push.report(.keptElsewhere(layers: manifest.layers.count - sent.count))
                try await push.sendBlobs(sent + [manifest.config], registry, sources)
                try await push.sendManifest(bytes, descriptor, registry)
            }
            return descriptor.digest
        } catch { throw error.diagnostic(reference.description) }
    }

    /// Blobs that other repositories of the same registry have, as far as the store's names tell.
    private var mountSources: [Digest: String] {
        var sources: [Digest: String] = [:]
        for other in (try? store.images()) ?? [] {
            guard let name = RemoteReference(other.name), name.host == reference.host,
                name.repository != reference.repository
            else { continue }
            for layer in other.record.layers { sources[layer.blob.digest] = name.repository }
        }
        let own = Set(image.record.layers.map(\.blob.digest))
        return sources.filter { own.contains($0.key) }
    }

    private func sendBlobs(
        _ blobs: [Descriptor], _ registry: Registry, _ sources: [Digest: String]
    ) async throws(RegistryFault) {
        var seen: Set<Digest> = []
        let unique = blobs.filter { seen.insert($0.digest).inserted }
        let layout = store.layout
        let report = self.report
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, blob) in unique.enumerated() {
                    if index >= Limit.parallelBlobs { try await group.next() }
                    group.addTask {
                        try await BlobUpload(
                            registry: registry, blob: blob, path: layout.blob(blob.digest),
                            mountFrom: sources[blob.digest], number: index + 1, of: unique.count, report: report
                        ).run()
                    }
                }
                try await group.waitForAll()
            }
        } catch let fault as RegistryFault { throw fault } catch {
            throw RegistryFault(transport: error, host: registry.endpoint.host)
        }
    }

    private func sendManifest(
        _ bytes: [UInt8], _ descriptor: Descriptor, _ registry: Registry
    ) async throws(RegistryFault) {
        let name = reference.tag ?? descriptor.digest.description
        var request = RegistryRequest(method: .PUT, url: registry.url("manifests/\(name)"))
        request.headers.add(name: "Content-Type", value: descriptor.mediaType ?? MediaType.manifest)
        request.body = .bytes(bytes)
        let response = try await registry.send(request, accepting: [200, 201, 202], what: "manifest \(name)")
        if let claimed = response.headers.first(name: "Docker-Content-Digest").flatMap({ Digest($0) }),
            claimed != descriptor.digest
        {
            throw RegistryFault(
                .contentMismatch, ["the registry stored the manifest as \(claimed), it is \(descriptor.digest)"])
        }
    }
}

/// What a token is asked for (distribution token specification, "scope").
enum Scope {
    static func pull(_ repository: String) -> String { "repository:\(repository):pull" }
    static func push(_ repository: String, mountingFrom others: some Sequence<String>) -> String {
        (["repository:\(repository):pull,push"] + Set(others).sorted().map { "repository:\($0):pull" })
            .joined(separator: " ")
    }
}

/// One blob's way into a registry.
struct BlobUpload: Sendable {
    let registry: Registry
    let blob: Descriptor
    let path: String
    /// A repository of the same registry that has the blob.
    let mountFrom: String?
    let number: Int
    let of: Int
    let report: @Sendable (TransferEvent) -> Void

    private enum Limit {
        /// A larger blob goes in pieces, of which only the last is sent again when the connection breaks.
        static let chunkBytes: Int64 = 32 << 20
    }
    private var what: String { "blob \(number) of \(of)" }

    func run() async throws(RegistryFault) {
        let head = RegistryRequest(method: .HEAD, url: registry.url("blobs/\(blob.digest)"))
        let known = try await registry.send(head, accepting: [200, 404], what: what)
        if known.status.code == 200 { return note(blob.size, wasPresent: true) }
        var backoff = Backoff(registry.settings)
        while true {
            do throws(RegistryFault) {
                guard let location = try await start() else { return note(blob.size, wasPresent: true) }
                if blob.size <= Limit.chunkBytes {
                    try await finish(location, offset: 0)
                } else {
                    try await sendChunks(location)
                }
                return note(blob.size, wasPresent: false)
            } catch { try await backoff.wait(after: error) }
        }
    }

    private func note(_ sent: Int64, wasPresent: Bool) {
        report(.upload(number: number, of: of, sent: sent, bytes: blob.size, wasPresent: wasPresent))
    }

    /// Opens an upload; nil when the registry took the blob from another repository.
    private func start() async throws(RegistryFault) -> String? {
        var url = registry.url("blobs/uploads/")
        if let mountFrom {
            url +=
                "?mount=\(PercentEncoding.encoded(blob.digest.description))&from=\(PercentEncoding.encoded(mountFrom))"
        }
        var request = RegistryRequest(method: .POST, url: url)
        request.body = .bytes([])
        let response = try await registry.attempt(request, accepting: [201, 202], what: what)
        if response.status.code == 201 { return nil }
        return try location(response)
    }

    private func location(_ response: HTTPClientResponse) throws(RegistryFault) -> String {
        guard let next = response.headers.first(name: "Location").flatMap(registry.absolute) else {
            throw .malformed("\(what): the registry does not say where to send it")
        }
        return next
    }

    /// The last or only piece, from `offset` on, and the digest that closes the upload.
    private func finish(_ location: String, offset: Int64) async throws(RegistryFault) {
        let separator = location.contains("?") ? "&" : "?"
        var request = RegistryRequest(
            method: .PUT, url: location + separator + "digest=" + PercentEncoding.encoded(blob.digest.description))
        request.headers.add(name: "Content-Type", value: "application/octet-stream")
        let length = blob.size - offset
        if offset > 0, length > 0 {
            request.headers.add(name: "Content-Range", value: "\(offset)-\(blob.size - 1)")
        }
        request.body = length == 0 ? .bytes([]) : piece(offset, length)
        _ = try await registry.attempt(request, accepting: [201, 204], what: what)
    }

    private func piece(_ offset: Int64, _ length: Int64) -> RegistryRequest.RequestBody {
        let sent = SentBytes(offset)
        return .file(path: path, offset: offset, length: length) { n in
            note(sent.add(n), wasPresent: false)
        }
    }

    /// Pieces in order (distribution-spec, "Pushing a blob in chunks"); after a failure the registry is
    /// asked how far it got.
    private func sendChunks(_ first: String) async throws(RegistryFault) {
        var location = first
        var offset: Int64 = 0
        var backoff = Backoff(registry.settings)
        while blob.size - offset > 0 {
            let length = min(Limit.chunkBytes, blob.size - offset)
            do throws(RegistryFault) {
                var request = RegistryRequest(method: .PATCH, url: location)
                request.headers.add(name: "Content-Type", value: "application/octet-stream")
                request.headers.add(name: "Content-Range", value: "\(offset)-\(offset + length - 1)")
                request.body = piece(offset, length)
                let response = try await registry.attempt(request, accepting: [202, 204, 201], what: what)
                location = try self.location(response)
                offset += length
                backoff.forgive()
            } catch {
                try await backoff.wait(after: error)
                let state = try await registry.attempt(
                    RegistryRequest(url: location), accepting: [204, 202, 200], what: what)
                location = (try? self.location(state)) ?? location
                // Of what has arrived.
                offset = ContentRange.arrived(state.headers.first(name: "Range")) ?? 0
                guard offset <= blob.size else { throw .malformed("\(what): the registry has more than was sent") }
            }
        }
        try await finish(location, offset: blob.size)
    }
}

/// How much of a piece has left; the client library reads it on a task of its own.
private final class SentBytes: Sendable {
    private let value: Atomic<Int64>
    init(_ start: Int64) { value = Atomic(start) }
    func add(_ count: Int64) -> Int64 { value.add(count, ordering: .relaxed).newValue }
}
