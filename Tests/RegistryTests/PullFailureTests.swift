import Foundation
import Synchronization
import TestSupport
import Testing

/// Registries that break off, stall, lie and refuse.
@Suite struct PullFailureTests {
    private func pull(
        _ image: TestImage, with extra: [String: String?] = [:],
        _ respond: @escaping @Sendable (SeenRequest, Int) -> Reply
    ) throws -> (run: ProgramRun, server: SocketServer, sandbox: Sandbox) {
        let server = try SocketServer(respond)
        let sandbox = try Sandbox()
        let run = try sandbox.trireme("pull", "127.0.0.1:\(server.port)/x", with: extra)
        server.stop()
        return (run, server, sandbox)
    }

    private func expectRefusal(
        _ code: String, _ words: String..., image: TestImage, _ respond: @escaping @Sendable (SeenRequest, Int) -> Reply
    ) throws {
        let (run, _, sandbox) = try pull(image, respond)
        #expect(run.status == 125)
        #expect(run.errorText.contains("[\(code)]"), "\(run.errorText)")
        for word in words { #expect(run.errorText.contains(word), "\(run.errorText)") }
        #expect(try sandbox.images() == [])
    }

    @Test(arguments: [true, false])
    func resetsAreResumed(_ offersRanges: Bool) throws {
        let image = try TestImage.make()
        let path = image.blobPath(0)
        let (run, server, sandbox) = try pull(image) { request, before in
            var request = request
            if !offersRanges { request.headers["range"] = nil }
            var reply = image.reply(request)
            if request.path == path, before < 2 { reply.resetAfter = reply.body.count * 6 / 10 }
            return reply
        }
        #expect(run.status == 0, "\(run.errorText)")
        let asked = server.requests.filter { $0.path == path }
        #expect(asked.count == 3)
        #expect(asked[0].headers["range"] == nil)
        #expect(asked[1].headers["range"]?.hasPrefix("bytes=") == true)
        #expect(try sandbox.images().count == 1)
    }

    @Test func stallsAreResumed() throws {
        let image = try TestImage.make()
        let path = image.blobPath(0)
        let (run, server, _) = try pull(image, with: ["TRIREME_REGISTRY_TIMEOUT": "1"]) { request, before in
            var reply = image.reply(request)
            if request.path == path, before == 0 { reply.stallAfter = reply.body.count / 10 }
            return reply
        }
        #expect(run.status == 0, "\(run.errorText)")
        #expect(server.count("GET", path) == 2)
    }

    @Test func tooManyRequestsAreWaitedOut() throws {
        let image = try TestImage.make()
        let (run, _, _) = try pull(image) { request, before in
            if request.path.hasSuffix("/manifests/latest"), before == 0 {
                return Reply(status: 429, headers: ["Retry-After": "1"])
            }
            if request.path.contains("/blobs/"), before == 0 { return Reply(status: 503) }
            return image.reply(request)
        }
        #expect(run.status == 0, "\(run.errorText)")
        #expect(run.seconds >= 1)
    }

    @Test func brokenForGood() throws {
        let image = try TestImage.make()
        try expectRefusal("registry-busy", "502", "given up after 3 attempts", image: image) { _, _ in
            Reply(status: 502)
        }
        try expectRefusal("registry-busy", "come back in 9999 s", image: image) { _, _ in
            Reply(status: 429, headers: ["Retry-After": "9999"])
        }
        try expectRefusal("registry-unreachable", "layer 1 of 2", image: image) { request, _ in
            var reply = image.reply(request)
            if request.path == image.blobPath(0) { reply.resetAfter = 0 }
            return reply
        }
    }

    @Test func tokensAreRenewedInMidPull() throws {
        let image = try TestImage.make()
        let issued = Mutex(0)
        let port = Mutex(0)
        let server = try SocketServer { request, before in
            if request.path == "/token" {
                let number = issued.withLock {
                    $0 += 1; return $0
                }
                return .json(#"{"token":"t\#(number)","expires_in":300}"#)
            }
            // The first token is good for manifests alone.
            let wanted = request.path.contains("/blobs/") ? ["Bearer t2"] : ["Bearer t1", "Bearer t2"]
            guard wanted.contains(request.headers["authorization"] ?? "") else {
                let realm = "http://127.0.0.1:\(port.withLock { $0 })/token"
                return Reply(
                    status: 401,
                    headers: ["WWW-Authenticate": #"Bearer realm="\#(realm)",service="s",scope="repository:x:pull""#])
            }
            return image.reply(request)
        }
        defer { server.stop() }
        port.withLock { $0 = server.port }
        let sandbox = try Sandbox()
        try sandbox.logIn("127.0.0.1:\(server.port)", "me", "secret")
        let run = try sandbox.trireme("pull", "127.0.0.1:\(server.port)/x")
        #expect(run.status == 0, "\(run.errorText)")
        let tokens = server.requests.filter { $0.path == "/token" }
        #expect(tokens.count == 2)
        #expect(tokens[0].target.contains("scope=repository%3Ax%3Apull"))
        #expect(tokens.allSatisfy { $0.headers["authorization"]?.hasPrefix("Basic ") == true })
    }

    @Test func loginWanted() throws {
        let image = try TestImage.make()
        try expectRefusal("registry-authentication", "trireme login", image: image) { _, _ in
            Reply(status: 401, headers: ["WWW-Authenticate": "Basic realm=\"r\""])
        }
        try expectRefusal("registry-authentication", "negotiate", image: image) { _, _ in
            Reply(status: 401, headers: ["WWW-Authenticate": "Negotiate"])
        }
    }

    @Test func liesAboutContent() throws {
        let image = try TestImage.make()
        // As many bytes, but others.
        try expectRefusal("content-mismatch", "digest", image: image) { request, _ in
            var reply = image.reply(request)
            if request.path == image.blobPath(0) { reply.body[reply.body.count / 2] ^= 1 }
            return reply
        }
        try expectRefusal("content-mismatch", "bytes, the manifest says", image: image) { request, _ in
            var reply = image.reply(request)
            if request.path == image.blobPath(0) { reply.body += [1, 2, 3] }
            return reply
        }
        try expectRefusal("content-mismatch", "more bytes come", image: image) { request, _ in
            var reply = image.reply(request)
            reply.isEndless = request.path == image.blobPath(0)
            return reply
        }
        try expectRefusal("content-mismatch", "configuration", image: image) { request, _ in
            var reply = image.reply(request)
            if request.path == image.blobPath(2) { reply.body[5] ^= 1 }
            return reply
        }
        let other = "sha256:" + String(repeating: "3", count: 64)
        try expectRefusal("content-mismatch", other, image: image) { request, _ in
            var reply = image.reply(request)
            if request.path.contains("/manifests/") { reply.headers["Docker-Content-Digest"] = other }
            return reply
        }
    }

    @Test func answersOfNoRegistry() throws {
        let image = try TestImage.make()
        try expectRefusal("registry-protocol", "text/html", image: image) { _, _ in
            .json("<html>Please log in</html>", type: "text/html")
        }
        try expectRefusal("registry-protocol", "bytes", image: image) { request, _ in
            var reply = Reply.json(String(repeating: " ", count: 65536))
            reply.isEndless = true
            return reply
        }
        try expectRefusal("registry-protocol", "redirects", image: image) { request, _ in
            Reply(status: 302, headers: ["Location": request.target])
        }
        try expectRefusal("registry-protocol", "no address", image: image) { request, _ in
            Reply(status: 302, headers: ["Location": "file:///etc/passwd"])
        }
    }

    @Test func wrongContentTypesAreNotBelieved() throws {
        let image = try TestImage.make()
        let (run, _, _) = try pull(image) { request, _ in
            var reply = image.reply(request)
            reply.headers["Content-Type"] = "text/plain"
            return reply
        }
        #expect(run.status == 0, "\(run.errorText)")
    }

    @Test func nothingToRun() throws {
        let image = try TestImage.make()
        func manifest(_ text: String) -> @Sendable (SeenRequest, Int) -> Reply {
            { request, _ in
                request.path.contains("/manifests/") ? .json(text, type: TestImage.manifestType) : image.reply(request)
            }
        }
        let empty = TestImage.Blob(Array("{}".utf8))
        try expectRefusal(
            "not-an-image", "configuration is empty", image: image,
            manifest(TestImage.text(image.layers, empty, type: "application/vnd.oci.empty.v1+json")))
        try expectRefusal(
            "not-an-image", "application/vnd.cncf.helm.config.v1+json", image: image,
            manifest(TestImage.text(image.layers, empty, type: "application/vnd.cncf.helm.config.v1+json")))
        try expectRefusal(
            "not-an-image", "schema 1", image: image, manifest(#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#))
    }

    /// Killed in the middle, nothing shows, and the next pull starts clean.
    @Test func killedInTheMiddle() throws {
        let image = try TestImage.make()
        let stalls = Mutex(true)
        let half = image.layers[0].bytes.count / 2
        let server = try SocketServer { request, _ in
            var reply = image.reply(request)
            if request.path == image.blobPath(0), stalls.withLock({ $0 }) { reply.stallAfter = half }
            return reply
        }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try Programs.path("trireme-cli"))
        process.arguments = ["pull", "127.0.0.1:\(server.port)/x"]
        process.environment = ProcessInfo.processInfo.environment.merging(
            sandbox.environment.compactMapValues { $0 }
        ) { $1 }
        process.standardError = FileHandle.nullDevice
        try process.run()
        let deadline = Date.now + 60
        func arrived() throws -> Int {
            let list = try runProgram(["sh", "-c", "cat \(sandbox.store)/tmp/*/*/arriving-* 2>/dev/null | wc -c"])
            return Int(list.outputText.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
        }
        while try arrived() < half, Date.now < deadline { usleep(20_000) }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        #expect(try sandbox.images() == [])
        stalls.withLock { $0 = false }
        let again = try sandbox.trireme("pull", "127.0.0.1:\(server.port)/x")
        #expect(again.status == 0, "\(again.errorText)")
        // What had arrived is not asked for again, and is not kept once it is whole.
        let asked = server.requests.filter { $0.path == image.blobPath(0) }
        #expect(asked.map { $0.headers["range"] } == [nil, "bytes=\(half)-"])
        for place in ["tmp", "partials"] {
            #expect(try FileManager.default.contentsOfDirectory(atPath: sandbox.store + "/" + place) == [])
        }
    }

    /// A pull that was given up is continued by the next; what was kept and is wrong is fetched again.
    @Test(arguments: [false, true])
    func givenUpAndContinued(_ isDamaged: Bool) throws {
        let image = try TestImage.make()
        let path = image.blobPath(0)
        let size = image.layers[0].bytes.count
        let isBroken = Mutex(true)
        let server = try SocketServer { request, _ in
            var reply = image.reply(request)
            if request.path == path, isBroken.withLock({ $0 }) {
                reply.resetAfter = request.headers["range"] == nil ? size * 6 / 10 : 0
            }
            return reply
        }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let name = "127.0.0.1:\(server.port)/x"
        let failed = try sandbox.trireme("pull", name)
        #expect(failed.status == 125 && failed.errorText.contains("[registry-unreachable]"), "\(failed.errorText)")
        let kept = "\(sandbox.store)/partials/\(image.layers[0].digest.dropFirst(7))"
        let bytes = try #require(FileManager.default.contents(atPath: kept)).count
        #expect(bytes > size / 2 && bytes < size)
        if isDamaged {
            try runProgram(["sh", "-c", "printf X | dd of=\(kept) bs=1 seek=1000 conv=notrunc status=none"])
        }
        isBroken.withLock { $0 = false }
        let before = server.requests.count
        let again = try sandbox.trireme("pull", name)
        #expect(again.status == 0, "\(again.errorText)")
        let asked = server.requests[before...].filter { $0.path == path }.map { $0.headers["range"] }
        #expect(asked == (isDamaged ? ["bytes=\(bytes)-", nil] : ["bytes=\(bytes)-"]))
        #expect(try FileManager.default.contentsOfDirectory(atPath: sandbox.store + "/partials") == [])
        // Of what nobody comes back for, a week is enough.
        try Data(count: 100_000).write(to: URL(fileURLWithPath: kept))
        try runProgram(["touch", "-d", "8 days ago", kept])
        #expect(try sandbox.trireme("pull", "-q", name).status == 0)
        #expect(!FileManager.default.fileExists(atPath: kept))
    }
}
