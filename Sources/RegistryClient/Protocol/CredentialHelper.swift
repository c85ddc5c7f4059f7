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

    private enum Limit {
        /// One that asks for a key's passphrase may take its user's time.
        static let milliseconds: Int64 = 120_000
        static let outputBytes = 1 << 20
    }

    private func run(_ verb: String, _ input: String) throws(RegistryFault) -> (status: Int32, output: String) {
        // The name is a part of a program's, never a path.
        guard name.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "/") }) else {
            throw RegistryFault(.credentials, ["'\(RegistryFault.printable(name))' is no name of a credential helper"])
        }
        do throws(SyscallError) {
            var pipe = try OwnedDescriptor.pipe()
            let child = try start(verb, input, output: pipe.write.raw)
            pipe.write = OwnedDescriptor(owning: -1)
            let output = CredentialHelper.drain(pipe.read)
            if output == nil { kill(child, SIGKILL) }
            var status: Int32 = 0
            _ = try checked("waitpid") { waitpid(child, &status, 0) }
            guard let output else {
                throw SyscallError("read", program, errno: ETIMEDOUT)
            }
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

    /// What it reads lies in a file: one that ends without reading breaks no pipe of ours.
    private func start(_ verb: String, _ input: String, output: Int32) throws(SyscallError) -> pid_t {
        let file = OwnedDescriptor(owning: try checked("memfd_create") { linux_memfd_create("input", 1) })
        try file.writeAll(input)
        lseek(file.raw, 0, SEEK_SET)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, file.raw, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        var words: [UnsafeMutablePointer<CChar>?] = [strdup(program), strdup(verb), nil]
        defer { words.forEach { free($0) } }
        var child: pid_t = 0
        let result = posix_spawnp(&child, program, &actions, nil, &words, linux_environ())
        guard result == 0 else { throw SyscallError("posix_spawn", program, errno: result) }
        return child
    }

    /// nil when its end does not come in time, or it says too much.
    private static func drain(_ pipe: borrowing OwnedDescriptor) -> [UInt8]? {
        let deadline = MonotonicTime.now() + Int(Limit.milliseconds)
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while bytes.count <= Limit.outputBytes {
            var polled = pollfd(fd: pipe.raw, events: Int16(POLLIN), revents: 0)
            let left = deadline - MonotonicTime.now()
            guard left > 0 else { return nil }
            guard poll(&polled, 1, Int32(left)) > 0 else { continue }
            let n = Glibc.read(pipe.raw, &chunk, chunk.count)
            if n < 0, errno == EINTR { continue }
            guard n > 0 else { return bytes }
            bytes += chunk[..<n]
        }
        return nil
    }
}
