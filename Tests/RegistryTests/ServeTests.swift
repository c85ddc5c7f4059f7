import Foundation
import ImageStore
import OCIModel
import TestSupport
import Testing

/// The workflows of the distribution specification (pull, push, content discovery, content management)
/// on `trireme registry serve`, and stock clients on it.
@Suite struct ServeTests {
    private func digest(_ bytes: [UInt8]) -> String { Digest(sha256: bytes).description }

    private func push(_ blob: TestImage.Blob, to registry: ServedRegistry, _ name: String) throws {
        let start = try registry.send("POST", "/v2/\(name)/blobs/uploads/")
        #expect(start.status == 202)
        let location = try #require(start.headers["location"])
        let put = try registry.send("PUT", "\(location)?digest=\(blob.digest)", body: blob.bytes)
        #expect(put.status == 201)
        #expect(put.headers["location"] == "/v2/\(name)/blobs/\(blob.digest)")
    }

    @Test func pushWorkflow() throws {
        let sandbox = try Sandbox()
        let registry = try ServedRegistry(sandbox)
        let image = try TestImage.make()
        #expect(try registry.send("GET", "/v2/").status == 200)
        #expect(try registry.send("HEAD", "/v2/a/b/blobs/\(image.layers[0].digest)").status == 404)
        // In one piece, with the digest in the first request.
        let single = try registry.send(
            "POST", "/v2/a/b/blobs/uploads/?digest=\(image.configuration.digest)", body: image.configuration.bytes)
        #expect(single.status == 201)
        try push(image.layers[1], to: registry, "a/b")
        // In pieces; one out of order is refused and changes nothing.
        let big = image.layers[0]
        let start = try registry.send("POST", "/v2/a/b/blobs/uploads/")
        let location = try #require(start.headers["location"])
        let first = try registry.send(
            "PATCH", location, headers: ["Content-Range": "0-999"], body: Array(big.bytes[..<1000]))
        #expect(first.status == 202)
        #expect(first.headers["range"] == "0-999")
        let gap = try registry.send(
            "PATCH", location, headers: ["Content-Range": "5000-5999"], body: Array(big.bytes[5000..<6000]))
        #expect(gap.status == 416)
        let state = try registry.send("GET", location)
        #expect(state.status == 204)
        #expect(state.headers["range"] == "0-999")
        let manifestEarly = try registry.send(
            "PUT", "/v2/a/b/manifests/1", headers: ["Content-Type": TestImage.manifestType], body: image.manifest.bytes)
        #expect(manifestEarly.status == 400)
        #expect(String(decoding: manifestEarly.body, as: UTF8.self).contains("MANIFEST_BLOB_UNKNOWN"))
        #expect(
            try registry.send("PUT", "\(location)?digest=\(big.digest)", body: Array(big.bytes[1000...])).status == 201)
        let manifest = try registry.send(
            "PUT", "/v2/a/b/manifests/1", headers: ["Content-Type": TestImage.manifestType], body: image.manifest.bytes)
        #expect(manifest.status == 201, "\(String(decoding: manifest.body, as: UTF8.self))")
        #expect(manifest.headers["docker-content-digest"] == image.manifest.digest)
        // A push is an import: the image is there to run.
        #expect(try sandbox.images() == ["a/b:1"])
        try pullWorkflow(registry, image)
        try discovery(registry, image)
        try management(registry, image)
    }

    private func pullWorkflow(_ registry: ServedRegistry, _ image: TestImage) throws {
        for reference in ["1", image.manifest.digest] {
            let got = try registry.send("GET", "/v2/a/b/manifests/\(reference)")
            #expect(got.status == 200)
            #expect(got.body == image.manifest.bytes)
            #expect(got.headers["content-type"] == TestImage.manifestType)
            #expect(
                try registry.send("HEAD", "/v2/a/b/manifests/\(reference)").headers["docker-content-digest"]
                    == image.manifest.digest)
        }
        #expect(try registry.send("GET", "/v2/a/b/manifests/none").status == 404)
        #expect(try registry.send("GET", "/v2/a/b/manifests/sha256:xyz").status == 404)
        #expect(try registry.send("GET", "/v2/a/b/blobs/sha256:xyz").status == 400)
        #expect(try registry.send("GET", "/v2/A/blobs/\(image.layers[0].digest)").status == 400)
        let path = "/v2/a/b/blobs/\(image.layers[0].digest)"
        let whole = try registry.send("GET", path)
        #expect(whole.status == 200)
        #expect(whole.body == image.layers[0].bytes)
        let part = try registry.send("GET", path, headers: ["Range": "bytes=10-19"])
        #expect(part.status == 206)
        #expect(part.body == Array(image.layers[0].bytes[10..<20]))
        #expect(try registry.send("GET", path, headers: ["Range": "bytes=99999999-"]).status == 416)
    }

    private func discovery(_ registry: ServedRegistry, _ image: TestImage) throws {
        for tag in ["2", "3", "10"] {
            let put = try registry.send(
                "PUT", "/v2/a/b/manifests/\(tag)", headers: ["Content-Type": TestImage.manifestType],
                body: image.manifest.bytes)
            #expect(put.status == 201)
        }
        func tags(_ query: String) throws -> [String] {
            struct Answer: Decodable { var name: String; var tags: [String] }
            let got = try registry.send("GET", "/v2/a/b/tags/list\(query)")
            return try JSONDecoder().decode(Answer.self, from: Data(got.body)).tags
        }
        #expect(try tags("") == ["1", "10", "2", "3"])
        #expect(try tags("?n=2") == ["1", "10"])
        #expect(try tags("?n=2&last=10") == ["2", "3"])
        #expect(try tags("?n=0") == [])
        #expect(try registry.send("GET", "/v2/a/b/tags/list?n=2").headers["link"]?.contains("last=10") == true)
        #expect(try registry.send("GET", "/v2/none/tags/list").status == 404)
        // An artifact that speaks of the image.
        let empty = TestImage.Blob(Array("{}".utf8))
        try push(empty, to: registry, "a/b")
        let artifact = Array(
            """
            {"schemaVersion":2,"mediaType":"\(TestImage.manifestType)","artifactType":"application/x.sig",\
            "config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"\(empty.digest)","size":2},"layers":[],\
            "subject":{"mediaType":"\(TestImage.manifestType)","digest":"\(image.manifest.digest)","size":\(image.manifest.bytes.count)}}
            """.utf8)
        let put = try registry.send(
            "PUT", "/v2/a/b/manifests/\(digest(artifact))", headers: ["Content-Type": TestImage.manifestType],
            body: artifact)
        #expect(put.status == 201)
        #expect(put.headers["oci-subject"] == image.manifest.digest)
        let referrers = try registry.send("GET", "/v2/a/b/referrers/\(image.manifest.digest)")
        #expect(String(decoding: referrers.body, as: UTF8.self).contains(digest(artifact)))
        let filtered = try registry.send("GET", "/v2/a/b/referrers/\(image.manifest.digest)?artifactType=other")
        #expect(filtered.headers["oci-filters-applied"] == "artifactType")
        #expect(!String(decoding: filtered.body, as: UTF8.self).contains(digest(artifact)))
    }

    private func management(_ registry: ServedRegistry, _ image: TestImage) throws {
        let extra = TestImage.Blob(Array("extra".utf8))
        try push(extra, to: registry, "a/b")
        let mount = try registry.send("POST", "/v2/other/blobs/uploads/?mount=\(extra.digest)&from=a/b")
        #expect(mount.status == 201)
        #expect(try registry.send("DELETE", "/v2/a/b/blobs/\(extra.digest)").status == 202)
        #expect(try registry.send("GET", "/v2/a/b/blobs/\(extra.digest)").status == 404)
        let upload = try #require(try registry.send("POST", "/v2/a/b/blobs/uploads/").headers["location"])
        #expect(try registry.send("PUT", "\(upload)?digest=\(extra.digest)", body: [1]).status == 400)
        #expect(try registry.send("PUT", "\(upload)?digest=\(extra.digest)", body: extra.bytes).status == 404)
        #expect(try registry.send("PUT", "/v2/a/b/blobs/uploads/..%2F..%2Fx?digest=\(extra.digest)").status >= 400)
        let wrong = "sha256:" + String(repeating: "4", count: 64)
        let put = try registry.send(
            "PUT", "/v2/a/b/manifests/\(wrong)", headers: ["Content-Type": TestImage.manifestType],
            body: image.manifest.bytes)
        #expect(put.status == 400)
        #expect(try registry.send("DELETE", "/v2/a/b/manifests/\(wrong)").status == 404)
        // Twice over 4 MiB, and nothing but a word is kept of it.
        let huge = try registry.send(
            "PUT", "/v2/a/b/manifests/huge", headers: ["Content-Type": TestImage.manifestType],
            body: [UInt8](repeating: 32, count: 5 << 20))
        #expect(huge.status == 413)
    }

    @Test func readOnlyTakesNothing() throws {
        let sandbox = try Sandbox()
        let registry = try ServedRegistry(sandbox, "--read-only")
        #expect(try registry.send("POST", "/v2/a/blobs/uploads/").status == 403)
        #expect(try registry.send("DELETE", "/v2/a/manifests/x").status == 403)
        #expect(try registry.send("GET", "/v2/").status == 200)
    }

    /// Four clients at once, one download; later, upstream gone, what is here is served on.
    @Test func readsThrough() throws {
        let image = try TestImage.make()
        let upstream = try SocketServer { request, _ in
            var reply = image.reply(request, name: "library/x")
            if request.path.contains("/blobs/"), request.method == "GET" { reply.delaySeconds = 0.3 }
            return reply
        }
        let sandbox = try Sandbox()
        let registry = try ServedRegistry(sandbox, "--upstream", "http://127.0.0.1:\(upstream.port)")
        let clients = try (0..<4).map { _ in try Sandbox() }
        let runs = try sandbox.together(
            clients.map { (["pull", "-q", "\(registry.host)/library/x:1"], ["TRIREME_STORE": $0.store]) })
        for run in runs { #expect(run.status == 0, "\(run.errorText)") }
        for index in 0..<3 { #expect(upstream.count("GET", image.blobPath(index, name: "library/x")) == 1) }
        upstream.stop()
        let late = try Sandbox().trireme("pull", "-q", "\(registry.host)/library/x:1")
        #expect(late.status == 0, "\(late.errorText)")
    }

    /// A push that nobody goes on with does not stay for ever; one of today survives a restart.
    @Test func unfinishedUploads() throws {
        let sandbox = try Sandbox()
        func start(_ registry: ServedRegistry) throws -> String {
            let location = try #require(try registry.send("POST", "/v2/a/blobs/uploads/").headers["location"])
            #expect(try registry.send("PATCH", location, body: [1, 2, 3]).status == 202)
            return location
        }
        let first = try ServedRegistry(sandbox)
        let (old, fresh) = (try start(first), try start(first))
        let uploads = sandbox.store + "/registry/uploads/"
        try runProgram(["touch", "-d", "2 days ago", uploads + (old.split(separator: "/").last ?? "")])
        _ = try start(first)
        #expect(try first.send("GET", old).status == 404)
        let second = try ServedRegistry(sandbox)
        let state = try second.send("GET", fresh)
        #expect(state.status == 204 && state.headers["range"] == "0-2")
        let blob = TestImage.Blob([1, 2, 3, 4])
        #expect(try second.send("PUT", "\(fresh)?digest=\(blob.digest)", body: [4]).status == 201)
        #expect(try second.send("GET", "/v2/a/blobs/\(blob.digest)").body == blob.bytes)
    }

    /// What had come from upstream when it broke off is not asked for again.
    @Test func continuesFromUpstream() throws {
        let image = try TestImage.make()
        let path = image.blobPath(0, name: "library/x")
        let (size, isBroken) = (image.layers[0].bytes.count, Flag())
        let upstream = try SocketServer { request, _ in
            var reply = image.reply(request, name: "library/x")
            if request.path == path, request.method == "GET", !isBroken.isSet {
                reply.resetAfter = request.headers["range"] == nil ? size * 6 / 10 : 0
            }
            return reply
        }
        defer { upstream.stop() }
        let sandbox = try Sandbox()
        let client = try Sandbox()
        let words = ["--upstream", "http://127.0.0.1:\(upstream.port)"]
        let registry = try ServedRegistry(sandbox, words[0], words[1])
        let failed = try client.trireme(
            "pull", "-q", "\(registry.host)/library/x:1", with: ["TRIREME_REGISTRY_ATTEMPTS": "1"])
        #expect(failed.status == 125)
        isBroken.set()
        let later = try client.trireme("pull", "-q", "\(registry.host)/library/x:1")
        #expect(later.status == 0, "\(later.errorText)")
        let asked = upstream.requests.filter { $0.path == path && $0.method == "GET" }
        #expect(asked.filter { $0.headers["range"] == nil }.count == 1, "\(asked.map { $0.headers["range"] ?? "all" })")
    }

    /// podman pulls what trireme has, and what it pushes can be run and pulled again, with the same digest.
    @Test(.enabled(if: isInstalled("podman"), "podman is not installed (make test-full installs it)"))
    func podmanAsClient() throws {
        let sandbox = try Sandbox()
        let registry = try ServedRegistry(sandbox)
        let directory = sandbox.directory.path
        // Storage of its own, without kernel help: what is tested is the transfer.
        func podman(_ words: String...) throws -> ProgramRun {
            try runProgram(
                [
                    "podman", "--root", directory + "/podman", "--runroot", directory + "/run", "--storage-driver",
                    "vfs",
                    "--cgroup-manager", "cgroupfs", "--events-backend", "none",
                ] + words, environment: ["HOME": directory, "XDG_RUNTIME_DIR": directory, "TMPDIR": directory])
        }
        defer { _ = try? runProgram(["podman", "unshare", "rm", "-rf", directory + "/podman"]) }
        let image = try TestImage.make()
        let source = try SocketServer { request, _ in image.reply(request) }
        defer { source.stop() }
        let first = "127.0.0.1:\(source.port)/x:1"
        #expect(try sandbox.trireme("pull", "-q", first).status == 0)
        #expect(try sandbox.trireme("image", "tag", first, "team/app:1").status == 0)
        let pulled = try podman("pull", "-q", "--tls-verify=false", "\(registry.host)/team/app:1")
        #expect(pulled.status == 0, "\(pulled.errorText)")
        let digest = try podman("image", "inspect", "--format", "{{.Digest}}", "\(registry.host)/team/app:1")
        #expect(digest.lines == [image.manifest.digest], "\(digest.errorText)")
        let login = try podman(
            "login", "-u", "trireme", "-p", registry.password, "--tls-verify=false", "--authfile",
            directory + "/auth.json", registry.host)
        #expect(login.status == 0, "\(login.errorText)")
        let pushed = try podman(
            "push", "-q", "--tls-verify=false", "--authfile", directory + "/auth.json", "\(registry.host)/team/app:1",
            "\(registry.host)/team/back:2")
        #expect(pushed.status == 0, "\(pushed.errorText)")
        #expect(try sandbox.images().contains("team/back:2"))
        let again = try Sandbox().trireme("pull", "-q", "\(registry.host)/team/back:2")
        #expect(again.status == 0, "\(again.errorText)")
    }

    @Test func stockClients() throws {
        let sandbox = try Sandbox()
        let registry = try ServedRegistry(sandbox)
        let image = try TestImage.make()
        let source = try SocketServer { request, _ in image.reply(request) }
        defer { source.stop() }
        let outside = try Sandbox()
        let layout = outside.directory.path + "/layout"
        let copied = try runProgram([
            "skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false",
            "--dest-creds", "trireme:\(registry.password)", "docker://127.0.0.1:\(source.port)/x:1",
            "docker://\(registry.host)/team/app:1",
        ])
        #expect(copied.status == 0, "\(copied.errorText)")
        #expect(try sandbox.images() == ["team/app:1"])
        let back = try runProgram([
            "skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false",
            "docker://\(registry.host)/team/app:1", "oci:\(layout):1",
        ])
        #expect(back.status == 0, "\(back.errorText)")
        let index = try String(contentsOfFile: layout + "/index.json", encoding: .utf8)
        #expect(index.contains(image.manifest.digest))
    }
}
