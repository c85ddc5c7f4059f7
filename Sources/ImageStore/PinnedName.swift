import Diagnostics
import OCIModel

/// `NAME[:TAG]@sha256:HEX`: a name, and what must be behind it (distribution reference grammar). Whoever writes
/// both means both: a digest under another name is another image to its reader.
struct PinnedName {
    let typed: String
    let reference: ImageReference
    let digits: DigestDigits
    private let hasTag: Bool

    /// Nil for what has no `@`, or is no name before it or no digest behind.
    init?(_ text: String) {
        guard let at = text.lastIndex(of: "@"), let reference = ImageReference(text[..<at]),
            let digits = DigestDigits(text[text.index(after: at)...])
        else { return nil }
        typed = text
        self.reference = reference
        self.digits = digits
        hasTag = text[..<at].split(separator: "/").last?.contains(":") ?? false
    }

    func hasDigest(of image: StoredImage) -> Bool { digits.fit(image) }

    /// Whether the image's own name is the one typed. One without a name, which was pulled by its digest or lost
    /// its name to a newer one, has none that could differ.
    func hasName(of image: StoredImage) -> Bool {
        guard image.hasName, let own = ImageReference(image.name) else { return true }
        return [own, own.withoutLocalhost].contains { name in
            name?.repository == reference.repository && (!hasTag || name?.tag == reference.tag)
        }
    }

    /// - Parameter others: the images that have the digest.
    func differs(from others: [StoredImage]) -> Diagnostic {
        let digest = typed.drop { $0 != "@" }
        return Diagnostic(
            DiagnosticCode("image-name-differs"), typed,
            reasons: ["the store has this digest under another name: \(others.map(\.name).joined(separator: ", "))"],
            remedies: others.prefix(2).map { "type '\($0.name)\(digest)'" } + [
                "trireme image tag \(others[0].name) \(reference)    gives it that name, too"
            ])
    }
}

/// At least 6 digits of a digest, `sha256:` in front or not.
struct DigestDigits {
    private let text: Substring

    init?(_ text: some StringProtocol) {
        var digits = Substring(text)
        if digits.hasPrefix("sha256:") { digits = digits.dropFirst(7) }
        guard digits.utf8.count >= 6, digits.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) })
        else { return nil }
        self.text = digits
    }

    func fit(_ image: StoredImage) -> Bool {
        image.record.manifest.digest.hex.hasPrefix(text) || image.record.configuration.hex.hasPrefix(text)
    }
}
