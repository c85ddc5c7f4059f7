import AsyncHTTPClient
import Diagnostics
import FoundationEssentials
import ImageStore
import NIOHTTP1
import OCIModel

/// What a registry has, asked without fetching it.
package struct RegistryQuestion {
    private let settings: RegistrySettings

    private enum Limit {
        static let pages = 1000
        static let tags = 100_000
    }

    package init(settings: RegistrySettings) { self.settings = settings }

    /// All tags of a repository, page by page (distribution-spec, "Listing Tags").
    package func tags(of reference: RemoteReference) throws(Diagnostic) -> [String] {
        try ask(reference) { (registry) throws(RegistryFault) in
            struct Page: Decodable { var tags: [String]? }
            var tags: [String] = []
            var next: String? = registry.url("tags/list")
            for _ in 0..<Limit.pages {
                guard let address = next, tags.count < Limit.tags else { break }
                let response = try await registry.send(RegistryRequest(url: address), accepting: [200], what: "tags")
                let bytes = try await response.bytes(
                    limit: Registry.Limit.json, idleSeconds: registry.settings.idleSeconds,
                    host: registry.endpoint.host)
                guard let page = try? JSONDecoder().decode(Page.self, from: Data(bytes)) else {
                    throw .malformed("a list of tags that cannot be read")
                }
                tags += page.tags ?? []
                next = Self.next(response.headers.first(name: "Link")).flatMap(registry.absolute)
            }
            return tags
        }
    }

    /// The digest of the image that a pull would bring.
    package func digest(of reference: RemoteReference, platform: Platform) throws(Diagnostic) -> Digest {
        try ask(reference) { (registry) throws(RegistryFault) in
            try await registry.resolve(reference, for: platform).manifest.digest
        }
    }

    private func ask<T: Sendable>(
        _ reference: RemoteReference, _ body: @escaping @Sendable (Registry) async throws(RegistryFault) -> T
    ) throws(Diagnostic) -> T {
        let policy = try settings.policy()
        do throws(RegistryFault) {
            try policy.admit(reference.name)
            let credential = settings.credential(for: reference.host, reference.repository)
            let transport = Transport(settings)
            defer { try? blocking { () throws(RegistryFault) in await transport.shutdown() } }
            return try blocking { () throws(RegistryFault) in
                let endpoint = try await RegistryEndpoint.reachable(reference.host, transport)
                return try await body(
                    Registry(
                        transport, endpoint, scope: Scope.pull(reference.repository),
                        repository: reference.repository, credential: credential))
            }
        } catch { throw error.diagnostic(reference.description) }
    }

    /// `</v2/x/tags/list?n=2&last=b>; rel="next"` (RFC 8288).
    static func next(_ link: String?) -> String? {
        guard let link, link.contains("rel=\"next\"") || link.contains("rel=next"), let open = link.firstIndex(of: "<"),
            let close = link.firstIndex(of: ">"), open < close
        else { return nil }
        return String(link[link.index(after: open)..<close])
    }
}
