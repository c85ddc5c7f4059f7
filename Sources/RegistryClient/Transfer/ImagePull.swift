import AsyncHTTPClient
import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import NIOHTTP1
import OCIModel
import Synchronization

/// What a pull or a push says while it works.
package enum TransferEvent: Sendable {
    /// Another process does the same; this one waits for it.
    case waiting(String)
    /// Where the image comes from or goes to, and its digest.
    case resolved(host: String, digest: Digest)
    case load(LoadEvent)
    /// Of a push: bytes sent of a blob.
    case upload(number: Int, of: Int, sent: Int64, bytes: Int64, wasPresent: Bool)
    /// Of a push: so many layers are not sent, because they may not be handed on; the manifest says where they are.
    case keptElsewhere(layers: Int)
}

/// What a pull brought.
package struct PulledImage: Sendable {
    package var image: StoredImage
    /// The store had all of it under this name.
    package var wasPresent: Bool
}

/// One image from a registry into the store: layers are unpacked while they arrive.
package struct ImagePull {
    private let reference: RemoteReference
    private let store: ImageStore
    private let platform: Platform
    private let settings: RegistrySettings
    private let report: (TransferEvent) -> Void

    package init(
        _ reference: RemoteReference, into store: ImageStore, platform: Platform, settings: RegistrySettings,
        report: @escaping (TransferEvent) -> Void
    ) {
        self.reference = reference
        self.store = store
        self.platform = platform
        self.settings = settings
        self.report = report
    }

    /// Pulls the image, from a mirror where one is set and has it.
    ///
    /// - Throws: the fault of the registry itself when no mirror helped.
    package func run(preparer: some ImagePreparer) throws(Diagnostic) -> PulledImage {
        let subject = reference.description
        let policy = try settings.policy()
        do throws(RegistryFault) { try policy.admit(reference.name) } catch { throw error.diagnostic(subject) }
        store.prunePartials(olderThan: Limit.partialSeconds)
        let lock: PullLock
        do throws(SyscallError) {
            let name = "name-" + Digest(sha256: Array("\(reference) \(platform)".utf8)).hex
            lock = try PullLock.take(name, in: store.layout) { report(.waiting(subject)) }
        } catch {
            throw Diagnostic(DiagnosticCode("store-unusable"), store.layout.root, reasons: [error.sentence])
        }
        if let message = lock.message, let image = try store.image(named: message) {
            // The one we waited for has just asked the registry.
            return PulledImage(image: image, wasPresent: true)
        }
        let transport = Transport(settings)
        defer { try? blocking { () throws(RegistryFault) in await transport.shutdown() } }
        let mirrors = (settings.mirrors[reference.host] ?? []).map { RegistryEndpoint(mirror: $0) }
        for mirror in mirrors {
            do throws(RegistryFault) {
                let credential = settings.credential(for: mirror.authority, reference.repository)
                let registry = Registry(
                    transport, mirror, scope: Scope.pull(reference.repository), repository: reference.repository,
                    credential: credential)
                return finish(lock, try pull(from: registry, policy, preparer))
            } catch  where ImagePull.otherHostMayHelp(error) { continue } catch { throw error.diagnostic(subject) }
        }
        do throws(RegistryFault) {
            let host = reference.host
            let endpoint = try blocking { () throws(RegistryFault) in
                try await RegistryEndpoint.reachable(host, transport)
            }
            let registry = Registry(
                transport, endpoint, scope: Scope.pull(reference.repository), repository: reference.repository,
                credential: settings.credential(for: reference.host, reference.repository))
            return finish(lock, try pull(from: registry, policy, preparer))
        } catch { throw error.diagnostic(subject) }
    }

    private func finish(_ lock: PullLock, _ image: PulledImage) -> PulledImage {
        lock.say(image.image.name)
        return image
    }

    private static func otherHostMayHelp(_ fault: RegistryFault) -> Bool {
        let codes: [DiagnosticCode] = [
            .registryUnreachable, .registryBusy, .registryNotFound, .registryAuthentication, .registryProtocol,
            .contentMismatch, .registryUntrusted, .registryRefused, .imageUnsigned,
        ]
        return codes.contains(fault.code)
    }

    // MARK: One registry

    private func pull(
        from registry: Registry, _ policy: RegistryPolicy, _ preparer: some ImagePreparer
    ) throws(RegistryFault) -> PulledImage {
        let reference = reference
        let platform = platform
        let resolved = try blocking { () throws(RegistryFault) in
            try await registry.resolve(reference, for: platform)
        }
        report(.resolved(host: registry.endpoint.authority, digest: resolved.manifest.digest))
        let signatures = try ImagePull.demandSignatures(
            policy, reference, of: [resolved.manifest.digest] + resolved.indexes.map(\.digest), in: registry)
        // One puller per image, whatever it is called; then one per layer that images share.
        let locks: BlobLocks
        do throws(SyscallError) {
            locks = BlobLocks(in: store.layout) { [report] in report(.waiting(reference.description)) }
            try locks.take("image-" + resolved.manifest.digest.hex)
            for blob in store.blobsMissing(Set(resolved.layers.map(\.digest))) { try locks.take("blob-" + blob.hex) }
        } catch { throw RegistryFault(DiagnosticCode("store-unusable"), [error.sentence]) }
        defer { withExtendedLifetime(locks) {} }
        let digests = resolved.layers.map(\.digest)
        let isResuming = resolved.layers.contains { store.partial(of: $0.digest, upTo: $0.size) != nil }
        do throws(RegistryFault) {
            let pulled = try load(resolved, registry, preparer)
            store.discardPartials(digests)
            keep(signatures, resolved, of: pulled)
            return pulled
        } catch {
            let isBroken = [
                DiagnosticCode.registryUnreachable, .registryBusy, .registryAuthentication, .registryRefused,
            ].contains(error.code)
            if !isBroken { store.discardPartials(digests) }
            // What was kept may have been what was wrong.
            guard isResuming, error.code == .contentMismatch else { throw error }
            let pulled = try load(resolved, registry, preparer)
            keep(signatures, resolved, of: pulled)
            return pulled
        }
    }

    /// Those who run the image are asked for them again.
    private func keep(_ signatures: [VerifiedSignature], _ resolved: ResolvedImage, of pulled: PulledImage) {
        let kept = signatures.map { signature in
            let chain = resolved.indexes.drop { $0.digest != signature.digest }
            return KeptSignature(signature, indexes: chain.map(\.bytes))
        }
        store.keep(kept, of: pulled.image)
    }

    /// Before anything of the image is fetched: whether those have signed it whom the policy names.
    ///
    /// - Returns: for each of the policy's demands the signature that meets it.
    static func demandSignatures(
        _ policy: RegistryPolicy, _ reference: RemoteReference, of digests: [Digest], in registry: Registry
    ) throws(RegistryFault) -> [VerifiedSignature] {
        var found: [VerifiedSignature] = []
        for (path, keys) in policy.demands(reference.name) {
            let signature = try blocking { () throws(RegistryFault) in
                try await registry.signature(of: digests, by: keys)
            }
            if let signature {
                found.append(signature)
                continue
            }
            throw RegistryFault(
                .imageUnsigned,
                ["\(registry.endpoint.authority) has no signature of \(digests[0]) by a key of policy \(path)"],
                remedies: ["cosign sign --key KEY \(reference.name)@\(digests[0])", "ask whoever releases it"])
        }
        return found
    }

    private enum Limit {
        /// What is kept of a download that nobody came back for.
        static let partialSeconds = 7 * 86400
    }

    private func load(
        _ resolved: ResolvedImage, _ registry: Registry, _ preparer: some ImagePreparer
    ) throws(RegistryFault) -> PulledImage {
        let bytes = try configuration(resolved, registry)
        guard let configuration = try? JSONDecoder().decode(ImageConfiguration.self, from: Data(bytes)) else {
            throw .malformed("the image's configuration cannot be read")
        }
        if let made = configuration.platform, !platform.accepts(made) {
            throw RegistryFault(
                DiagnosticCode("wrong-architecture"), ["no image for \(platform); offered is: \(made)"])
        }
        let diffIDs = configuration.rootFileSystem?.diffIDs ?? []
        guard diffIDs.count == resolved.layers.count else {
            throw .malformed(
                "the manifest lists \(resolved.layers.count) layers, the configuration \(diffIDs.count)")
        }
        let failure = Failure()
        var layers: [IncomingLayer] = []
        for (number, (layer, diffID)) in zip(resolved.layers, diffIDs).enumerated() {
            let what = "layer \(number + 1) of \(diffIDs.count)"
            let store = store
            let transfer = BlobTransfer(layer: layer, from: registry, what: what)
            var incoming = IncomingLayer(
                name: layer.digest.description, length: layer.size, diffID: diffID, blobDigest: layer.digest
            ) { () throws(ArchiveFault) in
                let partial = store.partial(of: layer.digest, upTo: layer.size)
                return BlobStream(transfer, resuming: partial) { failure.note($0) }
            }
            incoming.keepsPartial = true
            layers.append(incoming)
        }
        let image = IncomingImage(
            names: reference.localName.map { [$0] } ?? [], manifest: (resolved.manifest.bytes, resolved.descriptor),
            configurationBytes: bytes, configurationDigest: resolved.configuration.digest,
            configuration: configuration, layers: layers)
        do throws(Diagnostic) {
            let loaded = try store.load(image, subject: reference.description, preparer: preparer) {
                report(.load($0))
            }
            if let first = loaded.first { return PulledImage(image: first.image, wasPresent: first.wasPresent) }
            throw Diagnostic(.notAnImage, "", reasons: ["nothing was stored"])
        } catch {
            let diagnostic = error
            // The transfer's own fault says more than that a stream ended.
            if let fault = failure.first { throw fault }
            let code: DiagnosticCode =
                diagnostic.code.rawValue == "archive-invalid" ? .contentMismatch : diagnostic.code
            throw RegistryFault(
                code, diagnostic.reasons,
                remedies: code == .contentMismatch
                    ? ["try again; if it stays so, a proxy or mirror is damaged"] : diagnostic.remedies)
        }
    }

    private final class Failure: Sendable {
        private let fault = Mutex<RegistryFault?>(nil)
        var first: RegistryFault? { fault.withLock { $0 } }
        func note(_ new: RegistryFault) { fault.withLock { $0 = $0 ?? new } }
    }

    /// From the store where it is there, else from the registry; verified either way.
    private func configuration(_ resolved: ResolvedImage, _ registry: Registry) throws(RegistryFault) -> [UInt8] {
        let descriptor = resolved.configuration
        if let bytes = try? Files.read(store.layout.blob(descriptor.digest)), Digest(sha256: bytes) == descriptor.digest
        {
            return bytes
        }
        return try blocking { () throws(RegistryFault) in
            try await registry.blob(descriptor, what: "configuration")
        }
    }
}

extension ImageStore {
    /// Those of `digests` that the store does not have, in order.
    func blobsMissing(_ digests: Set<Digest>) -> [Digest] {
        digests.filter { !Files.exists(layout.blob($0)) }.sorted { $0.hex < $1.hex }
    }
}

extension RegistryEndpoint {
    /// How `host` is spoken to: TLS, and plain HTTP only on this machine or where that was allowed.
    static func reachable(_ host: String, _ transport: Transport) async throws(RegistryFault) -> RegistryEndpoint {
        let secure = RegistryEndpoint(name: host)
        let plain = RegistryEndpoint(name: host, isSecure: false)
        if isLoopback(secure.host) {
            // Asked first in plain: a server without TLS may keep a TLS client waiting for ever, while one
            // with it answers plain HTTP at once, by 400 or by hanging up. Nothing secret is said here.
            if let status = try? await plain.status(transport) { return status == 400 ? secure : plain }
            return (try? await secure.status(transport)) == nil ? plain : secure
        }
        guard transport.settings.insecureHosts.contains(host) || transport.mayBePlain(secure.host) else {
            return secure
        }
        do throws(RegistryFault) {
            _ = try await secure.status(transport)
            return secure
        } catch { return (try? await plain.status(transport)) == nil ? secure : plain }
    }

    /// The status of an answer to `/v2/`, asked once and without credentials.
    private func status(_ transport: Transport) async throws(RegistryFault) -> UInt {
        let response = try await transport.send(RegistryRequest(url: base + "/v2/")).response
        _ = try? await response.bytes(
            limit: Registry.Limit.errorBytes, idleSeconds: transport.settings.idleSeconds, host: host)
        return response.status.code
    }
}
