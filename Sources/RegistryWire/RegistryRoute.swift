import OCIModel

/// What a path of the distribution API means (distribution-spec v1.1, "Endpoints").
package enum RegistryRoute: Equatable, Sendable {
    case base
    /// Where a login is exchanged for a token (distribution token specification).
    case token
    case catalog
    case tags(repository: String)
    /// `reference` is a tag or a digest.
    case manifest(repository: String, reference: String)
    case blob(repository: String, digest: Digest)
    case startUpload(repository: String)
    case upload(repository: String, id: String)
    case referrers(repository: String, digest: Digest)
    /// A digest or a name that cannot be.
    case invalid(RegistryErrorCode)
    case unknown

    package static let tokenPath = "/token"

    /// The repository it is about.
    package var repository: String? {
        switch self {
        case .tags(let name), .manifest(let name, _), .blob(let name, _), .startUpload(let name), .upload(let name, _),
            .referrers(let name, _):
            name
        case .base, .token, .catalog, .invalid, .unknown: nil
        }
    }

    /// - Parameter path: as sent, without the query, percent escapes resolved.
    package init(path: String) {
        guard path.hasPrefix("/v2") else {
            self = path == RegistryRoute.tokenPath ? .token : .unknown
            return
        }
        var parts = path.dropFirst(3).split(separator: "/").map(String.init)
        if parts.isEmpty {
            self = .base
        } else if parts == ["_catalog"] {
            self = .catalog
        } else if parts.count >= 3, parts.suffix(2) == ["tags", "list"] {
            self = RegistryRoute.checked(parts.dropLast(2)) { .tags(repository: $0) }
        } else if parts.count >= 3, parts.suffix(2) == ["blobs", "uploads"] {
            self = RegistryRoute.checked(parts.dropLast(2)) { .startUpload(repository: $0) }
        } else if parts.count >= 4, parts[parts.count - 3] == "blobs", parts[parts.count - 2] == "uploads" {
            let id = parts.removeLast()
            self = RegistryRoute.checked(parts.dropLast(2)) { .upload(repository: $0, id: id) }
        } else if parts.count >= 3 {
            let last = parts.removeLast()
            let kind = parts.removeLast()
            switch kind {
            case "manifests": self = RegistryRoute.checked(parts) { .manifest(repository: $0, reference: last) }
            case "blobs": self = RegistryRoute.checked(parts, digest: last) { .blob(repository: $0, digest: $1) }
            case "referrers":
                self = RegistryRoute.checked(parts, digest: last) { .referrers(repository: $0, digest: $1) }
            default: self = .unknown
            }
        } else {
            self = .unknown
        }
    }

    private static func checked(_ parts: some Sequence<String>, _ route: (String) -> RegistryRoute) -> RegistryRoute {
        let name = parts.joined(separator: "/")
        // The grammar of a store's names is the distribution's.
        return ImageReference(name + ":x") == nil || name.contains(":") && !name.contains("/")
            ? .invalid(.nameInvalid) : route(name)
    }

    private static func checked(
        _ parts: [String], digest: String, _ route: (String, Digest) -> RegistryRoute
    ) -> RegistryRoute {
        guard let digest = Digest(digest) else { return .invalid(.digestInvalid) }
        return checked(parts) { route($0, digest) }
    }
}

/// Error codes of the specification.
package enum RegistryErrorCode: String, Sendable {
    case blobUnknown = "BLOB_UNKNOWN"
    case uploadInvalid = "BLOB_UPLOAD_INVALID"
    case uploadUnknown = "BLOB_UPLOAD_UNKNOWN"
    /// The specification has no code of its own for an upload that another request writes to.
    case uploadBusy = "BLOB_UPLOAD_BUSY"
    case digestInvalid = "DIGEST_INVALID"
    case manifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
    case manifestInvalid = "MANIFEST_INVALID"
    case manifestUnknown = "MANIFEST_UNKNOWN"
    case nameInvalid = "NAME_INVALID"
    case nameUnknown = "NAME_UNKNOWN"
    case sizeInvalid = "SIZE_INVALID"
    case denied = "DENIED"
    case unauthorized = "UNAUTHORIZED"
    case unsupported = "UNSUPPORTED"
    case tooManyRequests = "TOOMANYREQUESTS"

    package var status: UInt {
        switch self {
        case .blobUnknown, .uploadUnknown, .manifestUnknown, .nameUnknown: 404
        case .denied: 403
        case .unauthorized: 401
        case .unsupported: 405
        case .tooManyRequests: 429
        case .sizeInvalid: 413
        case .uploadBusy: 409
        default: 400
        }
    }
}
