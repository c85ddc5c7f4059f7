/// A list of manifests, one per platform or name (image-spec image-index.md); also a
/// docker manifest list, and the `index.json` of an image layout.
package struct ImageIndex: Codable, Sendable {
    package var schemaVersion: Int?
    package var mediaType: String?
    package var manifests: [Descriptor]

    package init(manifests: [Descriptor]) {
        schemaVersion = 2
        mediaType = MediaType.index
        self.manifests = manifests
    }
}

/// One image: its configuration and layers, lowest first (image-spec manifest.md).
package struct ImageManifest: Codable, Sendable {
    package var schemaVersion: Int?
    package var mediaType: String?
    package var config: Descriptor
    package var layers: [Descriptor]

    package init(config: Descriptor, layers: [Descriptor]) {
        schemaVersion = 2
        mediaType = MediaType.manifest
        self.config = config
        self.layers = layers
    }
}

extension ImageManifest {
    package enum Limit {
        /// overlayfs takes no more (`OVL_MAX_STACK` in fs/overlayfs/params.h).
        package static let layers = 500
        /// Of all layers together: a pebibyte, beyond what any machine unpacks.
        package static let bytes: Int64 = 1 << 50
    }

    /// Why `layers` are too many or too large to be an image, before anything is reckoned with their sizes; nil when
    /// they are not.
    package static func excess(of layers: [Descriptor]) -> String? {
        guard layers.count <= Limit.layers else {
            return "\(layers.count) layers, where at most \(Limit.layers) can be"
        }
        var left = Limit.bytes
        for layer in layers {
            guard layer.size >= 0 else { return "a layer of \(layer.size) bytes" }
            guard layer.size <= left else { return "layers of more than \(Limit.bytes) bytes together" }
            left -= layer.size
        }
        return nil
    }
}

/// As much of a manifest as signatures and what they are attached to need (image-spec manifest.md, "subject").
package struct SignatureManifest: Decodable, Sendable {
    package var layers: [Descriptor]
    package var subject: Descriptor?
}

/// The bytes of a manifest for an image that came without one. Field order and spelling are fixed
/// here, so one image gives one digest however often it is loaded.
extension ImageManifest {
    package var canonicalJSON: String {
        func text(_ descriptor: Descriptor) -> String {
            "{\"mediaType\":\"\(descriptor.mediaType ?? MediaType.layer)\",\"digest\":\"\(descriptor.digest)\","
                + "\"size\":\(descriptor.size)}"
        }
        return "{\"schemaVersion\":2,\"mediaType\":\"\(MediaType.manifest)\",\"config\":\(text(config)),\"layers\":["
            + layers.map(text).joined(separator: ",") + "]}"
    }
}

/// One entry of a docker-archive's `manifest.json` (docker image-spec v1.2).
package struct DockerArchiveEntry: Codable, Sendable {
    package var config: String
    package var repoTags: [String]?
    package var layers: [String]?
    package init(config: String, repoTags: [String]?, layers: [String]?) {
        self.config = config
        self.repoTags = repoTags
        self.layers = layers
    }
    enum CodingKeys: String, CodingKey {
        case config = "Config"
        case repoTags = "RepoTags"
        case layers = "Layers"
    }
}
