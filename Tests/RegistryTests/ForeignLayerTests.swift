import Foundation
import OCIModel
import TestSupport
import Testing

/// Layers that may not be handed on: fetched from where the manifest says, left there by a push.
@Suite struct ForeignLayerTests {
    static let types = [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ]

    /// `image` with its first layer kept elsewhere, at `addresses`.
    private func foreign(_ image: TestImage, _ type: String, at addresses: [String]) -> TestImage {
        let plain = "application/vnd.oci.image.layer.v1.tar+gzip"
        var text = TestImage.text(image.layers, image.configuration)
        let first = text.range(of: plain)!
        let list = addresses.map { "\"\($0)\"" }.joined(separator: ",")
        text.replaceSubrange(first, with: type + "\",\"urls\":[\(list)],\"annotations\":{\"x\":\"y\"},\"t\":\"")
        var image = image
        image.manifest = TestImage.Blob(Array(text.utf8))
        return image
    }

    @Test(arguments: types)
    func fromItsAddressAndNotPushed(_ type: String) throws {
        let plain = try TestImage.make()
        let path = plain.blobPath(0)
        // The second of its addresses has it, and breaks off once.
        let elsewhere = try SocketServer { request, before in
            guard request.path == "/files/layer" else { return .notFound }
            var body = plain.layers[0].bytes
            var reply = Reply(body: body)
            if let start = request.headers["range"].flatMap({ Int($0.dropFirst(6).dropLast()) }) {
                let size = body.count
                body = Array(body[start...])
                reply = Reply(
                    status: 206, headers: ["Content-Range": "bytes \(start)-\(size - 1)/\(size)"], body: body)
            }
            if before == 0 { reply.resetAfter = body.count / 2 }
            return reply
        }
        defer { elsewhere.stop() }
        let other = "http://127.0.0.1:\(elsewhere.port)"
        let image = foreign(plain, type, at: ["ftp://127.0.0.1/layer", other + "/gone", other + "/files/layer"])
        let server = try SocketServer { request, _ in
            guard request.headers["authorization"] != nil else {
                return Reply(status: 401, headers: ["WWW-Authenticate": "Basic realm=\"r\""])
            }
            return request.path == path ? .notFound : image.reply(request)
        }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let host = "127.0.0.1:\(server.port)"
        try sandbox.logIn(host, "a", "b")
        // Nor does a login for that host go there: a manifest named it, not the user.
        let run = try sandbox.trireme("pull", "-q", "\(host)/x:1")
        #expect(run.status == 0, "\(run.errorText)")
        #expect(elsewhere.requests.map(\.path) == ["/gone", "/files/layer", "/files/layer"])
        #expect(elsewhere.requests.allSatisfy { $0.headers["authorization"] == nil })
        #expect(elsewhere.requests.last?.headers["range"] != nil)

        // Pushed elsewhere, the layer stays where it is and the manifest what it was.
        let elsewhereStore = try Sandbox()
        let target = try ServedRegistry(elsewhereStore)
        try sandbox.logIn(target.host, "trireme", target.password)
        let pushed = try sandbox.trireme("push", "\(host)/x:1", "\(target.host)/y:1")
        #expect(pushed.status == 0, "\(pushed.errorText)")
        #expect(pushed.lines == ["Pushed image: \(target.host)/y:1 \(image.manifest.digest)"])
        #expect(pushed.errorText.contains("stay where they are: 1"), "\(pushed.errorText)")
        #expect(try target.send("HEAD", "/v2/y/blobs/\(image.layers[0].digest)").status == 404)
        #expect(try target.send("GET", "/v2/y/manifests/1").body == image.manifest.bytes)
        // Who has it from there gets the layer from its own place.
        let far = try Sandbox()
        let pulled = try far.trireme("pull", "-q", "\(target.host)/y:1")
        #expect(pulled.status == 0, "\(pulled.errorText)")
    }

    @Test func theRegistrysOwnCopyFirst() throws {
        let image = foreign(try TestImage.make(), Self.types[0], at: ["http://127.0.0.1:9/layer"])
        let server = try SocketServer { request, _ in image.reply(request) }
        defer { server.stop() }
        let run = try Sandbox().trireme("pull", "-q", "127.0.0.1:\(server.port)/x:1")
        #expect(run.status == 0, "\(run.errorText)")
    }

    @Test func nowhereToBeHad() throws {
        let plain = try TestImage.make()
        let path = plain.blobPath(0)
        let liar = try SocketServer { _, _ in Reply(body: [UInt8](repeating: 7, count: plain.layers[0].bytes.count)) }
        defer { liar.stop() }
        let cases: [([String], String, String)] = [
            ([], "registry-not-found", "names no address"),
            (["file:///etc/passwd"], "registry-not-found", "no address"),
            (["http://127.0.0.1:\(liar.port)/l"], "content-mismatch", "digest"),
            (["http://127.0.0.1:9/layer"], "registry-unreachable", "http://127.0.0.1:9/layer"),
        ]
        for (addresses, code, words) in cases {
            let image = foreign(plain, Self.types[1], at: addresses)
            let server = try SocketServer { request, _ in
                request.path == path ? .notFound : image.reply(request)
            }
            defer { server.stop() }
            let sandbox = try Sandbox()
            let run = try sandbox.trireme(
                "pull", "127.0.0.1:\(server.port)/x:1", with: ["TRIREME_REGISTRY_ATTEMPTS": "1"])
            #expect(run.status == 125 && run.errorText.contains("[\(code)]"), "\(addresses): \(run.errorText)")
            #expect(run.errorText.contains(words), "\(run.errorText)")
            #expect(try sandbox.images() == [])
        }
    }
}
