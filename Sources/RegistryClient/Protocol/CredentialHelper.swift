import CLinux
import FoundationEssentials
import Glibc
import LinuxSystem

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
            let secret = answer.secret, !secret.isEmpty
        else { return nil }
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
        let said = result.output.split(separator: "\n").first.map(String.init) ?? "no message"
        return RegistryFault(.credentials, ["\(program) \(verb) failed: \(said)"])
    }

    private func run(_ verb: String, _ input: String) throws(RegistryFault) -> (status: Int32, output: String) {
        do throws(SyscallError) {
            var toChild = try OwnedDescriptor.pipe()
            let fromChild = try OwnedDescriptor.pipe()
            var actions = posix_spawn_file_actions_t()
            posix_spawn_file_actions_init(&actions)
            defer { posix_spawn_file_actions_destroy(&actions) }
            posix_spawn_file_actions_adddup2(&actions, toChild.read.raw, 0)
            posix_spawn_file_actions_adddup2(&actions, fromChild.write.raw, 1)
            var words: [UnsafeMutablePointer<CChar>?] = [strdup(program), strdup(verb), nil]
            defer { words.forEach { free($0) } }
            var child: pid_t = 0
            let result = posix_spawnp(&child, program, &actions, nil, &words, linux_environ())
            guard result == 0 else { throw SyscallError("posix_spawn", program, errno: result) }
            toChild.read = OwnedDescriptor(owning: -1)
            // What is written fits a pipe's buffer (4 KiB at the least), so nothing waits for a reader.
            try? toChild.write.writeAll(input)
            toChild.write = OwnedDescriptor(owning: -1)
            let output = try CredentialHelper.drain(fromChild)
            var status: Int32 = 0
            _ = try checked("waitpid") { waitpid(child, &status, 0) }
            let code = status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
            return (code, String(decoding: output, as: UTF8.self))
        } catch {
            throw RegistryFault(
                .credentials, [error.sentence],
                remedies: [
                    "install \(program), or take it out of 'credHelpers' and 'credsStore' in docker's config.json"
                ])
        }
    }

    private static func drain(_ pipe: consuming OwnedDescriptor.Pipe) throws(SyscallError) -> [UInt8] {
        pipe.write = OwnedDescriptor(owning: -1)
        return try pipe.read.readAll(limit: 1 << 20)
    }
}
