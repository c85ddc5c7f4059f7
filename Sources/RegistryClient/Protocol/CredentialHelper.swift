import FoundationEssentials
import Glibc
import LinuxSystem
import Processes

/// A program `docker-credential-<name>`, which keeps logins (docker-credential-helpers, "Development").
struct CredentialHelper {
    let name: String
    private var program: String { "docker-credential-" + name }

    private struct Answer: Decodable {
        var user: String?
        var secret: String?
        enum CodingKeys: String, CodingKey {
            case user = "Username"
            case secret = "Secret"
        }
    }

    /// Nil when the helper knows no login for `server`.
    func get(_ server: String) throws(RegistryFault) -> Credential? {
        let result = try run("get", server)
        guard result.status == 0 else {
            if result.output.contains("credentials not found") { return nil }
            throw failure("get", result)
        }
        guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(result.output.utf8)),
            let secret = answer.secret
        else { throw RegistryFault(.credentials, ["\(program) get printed no login"]) }
        guard !secret.isEmpty else { return nil }
        // The protocol's mark for a token in place of a password.
        return answer.user == "<token>" ? .identityToken(secret) : .password(user: answer.user ?? "", secret)
    }

    func store(_ server: String, user: String, password: String) throws(RegistryFault) {
        let login = ["ServerURL": server, "Username": user, "Secret": password]
        guard let data = try? JSONEncoder().encode(login) else {
            throw RegistryFault(.credentials, ["the login cannot be encoded"])
        }
        let result = try run("store", String(decoding: data, as: UTF8.self))
        guard result.status == 0 else { throw failure("store", result) }
    }

    func erase(_ server: String) throws(RegistryFault) {
        let result = try run("erase", server)
        guard result.status == 0 else { throw failure("erase", result) }
    }

    private func failure(_ verb: String, _ result: (status: Int32, output: String)) -> RegistryFault {
        let said =
            result.output.split(separator: "\n").first.map { RegistryFault.printable(String($0)) } ?? "no message"
        return RegistryFault(.credentials, ["\(program) \(verb) failed: \(said)"])
    }

    /// One that asks for a key's passphrase may take its user's time.
    private static let limit = CommandOutput.Limit(milliseconds: 120_000, bytes: 1 << 20)

    private func run(_ verb: String, _ input: String) throws(RegistryFault) -> (status: Int32, output: String) {
        // The name is a part of a program's, never a path.
        guard name.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "/") }) else {
            throw RegistryFault(.credentials, ["'\(RegistryFault.printable(name))' is no name of a credential helper"])
        }
        do throws(SyscallError) {
            let said = try CommandOutput.of([program, verb], input: input, limit: CredentialHelper.limit)
            return (said.status, String(decoding: said.bytes, as: UTF8.self))
        } catch {
            throw RegistryFault(
                .credentials, [error.sentence],
                remedies: [
                    "install \(program), or take it out of 'credHelpers' and 'credsStore' in docker's config.json"
                ])
        }
    }
}
