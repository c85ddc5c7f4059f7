import Diagnostics
import FoundationEssentials
import OCIModel

/// What a reference leads to: one image for one platform, all of it verified but the layers.
struct ResolvedImage: Sendable {
    var manifest: RemoteManifest
    var layers: [Descriptor]
    var configuration: Descriptor
    /// The indexes that led to it.
    var indexes: [RemoteManifest] = []
}

extension Registry {
    private enum Depth { static let indexes = 4 }

    /// Follows indexes down to the image for `platform`. Attestations and other riders are passed over.
    ///
    /// - Throws: `wrong-architecture`, with what is offered; `not-an-image`.
    func resolve(_ reference: RemoteReference, for platform: Platform) async throws(RegistryFault) -> ResolvedImage {
        var manifest = try await manifest(reference.manifestName, expecting: reference.digest)
        var indexes: [RemoteManifest] = []
        for _ in 0..<Depth.indexes {
            guard manifest.isIndex else {
                var image = try ResolvedImage(manifest)
                image.indexes = indexes
                return image
            }
            indexes.append(manifest)
            let chosen = try PlatformChoice.choose(manifest, for: platform)
            manifest = try await self.manifest(chosen.digest.description, expecting: chosen.digest)
        }
        throw RegistryFault(.notAnImage, ["indexes nested too deep"])
    }
}

/// Which entry of an index runs here.
package enum PlatformChoice {
    static func choose(_ index: RemoteManifest, for platform: Platform) throws(RegistryFault) -> Descriptor {
        guard let list = try? JSONDecoder().decode(ImageIndex.self, from: Data(index.bytes)) else {
            throw .malformed("an index that cannot be read")
        }
        return try choose(list.manifests, for: platform)
    }

    /// The best of `entries`: the wanted variant, else one without, else the highest that still runs;
    /// of equals the first. An index of one image without a platform is that image.
    package static func choose(
        _ entries: [Descriptor], for platform: Platform
    ) throws(RegistryFault) -> Descriptor {
        let images = entries.filter { !$0.isAttestation && isImageOrIndex($0) }
        let fitting = images.filter { entry in entry.platform.map { runs($0, on: platform) } ?? false }
        if let best = fitting.enumerated().max(by: { a, b in
            (rank(a.element, platform), -a.offset) < (rank(b.element, platform), -b.offset)
        }) {
            return best.element
        }
        let untold = images.filter { $0.platform == nil }
        if fitting.isEmpty, untold.count == 1, images.count == 1 { return untold[0] }
        let offered = Set(images.compactMap(\.platform?.description)).sorted().joined(separator: ", ")
        throw RegistryFault(
            DiagnosticCode("wrong-architecture"),
            ["no image for \(platform); offered are: \(offered.isEmpty ? "none that says what it runs on" : offered)"],
            remedies: ["ask its maker for \(platform)"])
    }

    /// Riders (signatures, SBOMs) name what they are.
    private static func isImageOrIndex(_ entry: Descriptor) -> Bool {
        entry.mediaType.map { RemoteManifest.known.contains($0) } ?? true
    }

    /// amd64's variants are levels: a v3 machine runs v2. An unasked variant beyond the base level
    /// might need instructions this machine lacks, so only v1 or none is taken then.
    private static func runs(_ offered: Platform, on wanted: Platform) -> Bool {
        guard offered.operatingSystem == wanted.operatingSystem,
            Platform.canonical(offered.architecture) == wanted.architecture
        else { return false }
        guard let variant = offered.variant, !variant.isEmpty else { return true }
        return level(variant) <= level(wanted.variant ?? base(wanted.architecture))
    }

    private static func base(_ architecture: String) -> String {
        switch architecture {
        case "arm64": "v8"
        case "arm": "v7"
        default: "v1"
        }
    }

    private static func level(_ variant: String) -> Int {
        Int(variant.drop { !$0.isNumber }.prefix { $0.isNumber }) ?? 0
    }

    private static func rank(_ entry: Descriptor, _ wanted: Platform) -> Int {
        guard let variant = entry.platform?.variant, !variant.isEmpty else {
            return level(base(wanted.architecture))
        }
        return level(variant)
    }
}

extension ResolvedImage {
    /// - Throws: `not-an-image` for what is sound, but nothing to run.
    init(_ manifest: RemoteManifest) throws(RegistryFault) {
        guard let image = try? JSONDecoder().decode(ImageManifest.self, from: Data(manifest.bytes)) else {
            throw .malformed("a manifest that is neither an image's nor an index")
        }
        let type = image.config.mediaType ?? ""
        guard type == MediaType.configuration || type == MediaType.dockerConfiguration else {
            let kind = (try? JSONDecoder().decode(Artifact.self, from: Data(manifest.bytes)))?.artifactType
            throw RegistryFault(
                .notAnImage,
                [
                    "an artifact of type '\(RegistryFault.printable(kind ?? type))', not a container image"
                        + (type == MediaType.emptyConfiguration ? " (its configuration is empty)" : "")
                ],
                remedies: type.contains("sylabs.sif") ? ["it holds a SIF file: trireme pull oras://NAME"] : [])
        }
        if let excess = ImageManifest.excess(of: image.layers) { throw RegistryFault(.notAnImage, [excess]) }
        for layer in image.layers {
            let type = layer.mediaType ?? MediaType.layer
            if type.hasSuffix("+encrypted") {
                throw RegistryFault(.notAnImage, ["a layer that is encrypted"])
            }
            guard type.contains(".layer.") || type.contains(".rootfs.") else {
                throw RegistryFault(.notAnImage, ["a layer of type '\(RegistryFault.printable(type))'"])
            }
        }
        self.init(manifest: manifest, layers: image.layers, configuration: image.config)
    }

    private struct Artifact: Decodable { var artifactType: String? }

    var descriptor: Descriptor {
        Descriptor(mediaType: manifest.mediaType, digest: manifest.digest, size: Int64(manifest.bytes.count))
    }
}
