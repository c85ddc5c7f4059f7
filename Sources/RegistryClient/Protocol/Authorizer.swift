import AsyncHTTPClient
import FoundationEssentials
import NIOHTTP1

/// The `Authorization` header of one registry, per scope; tokens are fetched when asked for and
/// renewed before or when they expire (distribution token specification).
actor Authorizer {
    private let transport: Transport
    private let endpoint: RegistryEndpoint
    private let credential: Credential?
    private var known: [String: Grant] = [:]
    private var inProgress: [String: Task<Grant, any Error>] = [:]

    private struct Grant: Sendable {
        var header: String
        /// Nanoseconds of the monotonic clock; a token is not used beyond it.
        var usableUntil: Int64
    }

    private enum Limit {
        static let tokenBytes = 1 << 20
        /// The specification's, where a token service says nothing.
        static let lifeSeconds = 60.0
    }

    init(_ transport: Transport, _ endpoint: RegistryEndpoint, _ credential: Credential?) {
        self.transport = transport
        self.endpoint = endpoint
        self.credential = credential
    }

    /// What to send before the registry has asked; nil when nothing is known yet.
    func header(for scope: String) -> String? {
        if let secret = transport.settings.jobSecret { return "Bearer " + secret }
        guard let grant = known[scope], grant.usableUntil > Activity.now() else { return nil }
        return grant.header
    }

    /// The header that answers `challenges`; `rejected` is the one that was not accepted.
    func answer(_ challenges: [Challenge], scope: String, rejected: String?) async throws(RegistryFault) -> String {
        // Another transfer may have renewed it meanwhile.
        if let header = header(for: scope), header != rejected { return header }
        known[scope] = nil
        let task: Task<Grant, any Error>
        if let running = inProgress[scope] {
            task = running
        } else {
            task = Task { try await self.grant(challenges, scope) }
            inProgress[scope] = task
        }
        do {
            let grant = try await task.value
            inProgress[scope] = nil
            if grant.header == rejected { throw refusal() }
            known[scope] = grant
            return grant.header
        } catch let fault as RegistryFault {
            inProgress[scope] = nil
            throw fault
        } catch {
            inProgress[scope] = nil
            throw RegistryFault(transport: error, host: endpoint.host)
        }
    }

    private func refusal() -> RegistryFault {
        credential == nil
            ? RegistryFault(
                .registryAuthentication, ["\(endpoint.authority) wants a login"],
                remedies: ["trireme login \(endpoint.authority)"])
            : RegistryFault(
                .registryAuthentication, ["\(endpoint.authority) does not accept the stored login"],
                remedies: ["trireme login \(endpoint.authority)"])
    }

    private func grant(_ challenges: [Challenge], _ scope: String) async throws(RegistryFault) -> Grant {
        if let bearer = challenges.first(where: { $0.scheme == "bearer" }) { return try await token(bearer, scope) }
        guard challenges.contains(where: { $0.scheme == "basic" }) else {
            let schemes = challenges.map { RegistryFault.printable($0.scheme) }.joined(separator: ", ")
            throw RegistryFault(
                .registryAuthentication,
                [
                    "\(endpoint.authority) asks for a kind of login not known here (\(schemes.isEmpty ? "none" : schemes))"
                ])
        }
        guard case .password(let user, let password) = credential else { throw refusal() }
        return Grant(header: Authorizer.basic(user, password), usableUntil: .max)
    }

    private static func basic(_ user: String, _ password: String) -> String {
        "Basic " + Data("\(user):\(password)".utf8).base64EncodedString()
    }

    private struct TokenAnswer: Decodable {
        var token: String?
        var accessToken: String?
        var expiresIn: Double?
        enum CodingKeys: String, CodingKey {
            case token
            case accessToken = "access_token"
            case expiresIn = "expires_in"
        }
    }

    private func token(_ challenge: Challenge, _ scope: String) async throws(RegistryFault) -> Grant {
        guard let realm = challenge.parameters["realm"], var url = URLComponents(string: realm), let host = url.host,
            let scheme = url.scheme?.lowercased(), scheme == "https" || scheme == "http"
        else { throw .malformed("\(endpoint.authority) names no token service") }
        // A login is not told in clear because a registry asks for it.
        if scheme == "http", !transport.mayBePlain(host), endpoint.isSecure || credential != nil {
            throw RegistryFault(
                .registryUntrusted, ["\(endpoint.authority) sends to a token service without TLS, \(host)"])
        }
        let service = challenge.parameters["service"]
        var request = RegistryRequest(url: realm)
        // A mount speaks of two repositories, each a scope of its own.
        let scopes = scope.split(separator: " ").map { ("scope", String($0)) }
        var query = service.map { [("service", $0)] } ?? []
        if case .identityToken(let secret) = credential {
            query += [
                ("scope", scope), ("grant_type", "refresh_token"), ("refresh_token", secret), ("client_id", "trireme"),
            ]
            request.method = .POST
            request.headers.add(name: "Content-Type", value: "application/x-www-form-urlencoded")
            request.body = .bytes(Array(query.map { "\($0)=\(Authorizer.escaped($1))" }.joined(separator: "&").utf8))
        } else {
            query += scopes
            if case .password(let user, let password) = credential {
                query.append(("account", user))
                request.headers.add(name: "Authorization", value: Authorizer.basic(user, password))
            }
            let added = query.map { "\($0)=\(Authorizer.escaped($1))" }.joined(separator: "&")
            url.percentEncodedQuery = [url.percentEncodedQuery, added].compactMap { $0 }.filter { !$0.isEmpty }
                .joined(separator: "&")
            request.url = url.string ?? realm
        }
        let sent = request
        let (status, headers, body) = try await Backoff(transport.settings).run {
            [transport] () throws(RegistryFault) in
            let (response, _) = try await transport.send(sent)
            let body = try await response.bytes(
                limit: Limit.tokenBytes, idleSeconds: transport.settings.idleSeconds, host: host)
            if response.status.code == 429 || response.status.code >= 500 {
                throw RegistryFault(
                    status: response.status, headers: response.headers, body: body, what: "token service \(host)")
            }
            return (response.status, response.headers, body)
        }
        if status.code == 401 || status.code == 403 {
            throw RegistryFault(
                .registryAuthentication,
                ["the token service \(host) does not accept the login for \(endpoint.authority)"],
                remedies: ["trireme login \(endpoint.authority)"])
        }
        guard status.code == 200 else {
            throw RegistryFault(status: status, headers: headers, body: body, what: "token service \(host)")
        }
        guard let answer = try? JSONDecoder().decode(TokenAnswer.self, from: Data(body)),
            let token = answer.token ?? answer.accessToken, !token.isEmpty,
            token.utf8.allSatisfy({ $0 > 32 && $0 < 127 })
        else { throw .malformed("the token service \(host) gave no token") }
        // Renewed a little early: a request takes time to arrive.
        let life = min(max(answer.expiresIn ?? Limit.lifeSeconds, 1), 86400)
        return Grant(
            header: "Bearer " + token, usableUntil: Activity.now() + Int64((life - min(5, life / 4)) * 1e9))
    }

    /// `text` for a query or a form: everything but RFC 3986's unreserved characters is escaped.
    static func escaped(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 48...57, 65...90, 97...122, 45, 46, 95, 126: result.unicodeScalars.append(Unicode.Scalar(byte))
            default: result += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return result
    }
}
