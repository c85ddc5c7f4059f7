/// What the handshake takes of swift-crypto, in its place: what is fuzzed is the reading of frames, and BoringSSL's
/// arithmetic is not ours and would be built for minutes.
public struct SymmetricKey: Sendable {
    fileprivate let bytes: [UInt8]
    public init(data: [UInt8]) { bytes = data }
}

public enum SHA256 {}

/// 32 bytes that depend on all of key and message; no more is claimed.
public enum HMAC<Hash> {
    public static func authenticationCode(for message: [UInt8], using key: SymmetricKey) -> [UInt8] {
        var words: [UInt64] = [
            0x243F_6A88_85A3_08D3, 0x1319_8A2E_0370_7344, 0xA409_3822_299F_31D0, 0x082E_FA98_EC4E_6C89,
        ]
        for (index, byte) in (key.bytes + message + key.bytes).enumerated() {
            let place = index & 3
            words[place] = (words[place] ^ UInt64(byte) ^ words[(place + 3) & 3] >> 29) &* 0x9E37_79B9_7F4A_7C15
        }
        for place in 0..<8 {
            words[place & 3] = (words[place & 3] ^ words[(place + 1) & 3] >> 31) &* 0xBF58_476D_1CE4_E5B9
        }
        return words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (UInt64($0) * 8)) } }
    }

    public static func isValidAuthenticationCode(
        _ code: [UInt8], authenticating message: [UInt8], using key: SymmetricKey
    ) -> Bool { code == authenticationCode(for: message, using: key) }
}

public enum Curve25519 {
    public enum Signing {
        public struct PrivateKey: Sendable {
            public init() {}
            public var publicKey: PublicKey { PublicKey() }
            public func signature(for statement: [UInt8]) throws -> [UInt8] { [UInt8](repeating: 0, count: 64) }
        }
        public struct PublicKey: Sendable {
            public let rawRepresentation: [UInt8]
            fileprivate init() { rawRepresentation = [UInt8](repeating: 0, count: 32) }
            public init(rawRepresentation: [UInt8]) throws { self.rawRepresentation = rawRepresentation }
            public func isValidSignature(_ signature: [UInt8], for statement: [UInt8]) -> Bool { false }
        }
    }
}
