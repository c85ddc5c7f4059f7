import Foundation
import OCIModel
import TestSupport
import Testing

/// `require: signed` for images that are in the store.
@Suite struct SignedRunTests {
    let image: TestImage
    let sandbox: Sandbox
    let payload: TestImage.Blob
    let signature: TestImage.Blob
    private var directory: String { sandbox.directory.path }

    init() throws {
        image = try TestImage.make()
        sandbox = try Sandbox()
        (payload, signature) = try PolicyTests.Signer(sandbox.directory.path).sign(image.manifest.digest)
    }

    /// The image under `x`, signed, and under `bare`, not.
    private func serve() throws -> SocketServer {
        let tag = image.manifest.digest.replacing(":", with: "-") + ".sig"
        let (image, payload, signature) = (image, payload, signature)
        return try SocketServer { request, _ in
            if request.path == "/v2/x/manifests/\(tag)" {
                return Reply(headers: ["Content-Type": TestImage.manifestType], body: signature.bytes)
            }
            if request.path.hasSuffix(".sig") { return .notFound }
            if request.path.hasSuffix(payload.digest) { return Reply(body: payload.bytes) }
            return image.reply(request, name: request.path.contains("/bare/") ? "bare" : "x")
        }
    }

    private func policy(_ prefix: String, _ key: String) throws -> [String: String?] {
        let path = "\(directory)/policy-\(key).json"
        let text = #"{"version":1,"registries":[{"prefix":"\#(prefix)","require":"signed","keys":["\#(key)"]}]}"#
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return ["TRIREME_POLICY": path]
    }

    /// Through the launcher. The image has no program: 127 is as far as a run comes that was let in.
    private func run(_ name: String, _ extra: [String: String?] = [:]) throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme"), "run", name, "/none"], environment: sandbox.environment.merging(extra) { $1 }
        )
    }

    private func expectRefused(_ run: ProgramRun, _ line: Int = #line) {
        #expect(run.status == 125 && run.errorText.contains("[image-unsigned]"), "\(line): \(run.errorText)")
    }

    @Test func aNameIsRunWithItsSignatureOnly() throws {
        let server = try serve()
        let host = "127.0.0.1:\(server.port)"
        let (right, wrong) = (try policy(host, "ec.pub"), try policy(host, "other.pub"))
        // Pulled before there was a policy.
        for name in ["x", "bare"] { #expect(try sandbox.trireme("pull", "-q", "\(host)/\(name):1").status == 0) }
        #expect(try run("\(host)/x:1").status == 127)
        let late = try run("\(host)/x:1", right)
        expectRefused(late)
        #expect(late.errorText.contains("trireme pull \(host)/x:1"), "\(late.errorText)")
        // Only what was typed as remote goes to the registry.
        let asked = server.requests.count
        expectRefused(try run("\(host)/bare:1", right))
        #expect(server.requests.count == asked)
        expectRefused(try run("docker://\(host)/bare:1", right))
        #expect(try run("docker://\(host)/x:1", right).status == 127)
        server.stop()
        // From now on the store has the signature, and it is for this content, whatever that is called.
        #expect(try run("\(host)/x:1", right).status == 127)
        #expect(try run("\(host)/bare:1", right).status == 127)
        #expect(try run("docker://\(host)/x:1", right).status == 127)
        #expect(try run(image.manifest.digest, right).status == 127)
        // Other keys, another day.
        expectRefused(try run("\(host)/x:1", wrong))
        // Asked for as remote, it is looked for there once more, and there is nobody any more.
        #expect(try run("docker://\(host)/x:1", wrong).errorText.contains("[registry-unreachable]"))
        let job = try sandbox.trireme("run", "-n", "1", "\(host)/x:1", "/none", with: wrong)
        expectRefused(job)
        // A name of one's own.
        #expect(try sandbox.trireme("image", "tag", "\(host)/x:1", "localhost/mine:1").status == 0)
        #expect(try run("localhost/mine:1", wrong).status == 127)
        // A signature that was tampered with.
        let kept = "\(sandbox.store)/images/\(image.manifest.digest.dropFirst(7))/signatures.json"
        #expect(FileManager.default.fileExists(atPath: kept))
        #expect(try sandbox.trireme("image", "verify", "\(host)/x:1").status == 0)
        try runProgram([
            "sed", "-i", "s/\"digest\":\"sha256:./\"digest\":\"sha256:0/;s/\"payload\":\"e/\"payload\":\"f/", kept,
        ])
        expectRefused(try run("\(host)/x:1", right))
    }

    /// What `cosign save` writes, and the same without signatures.
    @Test func archivesBringTheirSignatures() throws {
        let host = "registry.example:5000"
        let right = try policy(host, "ec.pub")
        func layout(_ name: String, signed: Bool) throws {
            let place = "\(directory)/\(name)/blobs/sha256"
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
            for blob in image.blobs + [image.manifest] + (signed ? [signature, payload] : []) {
                try Data(blob.bytes).write(to: URL(fileURLWithPath: "\(place)/\(blob.digest.dropFirst(7))"))
            }
            func entry(_ blob: TestImage.Blob, _ kind: String) -> String {
                """
                {"mediaType":"\(TestImage.manifestType)","digest":"\(blob.digest)","size":\(blob.bytes.count),\
                "annotations":{"kind":"dev.cosignproject.cosign/\(kind)"\
                \(kind == "image" ? ",\"org.opencontainers.image.ref.name\":\"\(host)/lab/\(name):1\"" : "")}}
                """
            }
            let entries = [entry(image.manifest, "image")] + (signed ? [entry(signature, "sigs")] : [])
            try #"{"schemaVersion":2,"manifests":[\#(entries.joined(separator: ","))]}"#
                .write(toFile: "\(directory)/\(name)/index.json", atomically: true, encoding: .utf8)
            try #"{"imageLayoutVersion":"1.0.0"}"#
                .write(toFile: "\(directory)/\(name)/oci-layout", atomically: true, encoding: .utf8)
        }
        try layout("plain", signed: false)
        try layout("saved", signed: true)
        let plain = try sandbox.trireme("load", "-i", "\(directory)/plain", with: right)
        // Loaded all the same, and said.
        #expect(plain.status == 0 && plain.errorText.contains("wants \(host)/lab/plain:1 signed"), "\(plain.errorText)")
        expectRefused(try run("\(host)/lab/plain:1", right))
        // A file that is named is what was meant.
        #expect(try run("\(directory)/plain", right).status == 127)
        let saved = try sandbox.trireme("load", "-i", "\(directory)/saved", with: right)
        #expect(saved.status == 0 && !saved.errorText.contains("signed"), "\(saved.errorText)")
        #expect(try run("\(host)/lab/saved:1", right).status == 127)
    }

    /// The site's own policy is looked at by the launcher, which reads no JSON.
    @Test func theSitesPolicy() throws {
        let host = "registry.example:5000"
        let name = "\(host)/lab/x:1"
        let server = try serve()
        defer { server.stop() }
        #expect(try sandbox.trireme("pull", "-q", "127.0.0.1:\(server.port)/x:1").status == 0)
        #expect(try sandbox.trireme("image", "tag", "127.0.0.1:\(server.port)/x:1", name).status == 0)
        func run(_ text: String) throws -> ProgramRun {
            try text.write(toFile: directory + "/site.json", atomically: true, encoding: .utf8)
            return try runProgram(
                [
                    "unshare", "-rm", "sh", "-ec",
                    """
                    mount -t tmpfs t /mnt; cp /etc/passwd /etc/group /etc/nsswitch.conf /mnt; mkdir /mnt/trireme
                    cp '\(directory)/site.json' /mnt/trireme/policy.json; cp '\(directory)/ec.pub' /mnt/trireme
                    mount -n --move /mnt /etc; exec "$0" run '\(name)' /none
                    """, try Programs.path("trireme"),
                ], environment: sandbox.environment)
        }
        func rule(_ prefix: String) -> String {
            #"{"version":1,"registries":[{"prefix":"\#(prefix)","require":"signed","keys":["ec.pub"]}]}"#
        }
        expectRefused(try run(rule(host)))
        expectRefused(try run(rule(host + "/lab").replacing("lab", with: #"l\u0061b"#)))
        expectRefused(try run(rule(host).replacing("registry", with: #"r\u0065gistry"#)))
        for other in ["docker.io", host + "/la", host + "/lab/y"] {
            let run = try run(rule(other))
            #expect(run.status == 127, "\(other): \(run.errorText)")
        }
        #expect(try run(#"{"version":1,"registries":[{"prefix":"\#(host)","allow":false}]}"#).status == 127)
    }
}
