import AsyncHTTPClient
import FoundationEssentials
import LinuxSystem
import NIOHTTP1
import RegistryWire

/// The `Authorization` header of one registry, per scope; tokens are fetched when asked for and
/// renewed before or when they expire (distribution token specification).
actor Authorizer {
    private let transport: Transport
    private let endpoint: RegistryEndpoint
    private let source: CredentialSource
    /// Filled when a registry first asks.
    private var found: CredentialSource.Found?
    /// In a job: what this client proves itself with, once the registry has.
    private var jobHeader: String?
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

    init(_ transport: Transport, _ endpoint: RegistryEndpoint, _ source: CredentialSource) {
        self.transport = transport
        self.endpoint = endpoint
        self.source = source
    }

    private var credential: Credential? {
        if found == nil { found = source.find() }
        return found?.credential
    }

    /// Whether the registry has ever asked for a login.
    var wasAsked: Bool { found != nil }

    /// What was wrong with the places that logins are kept in; matters to who needs one.
    var problems: [RegistryFault] { found?.problems ?? [] }

    /// What to send before the registry has asked; nil when nothing is known yet.
    func header(for scope: String) async throws(RegistryFault) -> String? {
        if case .job(let secret) = source { return try await proven(JobProof(secret: secret)) }
        guard let grant = known[scope], grant.usableUntil > MonotonicTime.nanoseconds() else { return nil }
        return grant.header
    }

    /// The header that proves knowledge of the job's secret to a registry that has proved its own (`JobProof`). Nothing
    /// of ours was said before but a number drawn for this.
    private func proven(_ proof: JobProof) async throws(RegistryFault) -> String {
        if let jobHeader { return jobHeader }
        let nonce = JobProof.nonce()
        var request = RegistryRequest(url: endpoint.base + "/v2/")
        request.headers.add(name: JobProof.nonceHeader, value: nonce)
        let (response, isFromOrigin) = try await transport.send(request)
        _ = try? await response.bytes(
            limit: Limit.tokenBytes, idleSeconds: transport.settings.idleSeconds, host: endpoint.host)
        let challenge = response.headers["WWW-Authenticate"].flatMap(Challenge.parse)
            .first { $0.scheme == JobProof.scheme }
        guard isFromOrigin, let theirs = challenge?.parameters["nonce"], JobProof.isNonce(theirs),
            let claim = challenge?.parameters["proof"],
            proof.isProof(claim, of: .registry, client: nonce, registry: theirs, at: endpoint.authority)
        else {
            throw RegistryFault(
                .registryUntrusted, ["\(endpoint.authority) does not know this job's secret: it is another's"])
        }
        let answer = proof.proof(of: .client, client: nonce, registry: theirs, at: endpoint.authority)
        jobHeader = "Trireme \(nonce):\(answer)"
        return "Trireme \(nonce):\(answer)"
    }

    /// The header that answers `challenges`; `rejected` is the one that was not accepted.
    func answer(_ challenges: [Challenge], scope: String, rejected: String?) async throws(RegistryFault) -> String {
        if case .job(let secret) = source {
            // A registry of the same job that was started anew.
            if jobHeader == rejected { jobHeader = nil }
            return try await proven(JobProof(secret: secret))
        }
        // Another transfer may have renewed it meanwhile.
        if let header = try await header(for: scope), header != rejected { return header }
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
                .registryAuthentication, ["\(endpoint.authority) wants a login"] + problems.flatMap(\.reasons),
                remedies: ["trireme login \(endpoint.authority)"] + problems.flatMap(\.remedies))
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
        let credential = credential
        // A login is not told in clear because a registry asks for it; one that is spoken to in clear hears it anyway.
        let isOwn = !endpoint.isSecure && host == endpoint.host && url.port == endpoint.port
        if scheme == "http", !isOwn, !transport.mayBePlain(host), endpoint.isSecure || credential != nil {
            throw RegistryFault(
                .registryUntrusted, ["\(endpoint.authority) sends to a token service without TLS, \(host)"])
        }
        let service = challenge.parameters["service"]
        var request = RegistryRequest(url: realm)
        request.holdsCredential = credential != nil
        // A mount speaks of two repositories, each a scope of its own.
        let scopes = scope.split(separator: " ").map { ("scope", String($0)) }
        var query = service.map { [("service", $0)] } ?? []
        if case .identityToken(let secret) = credential {
            query += [
                ("scope", scope), ("grant_type", "refresh_token"), ("refresh_token", secret), ("client_id", "trireme"),
            ]
            request.method = .POST
            request.headers.add(name: "Content-Type", value: "application/x-www-form-urlencoded")
            request.body = .bytes(
                Array(query.map { "\($0)=\(PercentEncoding.encoded($1))" }.joined(separator: "&").utf8))
        } else {
            query += scopes
            if case .password(let user, let password) = credential {
                query.append(("account", user))
                request.headers.add(name: "Authorization", value: Authorizer.basic(user, password))
            }
            let added = query.map { "\($0)=\(PercentEncoding.encoded($1))" }.joined(separator: "&")
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
            guard credential != nil else { throw refusal() }
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
            header: "Bearer " + token, usableUntil: MonotonicTime.nanoseconds() + Int64((life - min(5, life / 4)) * 1e9))
    }
}

/// A registry of a job, from outside its protocol.
package enum JobRegistry {
    /// Whether who answers at `address` (`HOST:PORT` in numbers) knows the job's secret.
    package static func proves(_ address: String, secret: String, settings: RegistrySettings) -> Bool {
        var settings = settings
        settings.idleSeconds = min(settings.idleSeconds, 10)
        let transport = Transport(settings)
        let endpoint = RegistryEndpoint(name: address, isSecure: false)
        let isProven: Bool? = try? blocking { () throws(RegistryFault) in
            let authorizer = Authorizer(transport, endpoint, .job(secret: secret))
            let isProven = (try? await authorizer.header(for: "")) != nil
            await transport.shutdown()
            return isProven
        }
        return isProven ?? false
    }
}
