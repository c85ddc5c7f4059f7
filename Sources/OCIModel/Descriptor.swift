/// A reference to content by digest (image-spec descriptor.md).
package struct Descriptor: Codable, Equatable, Sendable {
    package var mediaType: String?
    package var digest: Digest
    /// Bytes.
    package var size: Int64
    package var platform: Platform?
    package var annotations: [String: String]?
    /// Where the content can be had besides a registry, for layers that may not be passed on.
    package var urls: [String]?

    package init(
        mediaType: String?, digest: Digest, size: Int64, platform: Platform? = nil, annotations: [String: String]? = nil
    ) {
        self.mediaType = mediaType
        self.digest = digest
        self.size = size
        self.platform = platform
        self.annotations = annotations
    }

    /// Build attestations ride in an index beside the images they speak of; they are never run.
    package var isAttestation: Bool {
        annotations?["vnd.docker.reference.type"] == "attestation-manifest"
            || (platform?.operatingSystem == "unknown" && platform?.architecture == "unknown")
    }
    /// cosign keeps signatures, attestations and bills of materials beside images, under names made of their digest.
    package var isSignature: Bool {
        if let kind = annotations?["kind"], kind.hasPrefix("dev.cosignproject.cosign/"), !kind.hasSuffix("/image"),
            !kind.hasSuffix("/imageIndex")
        {
            return true
        }
        guard let name = annotations?["org.opencontainers.image.ref.name"] else { return false }
        let tag = name.split(separator: ":").last.map(String.init) ?? name
        return tag.hasPrefix("sha256-") && [".sig", ".att", ".sbom"].contains { tag.hasSuffix($0) }
    }
    /// A layer that its maker does not let others hand on: docker's "foreign", OCI's "non-distributable"
    /// (image-spec layer.md).
    package var isForeign: Bool {
        mediaType.map { $0.contains(".foreign.") || $0.contains(".nondistributable.") } ?? false
    }
    package var isIndex: Bool {
        mediaType == MediaType.index || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
    }
}

/// The media types written here; others are told apart by content.
package enum MediaType {
    package static let index = "application/vnd.oci.image.index.v1+json"
    package static let manifest = "application/vnd.oci.image.manifest.v1+json"
    package static let configuration = "application/vnd.oci.image.config.v1+json"
    package static let layer = "application/vnd.oci.image.layer.v1.tar"
    package static let layerGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
    package static let layerZstd = "application/vnd.oci.image.layer.v1.tar+zstd"
}

/// What an image runs on (image-spec image-index.md, "platform"), in Go's words.
package struct Platform: Codable, Hashable, Sendable, CustomStringConvertible {
    package var architecture: String
    package var operatingSystem: String
    package var variant: String?

    enum CodingKeys: String, CodingKey {
        case architecture, variant
        case operatingSystem = "os"
    }

    package init(operatingSystem: String = "linux", architecture: String, variant: String? = nil) {
        self.operatingSystem = operatingSystem
        self.architecture = architecture
        self.variant = variant
    }

    /// `linux/arm64/v8`, or `arm64` alone; nil when malformed.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard (1...3).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else { return nil }
        if parts.count == 1 {
            self.init(architecture: Platform.canonical(parts[0]))
        } else {
            self.init(
                operatingSystem: parts[0], architecture: Platform.canonical(parts[1]),
                variant: parts.count == 3 ? parts[2] : nil)
        }
    }

    /// Go's name for an architecture given by another (`uname -m`).
    package static func canonical(_ architecture: String) -> String {
        switch architecture {
        case "x86_64", "x86-64": "amd64"
        case "aarch64": "arm64"
        default: architecture
        }
    }

    /// This machine's.
    package static var current: Platform {
        #if arch(x86_64)
            Platform(architecture: "amd64")
        #elseif arch(arm64)
            Platform(architecture: "arm64")
        #else
            #error("name this architecture in Go's words")
        #endif
    }

    /// Whether an image for `other` runs where this one is wanted. arm64 has one variant, v8.
    package func accepts(_ other: Platform) -> Bool {
        operatingSystem == other.operatingSystem && architecture == Platform.canonical(other.architecture)
            && (variant == nil || other.variant == nil || variant == other.variant)
    }

    package var description: String { "\(operatingSystem)/\(architecture)" + (variant.map { "/" + $0 } ?? "") }
}
