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
            "docker://127.0.0.1:\(source.port)/x:1", "docker://\(registry.host)/team/app:1",
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
