import Foundation
import ImageStore
import OCIModel
import TestSupport
import Testing

/// What a site's policy lets through, who must have signed, `image sync`, and files from elsewhere.
@Suite struct PolicyTests {
    private func write(_ text: String, _ sandbox: Sandbox, _ name: String = "policy.json") throws -> String {
        let path = sandbox.directory.path + "/" + name
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return path
    }

    @Test func blockedAndAllowed() throws {
        let image = try TestImage.make()
        let server = try SocketServer { request, _ in
            image.reply(request, name: request.path.contains("/lab/") ? "lab/x" : "x")
        }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let host = "127.0.0.1:\(server.port)"
        let policy = try write(
            """
            {"version":1,"default":"block","registries":[
              {"prefix":"docker.io","allow":false,"reason":"use \(host)/lab"},
              {"prefix":"\(host)"}, {"prefix":"\(host)/x","allow":false}]}
            """, sandbox)
        func pull(_ name: String) throws -> ProgramRun {
            try sandbox.trireme("pull", "-q", name, with: ["TRIREME_POLICY": policy])
        }
        let hub = try pull("debian")
        #expect(hub.status == 125)
        #expect(hub.errorText.contains("[registry-blocked]") && hub.errorText.contains("use \(host)/lab"))
        #expect(hub.errorText.contains(policy))
        // The longest prefix decides; a component is whole.
        #expect(try pull("\(host)/x:1").errorText.contains("[registry-blocked]"))
        let allowed = try pull("\(host)/lab/x:1")
        #expect(allowed.status == 0, "\(allowed.errorText)")
        #expect(try pull("ghcr.io/a/b").errorText.contains("no rule allows it"))
        let push = try sandbox.trireme(
            "push", "\(host)/lab/x:1", "ghcr.io/a/b", with: ["TRIREME_POLICY": policy])
        #expect(push.errorText.contains("[registry-blocked]"))
        #expect(server.requests.allSatisfy { !$0.path.hasPrefix("/v2/x/") })
        // What cannot be understood allows nothing.
        for text in [
            "{", #"{"version":2,"registries":[]}"#, #"{"version":1,"registries":[{"prefix":"*","allow":true}]}"#,
            #"{"version":1,"registries":[{"prefix":"a","alow":false}]}"#,
            #"{"version":1,"registries":[{"prefix":"a","require":"signed"}]}"#,
        ] {
            let broken = try write(text, sandbox, "broken.json")
            let run = try sandbox.trireme("pull", "\(host)/lab/x:1", with: ["TRIREME_POLICY": broken])
            #expect(run.status == 125 && run.errorText.contains("[policy-invalid]"), "\(text): \(run.errorText)")
        }
    }

    /// Keys made by openssl, and a signature of `digest` as cosign writes it: the payload and a manifest.
    struct Signer {
        let directory: String
        @discardableResult
        func shell(_ line: String, input: Data = Data()) throws -> ProgramRun {
            try runProgram(["sh", "-ec", line], directory: directory, input: input)
        }
        init(_ directory: String) throws {
            self.directory = directory
            try shell(
                """
                openssl ecparam -name prime256v1 -genkey -noout -out ec.key; openssl pkey -in ec.key -pubout -out ec.pub
                openssl ecparam -name prime256v1 -genkey -noout | openssl pkey -pubout -out other.pub
                openssl genpkey -algorithm ed25519 -out ed.key; openssl pkey -in ed.key -pubout -out ed.pub
                """)
        }
        func sign(_ digest: String) throws -> (payload: TestImage.Blob, manifest: TestImage.Blob) {
            let payload = TestImage.Blob(
                Array(
                    """
                    {"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"\(digest)"},\
                    "type":"cosign container image signature"},"optional":null}
                    """.utf8))
            let signature = try shell("openssl dgst -sha256 -sign ec.key | base64 -w0", input: Data(payload.bytes))
            let manifest = TestImage.Blob(
                Array(
                    """
                    {"schemaVersion":2,"mediaType":"\(TestImage.manifestType)",\
                    "config":{"mediaType":"\(MediaType.configuration)","digest":"\(payload.digest)","size":2},\
                    "layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json",\
                    "digest":"\(payload.digest)","size":\(payload.bytes.count),\
                    "annotations":{"dev.cosignproject.cosign/signature":"\(signature.outputText)"}}]}
                    """.utf8))
            return (payload, manifest)
        }
    }

    @Test func signedOrRefused() throws {
        let image = try TestImage.make()
        let sandbox = try Sandbox()
        let signer = try Signer(sandbox.directory.path)
        let (payload, signature) = try signer.sign(image.manifest.digest)
        let tag = image.manifest.digest.replacing(":", with: "-") + ".sig"
        let server = try SocketServer { request, _ in
            let name = request.path.contains("/referred/") ? "referred" : request.path.contains("/bare/") ? "bare" : "x"
            if request.path == "/v2/x/manifests/\(tag)" || request.path == "/v2/referred/manifests/\(signature.digest)"
            {
                return Reply(headers: ["Content-Type": TestImage.manifestType], body: signature.bytes)
            }
            if request.path.hasSuffix(".sig") { return .notFound }
            if request.path == "/v2/referred/referrers/\(image.manifest.digest)" {
                return .json(
                    """
                    {"schemaVersion":2,"mediaType":"\(MediaType.index)","manifests":[\
                    {"mediaType":"\(TestImage.manifestType)","digest":"\(signature.digest)","size":\(signature.bytes.count)}]}
                    """, type: MediaType.index)
            }
            if request.path.hasSuffix(payload.digest) { return Reply(body: payload.bytes) }
            return image.reply(request, name: name)
        }
        defer { server.stop() }
        let host = "127.0.0.1:\(server.port)"
        func policy(_ key: String) throws -> String {
            try write(
                #"{"version":1,"registries":[{"prefix":"\#(host)","require":"signed","keys":["\#(key)"]}]}"#, sandbox)
        }
        func pull(_ name: String, key: String) throws -> ProgramRun {
            try sandbox.trireme("pull", "-q", "\(host)/\(name)", with: ["TRIREME_POLICY": try policy(key)])
        }
        for (name, key) in [("x:1", "other.pub"), ("bare:1", "ec.pub"), ("x:1", "ed.pub")] {
            let run = try pull(name, key: key)
            #expect(run.status == 125 && run.errorText.contains("[image-unsigned]"), "\(name): \(run.errorText)")
            // Nothing of an image that is not signed is fetched.
            #expect(server.requests.allSatisfy { !$0.path.hasSuffix(image.layers[0].digest) })
        }
        #expect(try sandbox.images() == [])
        for name in ["x:1", "referred:1"] {
            let run = try pull(name, key: "ec.pub")
            #expect(run.status == 0, "\(run.errorText)")
        }
        // Of an image in the store, asked where its name says it is from.
        let key = sandbox.directory.path + "/ec.pub"
        let verified = try sandbox.trireme("image", "verify", "--key", key, "\(host)/x:1")
        #expect(verified.status == 0 && verified.outputText.contains("is signed"), "\(verified.errorText)")
        let elsewhere = try sandbox.trireme(
            "image", "verify", "--key", key, "--signatures", "docker://\(host)/bare", "\(host)/x:1")
        #expect(elsewhere.status == 125 && elsewhere.errorText.contains("[image-unsigned]"))
    }

    @Test func syncBringsNewDigests() throws {
        let images = [try TestImage.make("one"), try TestImage.make("two")]
        let isNew = Flag()
        let server = try SocketServer { request, _ in
            if request.path == "/v2/x/tags/list" {
                // Two pages.
                if request.target.contains("last=") { return .json(#"{"name":"x","tags":["2.0"]}"#) }
                var reply = Reply.json(#"{"name":"x","tags":["1.0","edge"]}"#)
                reply.headers["Link"] = #"</v2/x/tags/list?n=2&last=edge>; rel="next""#
                return reply
            }
            return images[isNew.isSet ? 1 : 0].reply(request)
        }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let name = "127.0.0.1:\(server.port)/x"
        let file = try write(
            #"{"version":1,"images":[{"name":"\#(name):edge"},{"name":"\#(name)","tags":["[0-9]*"],"old":"remove"}]}"#,
            sandbox, "sync.json")
        func sync(_ options: String...) throws -> [String] {
            let run = try runProgram(
                [
                    try Programs.path("trireme-cli"), "image", "sync", "--policy", file, "--format",
                    "{{.Name}} {{.State}}",
                ]
                    + options, environment: sandbox.environment)
            #expect(run.status == 0, "\(run.errorText)")
            return run.lines
        }
        #expect(try sync("--dry-run") == ["\(name):edge new", "\(name):1.0 new", "\(name):2.0 new"])
        #expect(try sandbox.images() == [])
        #expect(try sync() == ["\(name):edge new", "\(name):1.0 new", "\(name):2.0 new"])
        #expect(try sync("-q") == [])
        isNew.set()
        // The old one goes with the last of its names.
        #expect(
            try sync("-q") == [
                "\(name):edge updated", "\(name):1.0 updated", "\(name):2.0 updated",
                "\(images[0].manifest.digest) removed",
            ])
        #expect(try sandbox.images().sorted() == ["\(name):1.0", "\(name):2.0", "\(name):edge"])
        server.stop()
        let failed = try sandbox.trireme("image", "sync", "--policy", file, with: ["TRIREME_REGISTRY_ATTEMPTS": "1"])
        #expect(failed.status == 1 && failed.outputText.contains("failed"))
        #expect(failed.errorText.contains("[registry-unreachable]"))
        let wrong = try sandbox.trireme("image", "sync", "--policy", try write("[]", sandbox, "wrong.json"))
        #expect(wrong.status == 125 && wrong.errorText.contains("[sync-invalid]"))
    }

    private func bytes(_ sandbox: Sandbox, _ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: sandbox.directory.path + "/" + name)))
    }

    /// A server of files below `/f/`, some of them signed, and of one artifact.
    private func files(_ sandbox: Sandbox) throws -> (server: SocketServer, file: TestImage.Blob, archive: [UInt8]) {
        let signer = try Signer(sandbox.directory.path)
        // A file like a SIF's payload as far as its first bytes: a squashfs of a root.
        try signer.shell(
            """
            mkdir -p root/bin; cp /bin/true root/bin/true; mksquashfs root x.sqfs -quiet -no-progress >/dev/null
            openssl pkeyutl -sign -rawin -inkey ed.key -in x.sqfs -out ed.sig
            openssl dgst -sha256 -sign ec.key x.sqfs | base64 > ec.sig
            tar -C root -cf root.tar .; umoci init --layout oci; umoci new --image oci:i; umoci raw add-layer --image oci:i root.tar
            skopeo copy -q oci:oci:i oci-archive:image.tar:a:1
            """)
        let file = TestImage.Blob(try bytes(sandbox, "x.sqfs"))
        let archive = try bytes(sandbox, "image.tar")
        let signatures = [
            "/f/ed.sqfs.sig": try bytes(sandbox, "ed.sig"), "/f/ec.sqfs.sig": try bytes(sandbox, "ec.sig"),
        ]
        let empty = TestImage.Blob(Array("{}".utf8))
        let artifact = TestImage.Blob(
            Array(
                TestImage.text([file], empty, type: "application/vnd.sylabs.sif.config.v1+json")
                    .replacing(
                        "application/vnd.oci.image.layer.v1.tar+gzip", with: "application/vnd.sylabs.sif.layer.v1.sif"
                    )
                    .utf8))
        let server = try SocketServer { request, before in
            if request.path.contains("/manifests/") {
                return Reply(headers: ["Content-Type": TestImage.manifestType], body: artifact.bytes)
            }
            if let signature = signatures[request.path] { return Reply(body: signature) }
            if request.path.hasSuffix(".sig") { return .notFound }
            var body = file.bytes
            if request.path.hasSuffix(".tar") { body = archive }
            guard request.path.hasPrefix("/f/") || request.path.hasSuffix(file.digest) else { return .notFound }
            var reply = Reply(body: body)
            if let range = request.headers["range"] {
                let ends = range.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
                let (first, last) = (Int(ends[0])!, Int(ends[1]) ?? body.count - 1)
                reply = Reply(
                    status: 206, headers: ["Content-Range": "bytes \(first)-\(last)/\(body.count)"],
                    body: Array(body[first...last]))
            }
            if request.path.hasSuffix("cut.sqfs"), before == 1 { reply.resetAfter = reply.body.count / 2 }
            return reply
        }
        return (server, file, archive)
    }

    @Test func filesFromElsewhere() throws {
        let sandbox = try Sandbox()
        let directory = sandbox.directory.path
        let (server, file, archive) = try files(sandbox)
        defer { server.stop() }
        let host = "127.0.0.1:\(server.port)"
        func pull(_ words: String...) throws -> ProgramRun {
            try runProgram(
                [try Programs.path("trireme-cli"), "pull"] + words, environment: sandbox.environment,
                directory: directory)
        }
        let artifactRun = try pull("-q", "oras://\(host)/lab/tool:2")
        #expect(artifactRun.lines == ["./tool_2.sif"], "\(artifactRun.errorText)")
        #expect(try bytes(sandbox, "tool_2.sif") == file.bytes)
        #expect(try pull("oras://\(host)/lab/tool:2", "-o", "tool_2.sif").errorText.contains("it exists"))
        // A reset in the middle is continued; the digest is taken over the whole.
        let pinned = try pull("-q", "http://\(host)/f/cut.sqfs#sha256=\(file.digest.dropFirst(7))")
        #expect(pinned.lines == ["./cut.sqfs"], "\(pinned.errorText)")
        #expect(try bytes(sandbox, "cut.sqfs") == file.bytes)
        #expect(server.requests.filter { $0.path == "/f/cut.sqfs" }.count == 3)
        for (name, key) in [("ed", "ed.pub"), ("ec", "ec.pub")] {
            let run = try pull("-q", "http://\(host)/f/\(name).sqfs", "--key", key)
            #expect(run.lines == ["./\(name).sqfs"], "\(run.errorText)")
        }
        for (words, code) in [
            (["http://\(host)/f/a.sqfs"], "file-unverified"),
            (["http://\(host)/f/a.sqfs", "--key", "ec.pub"], "image-unsigned"),
            (["http://\(host)/f/ec.sqfs", "-o", "n", "--key", "other.pub"], "content-mismatch"),
            (["http://\(host)/f/a.sqfs#sha256=\(String(repeating: "1", count: 64))"], "content-mismatch"),
            (["oras://\(host)/lab/tool:2", "--key", "ec.pub"], "usage"),
        ] {
            let run = try runProgram(
                [try Programs.path("trireme-cli"), "pull"] + words, environment: sandbox.environment,
                directory: directory)
            #expect(run.status == 125 && run.errorText.contains("[\(code)]"), "\(words): \(run.errorText)")
        }
        let loaded = try pull("http://\(host)/f/image.tar#sha256=\(Digest(sha256: archive).hex)")
        #expect(loaded.lines == ["Pulled image: a:1"], "\(loaded.errorText)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: sandbox.store + "/partials") == [])
    }
}

/// Set once, read by a server's threads.
final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var value = false
    var isSet: Bool { lock.withLock { value } }
    func set() { lock.withLock { value = true } }
}
