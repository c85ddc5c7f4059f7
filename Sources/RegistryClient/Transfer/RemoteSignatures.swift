import Diagnostics
import FoundationEssentials
import ImageStore
import OCIModel

/// Signatures where cosign keeps them in a registry: under the tag `sha256-HEX.sig` of the image's repository,
/// or in manifests that have the image as their subject (distribution-spec, "Listing Referrers").
extension Registry {
    private enum Kind { static let simpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json" }
    private enum Most { static let signatures = 64 }

    private struct SignatureManifest: Decodable { var layers: [Descriptor]? }

    /// The first signature by one of `keys` over one of `digests`; nil when there is none.
    func signature(of digests: [Digest], by keys: [SigningKey]) async throws(RegistryFault) -> VerifiedSignature? {
        for digest in digests {
            for name in ["sha256-\(digest.hex).sig"] + (try await referrers(of: digest)) {
                guard
                    let manifest = try await known({ () throws(RegistryFault) in
                        try await self.manifest(name, expecting: Digest(name))
                    }),
                    let layers = try? JSONDecoder().decode(SignatureManifest.self, from: Data(manifest.bytes)).layers
                else { continue }
                for layer in layers.prefix(Most.signatures) where layer.mediaType == Kind.simpleSigning {
                    guard let text = layer.annotations?[SigningKey.annotation],
                        let payload = try await known({ () throws(RegistryFault) in
                            try await self.blob(layer, what: "signature")
                        })
                    else { continue }
                    for key in keys {
                        if let found = key.signature(text, over: payload, of: digest) { return found }
                    }
                }
            }
        }
        return nil
    }

    /// What is not there is nil, and no fault.
    private func known<T: Sendable>(
        _ body: @Sendable () async throws(RegistryFault) -> T
    ) async throws(RegistryFault) -> T? {
        do throws(RegistryFault) { return try await body() } catch {
            if error.code == .registryNotFound { return nil }
            throw error
        }
    }

    /// Registries older than the specification's version 1.1 have no such list; they answer 404 or worse.
    private func referrers(of digest: Digest) async throws(RegistryFault) -> [String] {
        let request = RegistryRequest(url: url("referrers/\(digest)"))
        do throws(RegistryFault) {
            let response = try await send(request, accepting: [200], what: "referrers")
            let bytes = try await response.bytes(
                limit: Limit.json, idleSeconds: settings.idleSeconds, host: endpoint.host)
            let index = try? JSONDecoder().decode(ImageIndex.self, from: Data(bytes))
            return (index?.manifests ?? []).prefix(Most.signatures).map(\.digest.description)
        } catch {
            if [.registryNotFound, .registryRefused, .registryAuthentication].contains(error.code) { return [] }
            throw error
        }
    }
}

/// Asks a registry who signed an image that the store has.
package enum RemoteSignatures {
    /// - Parameters:
    ///   - manifest: the image's own; a signature of an index that leads to it counts, too.
    ///   - reference: its repository, and the tag at which an index is looked for.
    package static func find(
        _ manifest: Digest, in reference: RemoteReference, platform: Platform, by key: SigningKey,
        settings: RegistrySettings
    ) throws(Diagnostic) -> VerifiedSignature? {
        do throws(RegistryFault) {
            let credential = settings.credential(for: reference.host, reference.repository)
            let transport = Transport(settings)
            defer { try? blocking { () throws(RegistryFault) in await transport.shutdown() } }
            return try blocking { () throws(RegistryFault) in
                let endpoint = try await RegistryEndpoint.reachable(reference.host, transport)
                let registry = Registry(
                    transport, endpoint, scope: Scope.pull(reference.repository), repository: reference.repository,
                    credential: credential)
                if let found = try await registry.signature(of: [manifest], by: [key]) { return found }
                guard reference.tag != nil else { return nil }
                let resolved = try await registry.resolve(reference, for: platform)
                guard resolved.manifest.digest == manifest, !resolved.indexes.isEmpty else { return nil }
                return try await registry.signature(of: resolved.indexes.map(\.digest), by: [key])
            }
        } catch { throw error.diagnostic(reference.description) }
    }
}
