import Crypto
import Foundation
import Synchronization

/// The job's side of `JobProof`, written anew: what a registry that stands for the leader answers.
final class JobSecret: Sendable {
    static let text = String(repeating: "ab", count: 32)
    private static let nonce = String(repeating: "c", count: 64)
    private let portOfServer = Mutex(0)

    /// Of the server that answers so.
    var port: Int {
        get { portOfServer.withLock { $0 } }
        set { portOfServer.withLock { $0 = newValue } }
    }

    static func proof(_ side: String, _ client: String, _ registry: String, _ address: String) -> String {
        let text = [side, client, registry, address].joined(separator: "\n")
        let code = HMAC<SHA256>.authenticationCode(
            for: Data(text.utf8), using: SymmetricKey(data: Data(Self.text.utf8)))
        return code.map { String(format: "%02x", $0) }.joined()
    }

    /// nil for who has proved himself.
    func refusal(_ request: SeenRequest) -> Reply? {
        let address = "127.0.0.1:\(port)"
        if let given = request.headers["authorization"] {
            let parts = given.dropFirst("Trireme ".count).split(separator: ":").map(String.init)
            if parts.count == 2, parts[1] == Self.proof("client", parts[0], Self.nonce, address) { return nil }
            return Reply(status: 401)
        }
        guard let nonce = request.headers["trireme-nonce"] else { return Reply(status: 401) }
        let proof = Self.proof("registry", nonce, Self.nonce, address)
        return Reply(
            status: 401, headers: ["WWW-Authenticate": "Trireme nonce=\"\(Self.nonce)\", proof=\"\(proof)\""])
    }
}
