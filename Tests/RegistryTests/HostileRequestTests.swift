import Foundation
import Glibc
import OCIModel
import TestSupport
import Testing

/// Requests that nobody means well.
@Suite struct HostileRequestTests {
    private func push(_ bytes: [UInt8], _ registry: ServedRegistry) throws -> String {
        let blob = TestImage.Blob(bytes)
        #expect(try registry.send("POST", "/v2/a/blobs/uploads/?digest=\(blob.digest)", body: bytes).status == 201)
        return blob.digest
    }

    @Test func rangesBeyondAllNumbers() throws {
        let registry = try ServedRegistry(try Sandbox())
        let path = "/v2/a/blobs/" + (try push(Array("0123456789".utf8), registry))
        func get(_ range: String) throws -> Int { try registry.send("GET", path, headers: ["Range": range]).status }
        #expect(try get("bytes=0-9223372036854775807") == 416)
        #expect(try get("bytes=0-9223372036854775806") == 206)
        #expect(try get("bytes=9223372036854775807-9223372036854775807") == 416)
        #expect(try get("bytes=-9223372036854775807") == 206)
        for number in ExtremeNumbers.all where !number.contains("\t") {
            for range in ["0-\(number)", "\(number)-", "-\(number)", "\(number)-\(number)", "5-\(number)"] {
                let status = try get("bytes=\(range)")
                #expect([200, 206, 400, 416].contains(status), "\(range): \(status)")
            }
        }
        #expect(registry.isRunning)
    }

    @Test func numbersInEveryPlace() throws {
        let registry = try ServedRegistry(try Sandbox())
        let location = try #require(try registry.send("POST", "/v2/a/blobs/uploads/").headers["location"])
        for number in ExtremeNumbers.all where number.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) {
            for range in ["\(number)-\(number)", "bytes \(number)-\(number)/\(number)", "0-\(number)"] {
                let status = try registry.send("PATCH", location, headers: ["Content-Range": range]).status
                #expect([202, 416].contains(status), "\(range): \(status)")
            }
            #expect(try registry.send("GET", "/v2/_catalog?n=\(number)&last=\(number)").status == 200)
            let reply = try? HTTPMessage.exchange(
                registry.port, "PATCH", location,
                headers: ["Authorization": ServedRegistry.basic("a", registry.password), "Content-Length": number])
            #expect(reply?.status != 200)
            let manifest = """
                {"schemaVersion":2,"config":{"digest":"sha256:\(String(repeating: "4", count: 64))","size":\(number)},\
                "layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar",\
                "digest":"sha256:\(String(repeating: "5", count: 64))","size":\(number)}]}
                """
            #expect(try registry.send("PUT", "/v2/a/manifests/1", body: Array(manifest.utf8)).status == 400)
        }
        #expect(registry.isRunning)
    }

    /// 5,000 layers that all say they have 2⁶³−1 bytes.
    private func manyLayers(_ count: Int, of blob: TestImage.Blob, _ image: TestImage, size: Int64) -> TestImage {
        var image = image
        let layer =
            #"{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"\#(blob.digest)","size":\#(size)}"#
        let digests = Array(repeating: "\"\(blob.digest)\"", count: count).joined(separator: ",")
        image.configuration = TestImage.Blob(
            Array(
                """
                {"architecture":"\(Platform.current.architecture)","os":"linux",\
                "rootfs":{"type":"layers","diff_ids":[\(digests)]}}
                """.utf8))
        image.manifest = TestImage.Blob(
            Array(
                """
                {"schemaVersion":2,"mediaType":"\(TestImage.manifestType)","config":{"mediaType":"\(MediaType.configuration)",\
                "digest":"\(image.configuration.digest)","size":\(image.configuration.bytes.count)},\
                "layers":[\(Array(repeating: layer, count: count).joined(separator: ","))]}
                """.utf8))
        return image
    }

    @Test(arguments: [
        (5000, Int64.max, "at most 500"), (2, Int64.max, "1125899906842624"), (3, 1 << 62, "1125899906842624"),
    ])
    func moreLayersThanCanBe(_ count: Int, _ size: Int64, _ limit: String) throws {
        let plain = try TestImage.make()
        let image = manyLayers(count, of: plain.layers[1], plain, size: size)
        let server = try SocketServer { request, _ in image.reply(request) }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let run = try sandbox.trireme("pull", "127.0.0.1:\(server.port)/x:1")
        #expect(run.status == 125 && run.errorText.contains("[not-an-image]"), "\(run.status) \(run.errorText)")
        #expect(run.errorText.contains(limit), "\(run.errorText)")
        let registry = try ServedRegistry(sandbox)
        _ = try push(plain.layers[1].bytes, registry)
        _ = try push(image.configuration.bytes, registry)
        let put = try registry.send("PUT", "/v2/a/manifests/1", body: image.manifest.bytes)
        #expect(put.status == 400, "\(put.status)")
        #expect(String(decoding: put.body, as: UTF8.self).contains(limit))
        #expect(registry.isRunning)
    }

    /// A size that nothing has, and hardly a byte of it: how long the rest takes is beyond all numbers, too.
    @Test func sizesBeyondAllNumbers() throws {
        let server = try SocketServer { request, _ in
            if request.headers["range"] == "bytes=0-0" {
                return Reply(status: 206, headers: ["Content-Range": "bytes 0-0/9223372036854775807"], body: [1])
            }
            return Reply(body: [1], contentLength: .max, resetAfter: 1, delaySeconds: 1.5)
        }
        defer { server.stop() }
        let sandbox = try Sandbox()
        let digest = String(repeating: "4", count: 64)
        // On a terminal, where the rest is said several times a second.
        let command = "\(try Programs.path("trireme-cli")) pull http://127.0.0.1:\(server.port)/x.sif#sha256=\(digest)"
        let run = try runProgram(
            ["script", "-qec", command, "/dev/null"],
            environment: sandbox.environment.merging(["TRIREME_REGISTRY_ATTEMPTS": "1"]) { $1 },
            directory: sandbox.directory.path)
        #expect(run.status == 125, "\(run.status) \(run.outputText)")
    }

    /// A blob's size is what its manifest says.
    @Test func sizesAreChecked() throws {
        let plain = try TestImage.make()
        let image = manyLayers(1, of: plain.layers[1], plain, size: 1 << 40)
        let registry = try ServedRegistry(try Sandbox())
        _ = try push(plain.layers[1].bytes, registry)
        _ = try push(image.configuration.bytes, registry)
        #expect(try registry.send("PUT", "/v2/a/manifests/1", body: image.manifest.bytes).status == 400)
    }

    // MARK: Connections

    /// A request whose body is sent bit by bit.
    private final class OpenRequest {
        private let connection: Int32
        init(_ registry: ServedRegistry, _ head: String) throws {
            connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(registry.port).bigEndian
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            let fd = connection
            let result = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            guard result == 0 else { throw POSIXError(.ECONNREFUSED) }
            send(head)
        }
        deinit { close(connection) }

        func send(_ text: String) {
            let bytes = Array(text.utf8)
            _ = Glibc.send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        }
        func chunk(_ text: String) { send(String(text.utf8.count, radix: 16) + "\r\n" + text + "\r\n") }

        /// Whether the server ends the connection within `seconds`.
        func ends(within seconds: Int) -> Bool {
            var polled = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
            var byte = [UInt8](repeating: 0, count: 4096)
            let deadline = Date.now + Double(seconds)
            while Date.now < deadline {
                guard poll(&polled, 1, 100) > 0 else { continue }
                if recv(connection, &byte, byte.count, 0) <= 0 { return true }
            }
            return false
        }
    }

    /// What was verified is what is served, also where an earlier request still writes.
    @Test func oneWriterPerUpload() throws {
        let registry = try ServedRegistry(try Sandbox())
        let good = String(repeating: "good content ", count: 1000)
        let blob = TestImage.Blob(Array(good.utf8))
        let location = try #require(try registry.send("POST", "/v2/a/blobs/uploads/").headers["location"])
        let login = ServedRegistry.basic("a", try registry.password)
        var patch: OpenRequest? = try OpenRequest(
            registry,
            "PATCH \(location) HTTP/1.1\r\nHost: x\r\nAuthorization: \(login)\r\nTransfer-Encoding: chunked\r\n\r\n")
        patch?.chunk(good)
        func range() throws -> String? { try registry.send("GET", location).headers["range"] }
        let deadline = Date.now + 20
        while try range() != "0-\(good.utf8.count - 1)", Date.now < deadline { usleep(20_000) }
        let put = { try registry.send("PUT", "\(location)?digest=\(blob.digest)").status }
        #expect(try put() == 409)
        #expect(try registry.send("PATCH", location, body: [1]).status == 409)
        patch?.send("0\r\n\r\n")
        #expect(patch?.ends(within: 1) == false)
        patch = nil
        #expect(try put() == 201)
        #expect(try registry.send("GET", "/v2/a/blobs/\(blob.digest)").body == blob.bytes)
        #expect(try registry.send("PATCH", location, body: [1]).status == 404)
    }

    @Test func silentClientsAreLeft() throws {
        let registry = try ServedRegistry(try Sandbox(), "--idle-timeout", "1")
        let location = try #require(try registry.send("POST", "/v2/a/blobs/uploads/").headers["location"])
        let login = ServedRegistry.basic("a", try registry.password)
        let heads = [
            "", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ", "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "PATCH \(location) HTTP/1.1\r\nHost: x\r\nAuthorization: \(login)\r\nContent-Length: 100\r\n\r\nabc",
        ]
        for head in heads {
            let request = try OpenRequest(registry, head)
            #expect(request.ends(within: 15), "\(head)")
        }
        #expect(try registry.send("GET", "/v2/").status == 200)
    }
}
