import FoundationEssentials
import Glibc
import LinuxSystem

/// The login that a served registry asks of who pushes: any user's name, with a word that is drawn once, kept in a file
/// of its owner's alone, and exchanged for a token that lasts some minutes (distribution token specification).
struct PushLogin: Sendable {
    /// The user that messages name; others are as good.
    static let user = "trireme"
    static let fileName = "token"
    /// Seconds a token lasts.
    static let lifeSeconds = 900
    private static let wordBytes = 24
    private static let anonymous = "anonymous"

    let word: String
    /// It was drawn now.
    let isNew: Bool

    init(_ directory: PrivateDirectory) throws(SyscallError) {
        if let bytes = try? directory.read(PushLogin.fileName, limit: 1024),
            case let text = String(decoding: bytes, as: UTF8.self).filter({ !$0.isWhitespace }), text.utf8.count >= 32
        {
            (word, isNew) = (text, false)
            return
        }
        // What is there is no word of ours.
        directory.remove(PushLogin.fileName)
        var generator = SystemRandomNumberGenerator()
        let drawn = JobProof.hexadecimal(
            (0..<PushLogin.wordBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
        try directory.write(Array((drawn + "\n").utf8), to: PushLogin.fileName)
        (word, isNew) = (drawn, true)
    }

    /// What a request's `Authorization` is worth.
    enum Worth: Equatable { case nothing, anonymous, push }

    func worth(of authorization: String) -> Worth {
        let parts = authorization.split(separator: " ", maxSplits: 1)
        guard parts.count == 2 else { return .nothing }
        switch parts[0].lowercased() {
        case "basic":
            guard let data = Data(base64Encoded: String(parts[1])),
                case let text = String(decoding: data, as: UTF8.self), let colon = text.firstIndex(of: ":"),
                JobProof.isEqual(text[text.index(after: colon)...], word)
            else { return .nothing }
            return .push
        case "bearer":
            if parts[1] == PushLogin.anonymous { return .anonymous }
            let halves = parts[1].split(separator: ".", maxSplits: 1).map(String.init)
            guard halves.count == 2, let end = Int64(halves[0]), end > Int64(time(nil)),
                JobProof.isEqual(halves[1], signature(halves[0]))
            else { return .nothing }
            return .push
        default: return .nothing
        }
    }

    /// A token for who is worth `worth`.
    func token(_ worth: Worth) -> String {
        guard worth == .push else { return PushLogin.anonymous }
        let end = String(Int64(time(nil)) + Int64(PushLogin.lifeSeconds))
        return "\(end).\(signature(end))"
    }

    private func signature(_ end: String) -> String {
        JobProof.hexadecimal(JobProof(secret: word).code("push\n" + end))
    }
}
