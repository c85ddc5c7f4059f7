import FoundationEssentials
import Glibc
import LinuxSystem
import OCIModel

/// A signature that was found when an image came in, kept beside it (`images/HEX/signatures.json`) with all that
/// is needed to check it again without a network.
package struct KeptSignature: Codable, Equatable, Sendable {
    /// In base64.
    package var signature: String
    package var payload: Data
    /// Of the image's manifest, or of the first of `indexes`.
    package var digest: Digest
    /// The indexes that lead from there to the image, as they were signed.
    package var indexes: [Data]

    package init(_ signature: VerifiedSignature, indexes: [[UInt8]]) {
        self.signature = signature.text
        payload = Data(signature.payload)
        digest = signature.digest
        self.indexes = indexes.map { Data($0) }
    }

    /// Whether one of `keys` says by this that `manifest` is the image.
    package func holds(for manifest: Digest, by keys: [SigningKey]) -> Bool {
        var wanted = digest
        for (place, index) in indexes.enumerated() {
            guard Digest(sha256: Array(index)) == wanted,
                let list = try? JSONDecoder().decode(ImageIndex.self, from: index)
            else { return false }
            wanted = place + 1 < indexes.count ? Digest(sha256: Array(indexes[place + 1])) : manifest
            guard list.manifests.contains(where: { $0.digest == wanted }) else { return false }
        }
        guard wanted == manifest else { return false }
        return keys.contains { $0.signature(signature, over: Array(payload), of: digest) != nil }
    }
}

extension KeptSignature {
    /// For a command line: nil when there are none, or more than one word of it holds.
    package static func base64(_ list: [KeptSignature]) -> String? {
        guard !list.isEmpty, let data = try? JSONEncoder().encode(list) else { return nil }
        let text = data.base64EncodedString()
        return text.utf8.count <= 96 << 10 ? text : nil
    }

    package static func list(base64 text: String) -> [KeptSignature] {
        Data(base64Encoded: text).flatMap { try? JSONDecoder().decode([KeptSignature].self, from: $0) } ?? []
    }
}

extension ImageStore {
    private enum Limit { static let signatures = 64 }

    /// What is kept of `image`'s signatures; none when that cannot be read.
    package func signatures(of image: StoredImage) -> [KeptSignature] {
        let path = image.layout.signatures(image.record.manifest.digest)
        guard let bytes = try? Files.read(path) else { return [] }
        return (try? JSONDecoder().decode([KeptSignature].self, from: Data(bytes))) ?? []
    }

    /// Keeps `fresh` beside what is kept already. An image that is removed meanwhile needs none.
    package func keep(_ fresh: [KeptSignature], of image: StoredImage) {
        let known = signatures(of: image)
        let added = fresh.filter { !known.contains($0) }
        guard !added.isEmpty else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(Array((added + known).prefix(Limit.signatures))) else { return }
        let path = image.layout.signatures(image.record.manifest.digest)
        let staged = "\(path).\(getpid())"
        guard (try? Files.write(Array(data), to: staged)) != nil else { return }
        if rename(staged, path) != 0 { unlink(staged) }
    }
}
