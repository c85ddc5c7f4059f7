import Foundation
import OCIModel
import TestSupport
import Testing

/// Who may do what at `trireme registry serve`.
@Suite struct AdmissionTests {
    /// Programs run with another uid as the kernel sees it: one of this account's subordinate ids.
    static let hasOtherUser: Bool = {
        let id = String(getuid())
        let lines = ((try? String(contentsOfFile: "/etc/subuid", encoding: .utf8)) ?? "").split(separator: "\n")
        let hasRange = lines.contains { $0.hasPrefix(NSUserName() + ":") || $0.hasPrefix(id + ":") }
        return hasRange && isInstalled("newuidmap") && isInstalled("setpriv") && isInstalled("unshare")
    }()

    private func asOther(_ registry: ServedRegistry, _ request: String) throws -> ProgramRun {
        let script = "exec 3<>/dev/tcp/127.0.0.1/\(registry.port); printf '\(request)' >&3; cat <&3"
        return try runProgram([
            "unshare", "--user", "--map-root-user", "--map-auto", "setpriv", "--reuid=1", "--regid=1", "--clear-groups",
            "bash", "-c", script,
        ])
    }

    @Test(.enabled(if: hasOtherUser, "this account has no subordinate ids"))
    func otherUsersAreNotAnswered() throws {
        let registry = try ServedRegistry(try Sandbox())
        for (target, method) in [
            ("/v2/", "GET"), ("/v2/_catalog", "GET"), ("/token", "GET"), ("/v2/a/blobs/uploads/", "POST"),
        ] {
            let run = try asOther(
                registry,
                "\(method) \(target) HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
            #expect(run.outputText.hasPrefix("HTTP/1.1 401 "), "\(target): \(run.outputText) \(run.errorText)")
        }
        #expect(try registry.send("GET", "/v2/_catalog", isLoggedIn: false).status == 200)
        // Silent ones take the owner's place for seconds only, whatever the limit for him is.
        let silent = try asOther(registry, "")
        #expect(silent.status == 0 && silent.outputText.isEmpty && silent.seconds < 30, "\(silent)")
        // Who was given the login is let in whoever he is.
        let login = ServedRegistry.basic("any", try registry.password)
        let run = try asOther(
            registry,
            "GET /v2/_catalog HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: \(login)\\r\\nConnection: close\\r\\n\\r\\n")
        #expect(run.outputText.hasPrefix("HTTP/1.1 200 "), "\(run.outputText)")
        let open = try ServedRegistry(try Sandbox(), "--public")
        let answered = try asOther(
            open, "GET /v2/_catalog HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        #expect(answered.outputText.hasPrefix("HTTP/1.1 200 "), "\(answered.outputText)")
        let push = try asOther(
            open,
            "POST /v2/a/blobs/uploads/ HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        #expect(push.outputText.hasPrefix("HTTP/1.1 401 "), "\(push.outputText)")
    }

    @Test func pushingNeedsTheLogin() throws {
        let sandbox = try Sandbox()
        let registry = try ServedRegistry(sandbox)
        let blob = TestImage.Blob(Array("content".utf8))
        let start = try registry.send("POST", "/v2/a/blobs/uploads/")
        let location = try #require(start.headers["location"])
        let requests = [
            ("POST", "/v2/a/blobs/uploads/"), ("POST", "/v2/a/blobs/uploads/?digest=\(blob.digest)"),
            ("PATCH", location), ("PUT", "\(location)?digest=\(blob.digest)"), ("GET", location), ("DELETE", location),
            ("PUT", "/v2/a/manifests/1"), ("DELETE", "/v2/a/manifests/1"), ("DELETE", "/v2/a/blobs/\(blob.digest)"),
        ]
        let wrong = [
            nil, ServedRegistry.basic("trireme", "wrong"), "Bearer anonymous", "Bearer 99999999999.00", "Bearer ",
            "Basic",
            "Bearer 9223372036854775808.x",
        ]
        for (method, target) in requests {
            for header in wrong {
                let reply = try registry.send(
                    method, target, headers: header.map { ["Authorization": $0] } ?? [:], body: blob.bytes,
                    isLoggedIn: false)
                #expect(reply.status == 401, "\(method) \(target) \(header ?? "")")
                #expect(reply.headers["www-authenticate"]?.hasPrefix("Bearer realm=\"http://127.0.0.1") == true)
            }
        }
        #expect(try registry.send("GET", location).headers["range"] == "0-0")
        #expect(try registry.send("HEAD", "/v2/a/blobs/\(blob.digest)").status == 404)
    }

    /// What docker, podman and containerd do: ask, exchange the login for a token, push with that.
    @Test func tokenService() throws {
        let registry = try ServedRegistry(try Sandbox())
        struct Answer: Decodable { var token: String }
        func token(_ authorization: String?) throws -> (status: Int, token: String) {
            let reply = try registry.send(
                "GET", "/token?service=trireme&scope=repository:a:pull,push",
                headers: authorization.map { ["Authorization": $0] } ?? [:], isLoggedIn: false)
            return (reply.status, (try? JSONDecoder().decode(Answer.self, from: Data(reply.body)))?.token ?? "")
        }
        func push(_ token: String) throws -> Int {
            let headers = ["Authorization": "Bearer \(token)"]
            let reply = try registry.send("POST", "/v2/a/blobs/uploads/", headers: headers, isLoggedIn: false)
            return reply.status
        }
        let asked = try registry.send("GET", "/v2/", isLoggedIn: false)
        #expect(asked.status == 401 && asked.headers["www-authenticate"]?.contains("/token\"") == true)
        #expect(try token(ServedRegistry.basic("trireme", "wrong")).status == 401)
        let own = try token(ServedRegistry.basic("trireme", registry.password))
        #expect(own.status == 200)
        #expect(try push(own.token) == 202)
        let password = try registry.password
        #expect(!own.token.contains(password))
        let none = try token(nil)
        #expect(none.status == 200)
        #expect(try push(none.token) == 401)
        // A token for reading is not exchanged for a better one.
        let again = try token("Bearer \(none.token)")
        #expect(try push(again.token) == 401)
        let catalog = try registry.send(
            "GET", "/v2/_catalog", headers: ["Authorization": "Bearer \(none.token)"], isLoggedIn: false)
        #expect(catalog.status == 200)
    }

    @Test func loginAndPush() throws {
        let registry = try ServedRegistry(try Sandbox())
        let image = try TestImage.make()
        let source = try SocketServer { request, _ in image.reply(request) }
        defer { source.stop() }
        let sandbox = try Sandbox()
        let local = "127.0.0.1:\(source.port)/x:1"
        #expect(try sandbox.trireme("pull", "-q", local).status == 0)
        let refused = try sandbox.trireme("push", local, "\(registry.host)/y:1")
        #expect(refused.errorText.contains("trireme login \(registry.host)"), "\(refused.errorText)")
        let wrong = try sandbox.trireme("login", registry.host, "-u", "trireme", "--password-stdin", input: "no\n")
        #expect(wrong.status != 0 && wrong.errorText.contains("[registry-authentication]"), "\(wrong.errorText)")
        let login = try sandbox.trireme(
            "login", registry.host, "-u", "trireme", "--password-stdin", input: registry.password + "\n")
        #expect(login.status == 0, "\(login.errorText)")
        let pushed = try sandbox.trireme("push", local, "\(registry.host)/y:1")
        #expect(pushed.status == 0, "\(pushed.errorText)")
        // A registry that takes no pushes has no login to offer, and none is hinted at.
        let closed = try ServedRegistry(try Sandbox(), "--read-only")
        let denied = try sandbox.trireme("push", local, "\(closed.host)/y:1")
        #expect(denied.status == 125 && denied.errorText.contains("takes no pushes"), "\(denied.errorText)")
        #expect(!denied.errorText.contains("trireme login"), "\(denied.errorText)")
    }

    @Test func passwordIsSaidOnceAndKeptPrivate() throws {
        let sandbox = try Sandbox()
        func said() throws -> String {
            let run = try runProgram(
                [
                    "timeout", "-s", "TERM", "3", try Programs.path("trireme-cli"), "registry", "serve", "--address",
                    "127.0.0.1:0",
                ], environment: sandbox.environment)
            return run.outputText
        }
        let first = try said()
        let file = sandbox.store + "/registry/token"
        let password = try String(contentsOfFile: file, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        #expect(password.count >= 32 && first.contains(password), "\(first)")
        let second = try said()
        #expect(!second.contains(password) && second.contains(file), "\(second)")
        #expect(try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int == 0o600)
    }
}
