import Foundation
import Synchronization
import TestSupport
import Testing

/// Logins: where they are looked for, when that matters, and where they never go.
@Suite struct LoginTests {
    /// A registry whose tokens are given to anybody, or only to who logs in as `user`.
    private func registry(_ image: TestImage, user: String? = nil) throws -> SocketServer {
        let port = Mutex(0)
        let server = try SocketServer { request, _ in
            if request.path == "/token" {
                let wanted = user.map { ServedRegistry.basic($0, "secret") }
                guard wanted == nil || request.headers["authorization"] == wanted else { return Reply(status: 401) }
                return .json(#"{"token":"t"}"#)
            }
            guard request.headers["authorization"] == "Bearer t" else {
                let realm = "http://127.0.0.1:\(port.withLock { $0 })/token"
                return Reply(status: 401, headers: ["WWW-Authenticate": #"Bearer realm="\#(realm)",service="s""#])
            }
            return image.reply(request)
        }
        port.withLock { $0 = server.port }
        return server
    }

    private func write(_ text: String, to path: String, mode: Int = 0o644) throws {
        let files = FileManager.default
        try files.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        try files.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    }

    private static let helpers: [(name: String, script: String?, said: String)] = [
        ("desktop", nil, "docker-credential-desktop"),
        ("fails", "#!/bin/sh\necho 'no keyring here'; exit 1\n", "no keyring here"),
        ("mute", "#!/bin/sh\nexit 3\n", "docker-credential-mute get failed"),
        ("rubbish", "#!/bin/sh\necho 'Segmentation fault'\n", "docker-credential-rubbish get printed no login"),
        ("killed", "#!/bin/sh\nkill -9 $$\n", "docker-credential-killed get failed"),
        ("noisy", "#!/bin/sh\nexec yes\n", "docker-credential-noisy"),
        ("not-a-program", "\u{0}\u{1}", "docker-credential-not-a-program"),
        ("../../bin/sh", nil, "is no name of a credential helper"),
    ]

    /// A helper that is not there or does not work is no matter where no login is needed, and named where one is.
    @Test(arguments: 0..<8) func brokenHelpers(_ number: Int) throws {
        let helper = Self.helpers[number]
        let image = try TestImage.make()
        let (open, closed) = (try registry(image), try registry(image, user: "me"))
        defer {
            open.stop()
            closed.stop()
        }
        let sandbox = try Sandbox()
        let programs = sandbox.directory.path + "/bin"
        if let script = helper.script {
            try write(script, to: "\(programs)/docker-credential-\(helper.name)", mode: 0o755)
        }
        let path = ["PATH": programs + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin")]
        for text in [
            "{\"auths\":{},\"credsStore\":\"\(helper.name)\"}",
            "{\"credHelpers\":{\"127.0.0.1:\(open.port)\":\"\(helper.name)\",\"127.0.0.1:\(closed.port)\":\"\(helper.name)\"}}",
        ] {
            try write(text, to: sandbox.dockerConfiguration)
            let run = try sandbox.trireme("pull", "-q", "127.0.0.1:\(open.port)/x:1", with: path)
            #expect(run.status == 0, "\(text): \(run.errorText)")
            let refused = try sandbox.trireme("pull", "-q", "127.0.0.1:\(closed.port)/x:1", with: path)
            #expect(refused.status == 125 && refused.errorText.contains("[registry-authentication]"))
            #expect(refused.errorText.contains(helper.said), "\(refused.errorText)")
        }
        // An entry of the same file is good beside a helper that is not.
        let entry = Data("me:secret".utf8).base64EncodedString()
        try write(
            "{\"credsStore\":\"\(helper.name)\",\"auths\":{\"127.0.0.1:\(closed.port)\":{\"auth\":\"\(entry)\"}}}",
            to: sandbox.dockerConfiguration)
        let run = try sandbox.trireme("pull", "-q", "127.0.0.1:\(closed.port)/x:1", with: path)
        #expect(run.status == 0, "\(run.errorText)")
    }

    /// Files of logins that cannot be read, are no JSON, or are another user's.
    @Test func unusableFiles() throws {
        let image = try TestImage.make()
        let (open, closed) = (try registry(image), try registry(image, user: "me"))
        defer {
            open.stop()
            closed.stop()
        }
        let sandbox = try Sandbox()
        let runtime = sandbox.directory.path + "/runtime"
        try write("{}", to: runtime + "/containers/auth.json")
        let files = FileManager.default
        try files.setAttributes([.posixPermissions: 0], ofItemAtPath: runtime)
        defer { try? files.setAttributes([.posixPermissions: 0o700], ofItemAtPath: runtime) }
        try write("{not json", to: sandbox.directory.path + "/auth.json")
        let cases: [(extra: [String: String?], said: String)] = [
            (["XDG_RUNTIME_DIR": runtime], runtime),
            (["XDG_RUNTIME_DIR": "/root"], "containers/auth.json: permission denied"),
            (["REGISTRY_AUTH_FILE": sandbox.directory.path + "/auth.json"], "is not valid JSON"),
            (["REGISTRY_AUTH_FILE": "/"], "is a directory"), (["DOCKER_CONFIG": runtime], runtime),
        ]
        for (extra, said) in cases {
            let run = try sandbox.trireme("pull", "-q", "127.0.0.1:\(open.port)/x:1", with: extra)
            #expect(run.status == 0, "\(extra): \(run.errorText)")
            let refused = try sandbox.trireme("pull", "-q", "127.0.0.1:\(closed.port)/x:1", with: extra)
            #expect(refused.status == 125 && refused.errorText.contains("[registry-authentication]"))
            #expect(refused.errorText.contains(said), "\(refused.errorText)")
        }
    }

    @Test("Logins in DOCKER_AUTH_CONFIG count before the files'; a helper named there is not run")
    func loginsInAVariable() throws {
        let image = try TestImage.make()
        let closed = try registry(image, user: "me")
        defer { closed.stop() }
        let sandbox = try Sandbox()
        func entry(_ login: String) -> String {
            #"{"auths":{"127.0.0.1:\#(closed.port)":{"auth":"\#(Data(login.utf8).base64EncodedString())"}},"credsStore":"x"}"#
        }
        func pull(_ text: String) throws -> ProgramRun {
            try sandbox.trireme("pull", "-q", "127.0.0.1:\(closed.port)/x:1", with: ["DOCKER_AUTH_CONFIG": text])
        }
        let run = try pull(entry("me:secret"))
        #expect(run.status == 0 && run.errorText.isEmpty, "\(run.errorText)")
        try write(
            entry("me:secret").replacingOccurrences(of: ",\"credsStore\":\"x\"", with: ""),
            to: sandbox.dockerConfiguration)
        #expect(try pull(entry("me:wrong")).errorText.contains("[registry-authentication]"))
        #expect(try pull("{}").status == 0, "what it does not name is the file's")
        #expect(try pull("{not json").status == 0)
        try FileManager.default.removeItem(atPath: sandbox.dockerConfiguration)
        #expect(try pull("{not json").errorText.contains("DOCKER_AUTH_CONFIG is not valid JSON"))
    }

    /// Neither in a header, nor in a body, nor in an address does a login go where it was not sent.
    @Test(arguments: [301, 302, 303, 307, 308]) func loginsFollowNoRedirect(_ status: Int) throws {
        let stranger = try SocketServer { _, _ in .json(#"{"token":"t"}"#) }
        defer { stranger.stop() }
        let strangerPort = stranger.port
        let port = Mutex(0)
        let server = try SocketServer { request, _ in
            if request.path == "/token" {
                return Reply(status: status, headers: ["Location": "http://localhost:\(strangerPort)\(request.target)"])
            }
            let realm = "http://127.0.0.1:\(port.withLock { $0 })/token"
            return Reply(status: 401, headers: ["WWW-Authenticate": #"Bearer realm="\#(realm)",service="s""#])
        }
        defer { server.stop() }
        port.withLock { $0 = server.port }
        let sandbox = try Sandbox()
        let host = "127.0.0.1:\(server.port)"
        for entry in [
            #"{"identitytoken":"refresh-me"}"#, #"{"auth":"\#(Data("me:secret".utf8).base64EncodedString())"}"#,
        ] {
            try write(#"{"auths":{"\#(host)":\#(entry)}}"#, to: sandbox.dockerConfiguration)
            let run = try sandbox.trireme("pull", "-q", host + "/x:1")
            #expect(run.status == 125 && run.errorText.contains("[registry-untrusted]"), "\(run.errorText)")
            #expect(run.errorText.contains("redirects a login"), "\(run.errorText)")
        }
        #expect(stranger.requests.isEmpty)
    }
}
