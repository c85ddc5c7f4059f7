import FoundationEssentials
import Glibc
import ImageStore
import LinuxSystem

/// A login at one registry.
package enum Credential: Equatable, Sendable {
    case password(user: String, String)
    /// An OAuth2 refresh token, exchanged at the token service.
    case identityToken(String)
}

/// docker's `config.json`, shared with docker, podman and skopeo: `auths`, `credHelpers`, `credsStore`.
/// What else it holds is kept when it is written.
package struct DockerConfiguration {
    private let path: String
    private var root: [String: JSONValue]

    /// Docker Hub's key, for historical reasons.
    private static let dockerHubKey = "https://index.docker.io/v1/"

    /// A missing file is an empty one.
    package init(path: String) throws(RegistryFault) {
        self.path = path
        let bytes: [UInt8]
        do throws(SyscallError) { bytes = try Files.read(path, limit: 4 << 20) } catch {
            guard error.errno == ENOENT || error.errno == ENOTDIR else {
                throw RegistryFault(.credentials, [error.sentence])
            }
            root = [:]
            return
        }
        do { root = try JSONDecoder().decode([String: JSONValue].self, from: Data(bytes)) } catch {
            throw RegistryFault(
                .credentials, ["\(path) is not valid JSON"], remedies: ["set DOCKER_CONFIG to another directory"])
        }
    }

    /// The same without a file: its text.
    package init(text: String, from variable: String) throws(RegistryFault) {
        path = variable
        do { root = try JSONDecoder().decode([String: JSONValue].self, from: Data(text.utf8)) } catch {
            throw RegistryFault(.credentials, ["\(variable) is not valid JSON"], remedies: ["unset \(variable)"])
        }
        // A helper is a program: the variable, which a service may have set, names logins alone.
        root = root.filter { $0.key == "auths" }
    }

    /// The login for `repository` at `host` (as in a reference: `docker.io`, `ghcr.io`), if there is one. podman
    /// also keeps logins for parts of a registry (`HOST/NAMESPACE`): the longest that fits counts.
    ///
    /// - Parameter note: told of a helper that cannot be asked; the file's own entries are then looked at.
    package func credential(
        for host: String, _ repository: String = "", note: (RegistryFault) -> Void = { _ in }
    ) throws(RegistryFault) -> Credential? {
        if let helper = helper(for: host) {
            do throws(RegistryFault) {
                let found = try CredentialHelper(name: helper).get(DockerConfiguration.key(host))
                if found != nil { return found }
            } catch { note(error) }
        }
        guard case .object(let auths) = root["auths"] else { return nil }
        let fitting = auths.compactMap { key, entry in
            DockerConfiguration.match(key, host, repository).map { (length: $0, key: key, entry: entry) }
        }
        for (_, key, entry) in fitting.sorted(by: { ($1.length, $0.key) < ($0.length, $1.key) }) {
            guard case .object(let entry) = entry else { continue }
            if case .string(let token) = entry["identitytoken"], !token.isEmpty { return .identityToken(token) }
            if case .string(let user) = entry["username"], case .string(let password) = entry["password"],
                !user.isEmpty
            {
                return .password(user: user, password)
            }
            guard case .string(let encoded) = entry["auth"], !encoded.isEmpty else { continue }
            guard let data = Data(base64Encoded: encoded),
                case let text = String(decoding: data, as: UTF8.self), let colon = text.firstIndex(of: ":")
            else {
                throw RegistryFault(.credentials, ["\(path): the entry of '\(key)' is not base64 of USER:PASSWORD"])
            }
            return .password(user: String(text[..<colon]), String(text[text.index(after: colon)...]))
        }
        return nil
    }

    /// How much of `host/repository` an entry's key names, in bytes of the repository's part; nil when it is for others.
    private static func match(_ key: String, _ host: String, _ repository: String) -> Int? {
        guard self.host(of: key) == host else { return nil }
        // docker writes addresses, whose path means nothing.
        if key.contains("://") { return 0 }
        let path = key.drop { $0 != "/" }.dropFirst()
        guard path.isEmpty || repository == path || repository.hasPrefix(path + "/") else { return nil }
        return path.utf8.count
    }

    /// `credHelpers` of the host, else `credsStore`.
    private func helper(for host: String) -> String? {
        if case .object(let helpers) = root["credHelpers"] {
            for (key, value) in helpers where DockerConfiguration.host(of: key) == host {
                if case .string(let name) = value, !name.isEmpty { return name }
            }
        }
        if case .string(let name) = root["credsStore"], !name.isEmpty { return name }
        return nil
    }

    /// Stores a login, where docker would: in the helper or in the file.
    package mutating func store(user: String, password: String, for host: String) throws(RegistryFault) {
        if let helper = helper(for: host) {
            try CredentialHelper(name: helper).store(DockerConfiguration.key(host), user: user, password: password)
            return
        }
        var auths = self.auths
        for key in auths.keys where DockerConfiguration.host(of: key) == host { auths[key] = nil }
        let encoded = Data("\(user):\(password)".utf8).base64EncodedString()
        auths[DockerConfiguration.key(host)] = .object(["auth": .string(encoded)])
        root["auths"] = .object(auths)
        try write()
    }

    /// Forgets a login; false when there was none.
    package mutating func erase(_ host: String) throws(RegistryFault) -> Bool {
        if let helper = helper(for: host) {
            let helper = CredentialHelper(name: helper)
            guard try helper.get(DockerConfiguration.key(host)) != nil else { return false }
            try helper.erase(DockerConfiguration.key(host))
            return true
        }
        var auths = self.auths
        let keys = auths.keys.filter { DockerConfiguration.host(of: $0) == host }
        guard !keys.isEmpty else { return false }
        for key in keys { auths[key] = nil }
        root["auths"] = .object(auths)
        try write()
        return true
    }

    private var auths: [String: JSONValue] {
        if case .object(let auths) = root["auths"] { return auths }
        return [:]
    }

    /// Written beside and moved into place, for the owner only.
    private func write() throws(RegistryFault) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        guard let data = try? encoder.encode(root) else {
            throw RegistryFault(.credentials, ["\(path) cannot be encoded"])
        }
        do throws(SyscallError) {
            let directory = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
            if !Files.exists(directory) {
                try Files.makeDirectories(directory)
                chmod(directory, 0o700)
            }
            // A link (a dotfile repository's) stays one: its target is replaced.
            let resolved = realpath(path, nil)
            defer { free(resolved) }
            let target = resolved.map { String(cString: $0) } ?? path
            let fresh = "\(target).\(getpid())"
            unlink(fresh)
            let file = try OwnedDescriptor.open(fresh, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
            try file.writeAll(String(decoding: data, as: UTF8.self) + "\n")
            try Files.rename(fresh, target)
        } catch { throw RegistryFault(.credentials, [error.sentence]) }
    }

    private static func key(_ host: String) -> String { host == RemoteReference.dockerHub ? dockerHubKey : host }

    /// `https://index.docker.io/v1/` → `docker.io`, `https://ghcr.io/` → `ghcr.io`.
    private static func host(of key: String) -> String {
        var text = key[...]
        for scheme in ["https://", "http://"] where text.hasPrefix(scheme) { text = text.dropFirst(scheme.count) }
        let host = text.prefix { $0 != "/" }
        return ["index.docker.io", "registry-1.docker.io", "docker.io"].contains(host)
            ? RemoteReference.dockerHub : String(host)
    }
}

/// Any JSON, kept as it came.
enum JSONValue: Codable, Equatable, Sendable {
    case null, bool(Bool), integer(Int64), number(Double), string(String), array([JSONValue])
    case object([String: JSONValue])

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if value.decodeNil() {
            self = .null
        } else if let found = try? value.decode(Bool.self) {
            self = .bool(found)
        } else if let found = try? value.decode(Int64.self) {
            self = .integer(found)
        } else if let found = try? value.decode(Double.self) {
            self = .number(found)
        } else if let found = try? value.decode(String.self) {
            self = .string(found)
        } else if let found = try? value.decode([JSONValue].self) {
            self = .array(found)
        } else {
            self = .object(try value.decode([String: JSONValue].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}
