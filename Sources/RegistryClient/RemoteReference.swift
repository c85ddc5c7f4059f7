import OCIModel

/// An image in a registry: host, repository, and a tag, a digest or both.
///
/// `docker://` in front is allowed. A name without a host is Docker Hub's, where a name without a
/// slash lies in `library/`. (distribution reference grammar)
package struct RemoteReference: Hashable, Sendable, CustomStringConvertible {
    /// `docker.io`, `ghcr.io`, `localhost:5000`.
    package let host: String
    /// As the registry knows it: `library/debian`.
    package let repository: String
    /// Nil when only a digest was given.
    package let tag: String?
    package let digest: Digest?
    /// The name the image gets in the store; nil when it has no tag.
    package let localName: ImageReference?

    package static let scheme = "docker://"
    package static let dockerHub = "docker.io"

    /// Nil when `text` is not a reference.
    package init?(_ text: String) {
        var text = text[...]
        if text.hasPrefix(RemoteReference.scheme) { text = text.dropFirst(RemoteReference.scheme.count) }
        var digest: Digest?
        if let at = text.firstIndex(of: "@") {
            guard let found = Digest(text[text.index(after: at)...]) else { return nil }
            digest = found
            text = text[..<at]
        }
        guard let name = ImageReference(text) else { return nil }
        let hasTag = (text.split(separator: "/").last ?? "").contains(":")
        self.digest = digest
        tag = hasTag || digest == nil ? name.tag : nil
        localName = tag == nil ? nil : name
        var parts = name.repository.split(separator: "/").map(String.init)
        if parts.count > 1, parts[0] == "localhost" || parts[0].contains(where: { $0 == "." || $0 == ":" }) {
            host = parts.removeFirst()
        } else {
            host = RemoteReference.dockerHub
            if parts.count == 1 { parts.insert("library", at: 0) }
        }
        guard !parts.isEmpty else { return nil }
        repository = parts.joined(separator: "/")
    }

    /// What goes into `/v2/<name>/manifests/<…>`: the digest decides where both are given.
    package var manifestName: String { digest?.description ?? tag ?? "latest" }

    /// Host and repository, without tag and digest.
    package var name: String { "\(host)/\(repository)" }

    package var description: String {
        "\(host)/\(repository)" + (tag.map { ":" + $0 } ?? "") + (digest.map { "@\($0)" } ?? "")
    }
}
