import Crypto

/// How the registries of one job, and who reads from them, prove to each other that they know its secret, without
/// saying it: a challenge each way, answered by HMAC-SHA256 (RFC 2104), as the job's agents do.
///
///     GET /v2/   Trireme-Nonce: a
///     401        WWW-Authenticate: Trireme nonce="b", proof="HMAC(registry · a · b · HOST:PORT)"
///     GET …      Authorization: Trireme a:HMAC(client · a · b · HOST:PORT)
///
/// `b` is the registry's for as long as it runs. The address is the one that the client dialled and the registry was
/// reached at: who stands between them under an address of his own has no use for what he hears.
struct JobProof: Sendable {
    static let scheme = "trireme"
    static let nonceHeader = "Trireme-Nonce"
    private static let nonceBytes = 32

    enum Side: String { case registry, client }

    private let secret: SymmetricKey

    init(secret: String) { self.secret = SymmetricKey(data: Array(secret.utf8)) }

    static func nonce() -> String {
        var generator = SystemRandomNumberGenerator()
        return hexadecimal((0..<nonceBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
    }

    /// Whether a text is as long as a nonce and of its digits.
    static func isNonce(_ text: some StringProtocol) -> Bool {
        text.utf8.count == 2 * nonceBytes && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    }

    func proof(of side: Side, client: String, registry: String, at address: String) -> String {
        JobProof.hexadecimal(code("\(side.rawValue)\n\(client)\n\(registry)\n\(address)"))
    }

    /// How far a guess is right does not show in the time this takes.
    func isProof(
        _ text: some StringProtocol, of side: Side, client: String, registry: String, at address: String
    ) -> Bool {
        JobProof.isEqual(text, proof(of: side, client: client, registry: registry, at: address))
    }

    static func isEqual(_ given: some StringProtocol, _ wanted: String) -> Bool {
        let (given, wanted) = (Array(given.utf8), Array(wanted.utf8))
        return given.count == wanted.count && zip(given, wanted).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }

    func code(_ text: String) -> some Sequence<UInt8> {
        HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: secret)
    }

    static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
