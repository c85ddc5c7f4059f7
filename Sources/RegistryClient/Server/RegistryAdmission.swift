import NIOHTTP1
import RegistryWire

/// Who may do what at a served registry.
struct RegistryAdmission: Sendable {
    /// Who asks, as far as the connection tells.
    struct Peer: Sendable {
        /// It is the server's own user, or root, as the kernel says.
        var isOwner = false
        /// `HOST:PORT` at which the connection was taken.
        var address = ""
    }

    enum Access: Int, Comparable {
        case none, pull, push
        static func < (a: Access, b: Access) -> Bool { a.rawValue < b.rawValue }
    }

    /// Between the nodes of a job.
    struct Job: Sendable {
        let proof: JobProof
        /// This server's part of every proof.
        let nonce = JobProof.nonce()
        init(secret: String) { proof = JobProof(secret: secret) }
    }

    /// Set in a job: then nothing else counts.
    var job: Job?
    /// nil in a job.
    var login: PushLogin?
    var isReadOnly: Bool
    /// Whoever reaches the address may pull; else the owner alone, and who has logged in.
    var isPublic: Bool
    /// Clients reach it by TLS.
    var isSecure = false

    /// nil for credentials that are wrong: those are told so, whatever they would be given without.
    func access(_ head: HTTPRequestHead, _ peer: Peer) -> Access? {
        let authorization = head.headers.first(name: "Authorization")
        if let job { return authorization.flatMap { isProven($0, job, peer) ? .pull : nil } }
        let anonymous: Access = isPublic || peer.isOwner ? .pull : .none
        guard let authorization, let login else { return anonymous }
        switch login.worth(of: authorization) {
        case .nothing: return nil
        case .anonymous: return anonymous
        case .push: return isReadOnly ? .pull : .push
        }
    }

    private func isProven(_ authorization: String, _ job: Job, _ peer: Peer) -> Bool {
        let words = authorization.split(separator: " ", maxSplits: 1)
        guard words.count == 2, words[0].lowercased() == JobProof.scheme else { return false }
        let halves = words[1].split(separator: ":", maxSplits: 1).map(String.init)
        guard halves.count == 2, JobProof.isNonce(halves[0]) else { return false }
        return job.proof.isProof(halves[1], of: .client, client: halves[0], registry: job.nonce, at: peer.address)
    }

    /// What a client learns that may not, or not yet.
    func refusal(_ head: HTTPRequestHead, _ peer: Peer, repository: String?, wanting access: Access) -> RegistryReply {
        if let job {
            var reply = RegistryReply(.unauthorized, "this registry is its job's alone")
            if let nonce = head.headers.first(name: JobProof.nonceHeader), JobProof.isNonce(nonce) {
                let proof = job.proof.proof(of: .registry, client: nonce, registry: job.nonce, at: peer.address)
                reply.headers.add(
                    name: "WWW-Authenticate", value: "Trireme nonce=\"\(job.nonce)\", proof=\"\(proof)\"")
            }
            return reply
        }
        var reply = RegistryReply(
            .unauthorized,
            access == .push
                ? "pushing needs the login of whoever serves this registry"
                : "this registry answers its owner, and who has the owner's login")
        reply.headers.add(name: "WWW-Authenticate", value: challenge(head, peer, repository, access))
        return reply
    }

    /// Names the token service by the address that the client itself used.
    private func challenge(
        _ head: HTTPRequestHead, _ peer: Peer, _ repository: String?, _ access: Access
    ) -> String {
        let host = head.headers.first(name: "Host") ?? ""
        let isPlain =
            !host.isEmpty && host.utf8.count < 300
            && host.utf8.allSatisfy { byte in
                switch byte {
                case 48...57, 65...90, 97...122: true
                default: "-._:[]".utf8.contains(byte)
                }
            }
        let place = (isSecure ? "https://" : "http://") + (isPlain ? host : peer.address)
        var text = "Bearer realm=\"\(place)\(RegistryRoute.tokenPath)\",service=\"trireme\""
        if let repository {
            text += ",scope=\"repository:\(repository):\(access == .push ? "pull,push" : "pull")\""
        }
        return text
    }

    /// The token service. Who brings no login gets a token for what it may without.
    func token(_ head: HTTPRequestHead, _ peer: Peer) -> RegistryReply {
        guard let login else { return RegistryReply(.nameUnknown, "no such endpoint") }
        guard head.method == .GET || head.method == .HEAD else {
            return RegistryReply(.unsupported, "tokens are asked for by GET")
        }
        guard let access = access(head, peer), access > .none else {
            var reply = RegistryReply(.unauthorized, "not the login of this registry")
            reply.headers.add(name: "WWW-Authenticate", value: "Basic realm=\"trireme\"")
            return reply
        }
        let token = login.token(head.headers.first(name: "Authorization").map(login.worth) ?? .anonymous)
        let life = PushLogin.lifeSeconds
        return RegistryReply(
            json: Array(#"{"token":"\#(token)","access_token":"\#(token)","expires_in":\#(life)}"#.utf8))
    }
}
