import Foundation
import Synchronization
import TestSupport
import Testing

/// `trireme pull` from registries that behave, and as many processes as like to.
@Suite struct PullTests {
    @Test func pullsOnceAndAgainForNothing() throws {
        let image = try TestImage.make()
        let server = try SocketServer { request, _ in image.reply(request) }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let name = "127.0.0.1:\(server.port)/x:1"
        let first = try sandbox.trireme("pull", name)
        #expect(first.status == 0, "\(first.errorText)")
        #expect(first.lines == ["Pulled image: \(name)"])
        let second = try sandbox.trireme("pull", "-q", "docker://" + name)
        #expect(second.lines == [name])
        for index in 0..<3 { #expect(server.count("GET", image.blobPath(index)) == 1) }
        #expect(try sandbox.images() == [name])
        // Nothing of a transfer stays behind.
        for place in ["tmp", "pulls"] {
            #expect(try FileManager.default.contentsOfDirectory(atPath: sandbox.store + "/" + place) == [])
        }
    }

    @Test func manyProcessesOneDownload() throws {
        let image = try TestImage.make()
        let server = try SocketServer { request, _ in
            var reply = image.reply(request)
            reply.delaySeconds = request.path.contains("/blobs/") ? 0.3 : 0
            return reply
        }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let name = "127.0.0.1:\(server.port)/x:1"
        let other = "127.0.0.1:\(server.port)/x:2"
        // Two nodes' ranks, where there is time for them.
        let count = ProcessInfo.processInfo.environment["TRIREME_TEST_FULL"] == nil ? 12 : 128
        let runs = try sandbox.together(
            Array(repeating: (["pull", "-q", name], [:]), count: count) + [(["pull", "-q", other], [:])])
        for run in runs { #expect(run.status == 0, "\(run.errorText)") }
        #expect(runs.filter { $0.lines == [name] }.count == count)
        for index in 0..<3 { #expect(server.count("GET", image.blobPath(index)) == 1) }
        #expect(try sandbox.images().sorted() == [name, other])
    }

    @Test func byDigest() throws {
        let image = try TestImage.make()
        let server = try SocketServer { request, _ in image.reply(request) }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let pinned = "127.0.0.1:\(server.port)/x@\(image.manifest.digest)"
        #expect(try sandbox.trireme("pull", "-q", pinned).lines == [image.manifest.digest])
        let wrong = "127.0.0.1:\(server.port)/x@sha256:" + String(repeating: "1", count: 64)
        let refused = try sandbox.trireme("pull", wrong)
        #expect(refused.status == 125)
        #expect(refused.errorText.contains("[registry-not-found]"))
    }

    @Test func indexAndPlatforms() throws {
        let image = try TestImage.make()
        let other = try TestImage.make("other", architecture: "riscv64")
        let index = """
            {"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
            {"mediaType":"\(TestImage.manifestType)","digest":"sha256:\(String(repeating: "2", count: 64))","size":7,
             "platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"}},
            {"mediaType":"\(TestImage.manifestType)","digest":"\(other.manifest.digest)","size":\(other.manifest.bytes.count),
             "platform":{"os":"linux","architecture":"riscv64"}},
            {"mediaType":"\(TestImage.manifestType)","digest":"\(image.manifest.digest)","size":\(image.manifest.bytes.count),
             "platform":{"os":"linux","architecture":"\(try hostArchitecture())"}}]}
            """
        let server = try SocketServer { request, _ in
            if request.path == "/v2/x/manifests/all" {
                return .json(index, type: "application/vnd.oci.image.index.v1+json")
            }
            if request.path == "/v2/x/manifests/foreign" {
                return Reply(headers: ["Content-Type": TestImage.manifestType], body: other.manifest.bytes)
            }
            let reply = image.reply(request)
            return reply.status == 404 ? other.reply(request) : reply
        }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let host = "127.0.0.1:\(server.port)"
        #expect(try sandbox.trireme("pull", "-q", "\(host)/x:all").lines == ["\(host)/x:all"])
        #expect(server.count("GET", other.blobPath(0)) == 0)
        let foreign = try sandbox.trireme("pull", "\(host)/x:foreign")
        #expect(foreign.errorText.contains("linux/riscv64"), "\(foreign.errorText)")
        #expect(foreign.errorText.contains("[wrong-architecture]"))
    }

    private func hostArchitecture() throws -> String {
        let name = try runProgram(["uname", "-m"]).lines[0]
        return name == "x86_64" ? "amd64" : name == "aarch64" ? "arm64" : name
    }

    @Test func mirrorsFirstThenTheRegistryItself() throws {
        let image = try TestImage.make()
        let mirror = try SocketServer { request, _ in
            request.path.contains("/manifests/here") || request.path.contains("/blobs/")
                ? image.reply(request) : .notFound
        }
        defer { mirror.stop() }
        let origin = try SocketServer { request, _ in image.reply(request) }
        defer { origin.stop() }
        let sandbox = try Sandbox()
        let host = "127.0.0.1:\(origin.port)"
        let mirrors = ["TRIREME_REGISTRY_MIRRORS": "\(host)=http://127.0.0.1:1,http://127.0.0.1:\(mirror.port)"]
        let first = try sandbox.trireme("pull", "\(host)/x:here", with: mirrors)
        #expect(first.status == 0, "\(first.errorText)")
        #expect(origin.requests.isEmpty)
        let second = try sandbox.trireme("pull", "\(host)/x:gone", with: mirrors)
        #expect(second.status == 0, "\(second.errorText)")
        #expect(origin.count("GET", "/v2/x/manifests/gone") == 1)
    }

    /// A token of one host must not reach the host it redirects to.
    @Test func credentialsStayBehindAtARedirect() throws {
        let image = try TestImage.make()
        let storage = try SocketServer { request, _ in image.reply(request) }
        defer { storage.stop() }
        let storagePort = storage.port
        let server = try SocketServer { request, _ in
            guard request.headers["authorization"] == "Basic \(Data("a:b".utf8).base64EncodedString())" else {
                return Reply(status: 401, headers: ["WWW-Authenticate": "Basic realm=\"r\""])
            }
            guard request.path.contains("/blobs/") else { return image.reply(request) }
            return Reply(status: 307, headers: ["Location": "http://localhost:\(storagePort)\(request.target)"])
        }
        defer { server.stop() }
        let sandbox = try Sandbox()
        try sandbox.logIn("127.0.0.1:\(server.port)", "a", "b")
        let run = try sandbox.trireme("pull", "127.0.0.1:\(server.port)/x")
        #expect(run.status == 0, "\(run.errorText)")
        #expect(storage.requests.count == 3)
        #expect(storage.requests.allSatisfy { $0.headers["authorization"] == nil })
    }

    @Test func runPullsOnlyWhenAsked() throws {
        let image = try TestImage.make()
        let server = try SocketServer { request, _ in image.reply(request) }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let name = "127.0.0.1:\(server.port)/x:1"
        let plain = try sandbox.trireme("run", name)
        #expect(plain.errorText.contains("[image-not-found]"), "\(plain.errorText)")
        #expect(server.requests.isEmpty)
        // The image has no program: what matters is that it came, and once.
        for _ in 0..<2 { _ = try sandbox.trireme("run", "docker://" + name, "/nothing") }
        #expect(try sandbox.images() == [name])
        #expect(server.count("GET", "/v2/x/manifests/1") == 1)
    }
}
