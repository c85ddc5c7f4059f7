import Foundation
import TestSupport
import Testing

/// Against Debian's docker-registry, with TLS of a private authority and logins.
@Suite struct DockerRegistryTests {
    /// The server, ended with its owner.
    final class Server: Sendable {
        let port: Int
        let directory: TemporaryDirectory
        private let process: Process
        var host: String { "127.0.0.1:\(port)" }
        var authority: String { directory.path + "/ca.crt" }

        init() throws {
            directory = try TemporaryDirectory()
            let path = directory.path
            let certificate = try runProgram([
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", path + "/key.pem",
                "-out", path + "/ca.crt", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
            ])
            let logins = try runProgram(["htpasswd", "-Bbc", "-C", "5", path + "/logins", "alice", "s3cret"])
            try #require(certificate.status == 0 && logins.status == 0)
            // A port that was free a moment ago.
            let probe = try SocketServer { _, _ in .notFound }
            port = probe.port
            probe.stop()
            let configuration = """
                version: 0.1
                storage: { filesystem: { rootdirectory: \(path)/data } }
                http: { addr: "127.0.0.1:\(port)", tls: { certificate: \(path)/ca.crt, key: \(path)/key.pem } }
                auth: { htpasswd: { realm: test, path: \(path)/logins } }
                """
            try configuration.write(toFile: path + "/config.yml", atomically: true, encoding: .utf8)
            process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/docker-registry")
            process.arguments = ["serve", path + "/config.yml"]
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
            let deadline = Date.now + 60
            while Date.now < deadline {
                if (try? HTTPMessage.exchange(port, "GET", "/")) != nil { return }
                usleep(50_000)
            }
            throw POSIXError(.ETIMEDOUT)
        }

        deinit {
            // SIGTERM may be blocked: a test's threads block it, and children inherit that.
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
    }

    @Test func loginPushPullLogout() throws {
        let server = try Server()
        let sandbox = try Sandbox()
        let image = try TestImage.make()
        let source = try SocketServer { request, _ in image.reply(request) }
        defer { source.stop() }
        let local = "127.0.0.1:\(source.port)/x:1"
        #expect(try sandbox.trireme("pull", local).status == 0)
        let trusted = ["--cacert", server.authority]
        let remote = server.host + "/team/app:1"

        let untrusted = try sandbox.trireme("push", local, remote)
        #expect(untrusted.errorText.contains("[registry-untrusted]"), "\(untrusted.errorText)")
        let anonymous = try sandbox.trireme("push", local, remote, trusted[0], trusted[1])
        #expect(anonymous.errorText.contains("trireme login \(server.host)"), "\(anonymous.errorText)")
        func login(_ password: String) throws -> ProgramRun {
            try sandbox.trireme(
                "login", server.host, "-u", "alice", "--password-stdin", trusted[0], trusted[1], input: password + "\n")
        }
        #expect(try login("wrong").errorText.contains("[registry-authentication]"))
        #expect(!FileManager.default.fileExists(atPath: sandbox.dockerConfiguration))
        #expect(try login("s3cret").status == 0)
        let mode = try FileManager.default.attributesOfItem(atPath: sandbox.dockerConfiguration)[.posixPermissions]
        #expect(mode as? Int == 0o600)

        let pushed = try sandbox.trireme("push", "-q", local, remote, trusted[0], trusted[1])
        #expect(pushed.lines == [image.manifest.digest], "\(pushed.errorText)")
        // docker's own client reads the same login and finds the same digest.
        let seen = try runProgram([
            "skopeo", "inspect", "--tls-verify=false", "--authfile", sandbox.dockerConfiguration, "--raw",
            "docker://" + remote,
        ])
        #expect(Array(seen.output) == image.manifest.bytes, "\(seen.errorText)")
        // Into another repository of the same registry: nothing is sent twice.
        #expect(try sandbox.trireme("pull", "-q", remote, trusted[0], trusted[1]).lines == [remote])
        let again = try sandbox.trireme("push", remote, server.host + "/other/app:2", trusted[0], trusted[1])
        #expect(again.status == 0, "\(again.errorText)")

        let fresh = try Sandbox()
        try fresh.logIn(server.host, "alice", "s3cret")
        let pulled = try fresh.trireme("pull", "-q", server.host + "/other/app:2", trusted[0], trusted[1])
        #expect(pulled.status == 0, "\(pulled.errorText)")
        #expect(try sandbox.trireme("logout", server.host).lines == ["Logged out of \(server.host)"])
        let out = try sandbox.trireme("pull", server.host + "/other/app:3", trusted[0], trusted[1])
        #expect(out.errorText.contains("[registry-authentication]"), "\(out.errorText)")
    }

    @Test func credentialHelpers() throws {
        let server = try Server()
        let sandbox = try Sandbox()
        let directory = sandbox.directory.path
        let helper = """
            #!/bin/sh
            read -r host
            [ "$1" = get ] && echo "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"alice\\",\\"Secret\\":\\"s3cret\\"}"
            """
        try FileManager.default.createDirectory(atPath: directory + "/docker", withIntermediateDirectories: true)
        try helper.write(toFile: directory + "/docker-credential-test", atomically: true, encoding: .utf8)
        try runProgram(["chmod", "+x", directory + "/docker-credential-test"])
        func configure(_ text: String) throws {
            try text.write(toFile: sandbox.dockerConfiguration, atomically: true, encoding: .utf8)
        }
        let path = ["PATH": directory + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin")]
        func pull() throws -> String {
            try sandbox.trireme("pull", server.host + "/none:1", "--cacert", server.authority, with: path).errorText
        }
        for text in [#"{"credsStore":"test"}"#, #"{"credHelpers":{"\#(server.host)":"test"}}"#] {
            try configure(text)
            // Let in, and told that there is nothing.
            #expect(try pull().contains("[registry-not-found]"))
        }
        try configure(#"{"credHelpers":{"elsewhere.example":"test"}}"#)
        #expect(try pull().contains("[registry-authentication]"))
        try configure(#"{"credsStore":"missing"}"#)
        #expect(try pull().contains("docker-credential-missing"))
        try configure("{not json")
        #expect(try pull().contains("config.json is not valid JSON"))
    }

    /// podman keeps its logins elsewhere, and for parts of a registry.
    @Test func podmansLogins() throws {
        let server = try Server()
        let sandbox = try Sandbox()
        let runtime = sandbox.directory.path + "/runtime"
        try FileManager.default.createDirectory(
            atPath: runtime + "/containers", withIntermediateDirectories: true)
        func entry(_ login: String) -> String { #"{"auth":"\#(Data(login.utf8).base64EncodedString())"}"# }
        let text = """
            {"auths":{"\(server.host)":\(entry("bob:wrong")),"\(server.host)/team":\(entry("alice:s3cret")),\
            "\(server.host)/team/x":\(entry("eve:x"))}}
            """
        try text.write(toFile: runtime + "/containers/auth.json", atomically: true, encoding: .utf8)
        func pull(_ name: String, _ extra: [String: String?]) throws -> String {
            try sandbox.trireme("pull", "\(server.host)/\(name):1", "--cacert", server.authority, with: extra).errorText
        }
        for extra in [["XDG_RUNTIME_DIR": runtime], ["REGISTRY_AUTH_FILE": runtime + "/containers/auth.json"]] {
            #expect(try pull("team/none", extra).contains("[registry-not-found]"))
            #expect(try pull("teams/none", extra).contains("[registry-authentication]"))
            #expect(try pull("team/x", extra).contains("[registry-authentication]"))
        }
        // docker's own login goes first.
        try sandbox.logIn(server.host, "alice", "s3cret")
        #expect(try pull("teams/none", ["XDG_RUNTIME_DIR": runtime]).contains("[registry-not-found]"))
    }
}
