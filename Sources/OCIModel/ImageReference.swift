/// A name of an image, as docker shows it (distribution reference grammar).
///
/// `docker.io/library/x` is `x:latest`, `docker.io/u/x:1` is `u/x:1`; every other host is kept,
/// `localhost` included.
package struct ImageReference: Hashable, Sendable, CustomStringConvertible {
    /// Everything before the tag, in docker's familiar form.
    package let repository: String
    package let tag: String

    package enum Limit {
        /// The distribution grammar's bounds; they also keep a store's file names under NAME_MAX.
        package static let repositoryBytes = 200
        package static let tagBytes = 128
    }

    /// Nil when `text` is not a name: empty, upper case in the path, a digest, odd characters.
    package init?(_ text: some StringProtocol) {
        guard !text.isEmpty, !text.contains("@") else { return nil }
        var parts = String(text).split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard var last = parts.popLast() else { return nil }
        var tag = "latest"
        if let colon = last.firstIndex(of: ":") {
            tag = String(last[last.index(after: colon)...])
            last = String(last[..<colon])
        }
        parts.append(last)
        var host: String?
        if parts.count > 1, parts[0] == "localhost" || parts[0].contains(where: { $0 == "." || $0 == ":" }) {
            host = parts.removeFirst()
        }
        if host == "docker.io" || host == "index.docker.io" {
            host = nil
            if parts.count == 2, parts[0] == "library" { parts.removeFirst() }
        }
        guard parts.allSatisfy(ImageReference.isPathComponent), ImageReference.isTag(tag),
            host.map(ImageReference.isHost) ?? true
        else { return nil }
        repository = ((host.map { [$0] } ?? []) + parts).joined(separator: "/")
        self.tag = tag
        guard repository.utf8.count <= Limit.repositoryBytes else { return nil }
    }

    package var description: String { "\(repository):\(tag)" }

    /// The name with its host, as registries and containerd write it: `docker.io/library/x:latest`.
    package var qualified: String {
        let parts = repository.split(separator: "/")
        let hasHost = parts.count > 1 && (parts[0] == "localhost" || parts[0].contains { $0 == "." || $0 == ":" })
        if hasHost { return description }
        return "docker.io/" + (parts.count == 1 ? "library/" : "") + description
    }

    /// The name without `localhost/`, which podman and buildah put before names of their own making; nil for others.
    package var withoutLocalhost: ImageReference? {
        repository.hasPrefix("localhost/") ? ImageReference("\(repository.dropFirst(10)):\(tag)") : nil
    }

    /// The name as one file name: `/` is written `%2F`.
    package var fileName: String { description.split(separator: "/").joined(separator: "%2F") }

    /// The name behind a file name made by `fileName`.
    package init?(fileName: String) {
        var text = ""
        var rest = fileName[...]
        while let percent = rest.firstIndex(of: "%") {
            guard rest[percent...].hasPrefix("%2F") else { return nil }
            text += rest[..<percent] + "/"
            rest = rest[rest.index(percent, offsetBy: 3)...]
        }
        self.init(text + rest)
    }

    private static func isLowerOrDigit(_ byte: UInt8) -> Bool { (97...122).contains(byte) || (48...57).contains(byte) }

    private static func isPathComponent(_ text: String) -> Bool {
        guard let first = text.utf8.first, let last = text.utf8.last, isLowerOrDigit(first), isLowerOrDigit(last)
        else { return false }
        return text.utf8.allSatisfy { isLowerOrDigit($0) || $0 == 46 || $0 == 95 || $0 == 45 }
    }

    /// Labels of letters, digits and inner hyphens, and a port.
    private static func isHost(_ text: String) -> Bool {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let labels = parts[0].split(separator: ".", omittingEmptySubsequences: false)
        let isPort = parts.count == 1 || (!parts[1].isEmpty && parts[1].utf8.allSatisfy { (48...57).contains($0) })
        return isPort
            && labels.allSatisfy { label in
                !label.isEmpty && label.first != "-" && label.last != "-"
                    && label.utf8.allSatisfy { isLowerOrDigit($0) || (65...90).contains($0) || $0 == 45 }
            }
    }

    private static func isTag(_ text: String) -> Bool {
        guard let first = text.utf8.first, text.utf8.count <= Limit.tagBytes, first != 46, first != 45 else {
            return false
        }
        return text.utf8.allSatisfy {
            isLowerOrDigit($0) || (65...90).contains($0) || $0 == 46 || $0 == 45 || $0 == 95
        }
    }
}
