import FoundationEssentials
import OCIModel

/// Layers that their makers do not let others hand on (image-spec layer.md, "Non-Distributable Layers").
///
/// As docker does: the registry is asked first, then the addresses the manifest names, in order and without
/// credentials; the digest decides. A push leaves them where they are.
enum ForeignLayers {
    /// Whether a push passes `layer` over. One that is nowhere else has to go along.
    static func staysBehind(_ layer: Descriptor) -> Bool { layer.isForeign && !addresses(layer).isEmpty }

    /// Where `layer` can be had by HTTP.
    static func addresses(_ layer: Descriptor) -> [String] {
        (layer.urls ?? []).prefix(Limit.addresses).filter { text in
            guard let url = URL(string: text), let scheme = url.scheme?.lowercased() else { return false }
            return url.host != nil && (scheme == "https" || scheme == "http")
        }
    }

    private enum Limit { static let addresses = 8 }
}

extension BlobTransfer {
    /// Of a layer of an image, from wherever it is.
    init(layer: Descriptor, from registry: Registry, what: String) {
        guard layer.isForeign else {
            self.init(layer, from: registry, what: what)
            return
        }
        let addresses = ForeignLayers.addresses(layer)
        let type = RegistryFault.printable(layer.mediaType ?? "")
        let what =
            "\(what), which may be kept elsewhere (\(type)\(addresses.isEmpty ? ", and it names no address" : ""))"
        self.init(layer, from: registry, what: what)
        others = addresses.compactMap { address in
            guard let url = URL(string: address), let host = url.host else { return nil }
            // Nothing secret goes to a host that a manifest names, be it the registry's own.
            let endpoint = RegistryEndpoint(
                name: host + (url.port.map { ":\($0)" } ?? ""), isSecure: url.scheme?.lowercased() == "https")
            let server = Registry(registry.transport, endpoint, scope: "", repository: "", credential: .none)
            return BlobTransfer(url: address, size: layer.size, from: server, what: what)
        }
    }
}
