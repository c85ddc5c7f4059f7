import Foundation
import TestSupport
import Testing

/// What `trireme image spread` starts on the nodes of a job, here as two nodes of one machine.
@Suite struct SpreadTests {
    private func node(
        _ number: Int, _ store: String, _ port: Int, _ digest: String, _ leader: String,
        _ sandbox: Sandbox
    ) throws -> (process: Process, output: Pipe) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try Programs.path("trireme-cli"))
        process.arguments = [
            "image", "receive", "--nodes", "127.0.0.1,127.0.0.1", "--port", "\(port)", "--digest", digest,
            "--to",
            store, "--name", "app:1", "--", "\(number)", leader,
        ]
        process.environment = ProcessInfo.processInfo.environment
            .merging(sandbox.environment.compactMapValues { $0 }) { $1 }
            .merging(["TRIREME_JOB_SECRET": JobSecret.text]) { $1 }
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        return (process, output)
    }

    private func line(_ output: Pipe) -> String {
        var text = ""
        while !text.hasSuffix("\n") {
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { break }
            text += String(decoding: data, as: UTF8.self)
        }
        return text
    }

    @Test func eachNodeHasItFromAnother() throws {
        let image = try TestImage.make()
        let sandbox = try Sandbox()
        // The leader's registry is counted by a server that stands for it.
        let secret = JobSecret()
        let leader = try SocketServer { request, _ in
            secret.refusal(request) ?? image.reply(request, name: "sha256")
        }
        defer { leader.stop() }
        secret.port = leader.port
        let probe = try SocketServer { _, _ in .notFound }
        let port = probe.port
        probe.stop()
        let address = "127.0.0.1:\(leader.port)"
        let stores = [sandbox.directory.path + "/n0", sandbox.directory.path + "/n1"]
        let (first, firstOutput) = try node(0, stores[0], port, image.manifest.digest, address, sandbox)
        defer { kill(first.processIdentifier, SIGKILL) }
        let (second, secondOutput) = try node(
            1, stores[1], port, image.manifest.digest, address, sandbox)
        #expect(line(secondOutput) == "spread-done 1 127.0.0.1:\(port)\n")
        second.waitUntilExit()
        #expect(second.terminationStatus == 0)
        #expect(line(firstOutput) == "spread-done 0 \(address)\n")
        for index in 0..<2 { #expect(leader.count("GET", image.blobPath(index, name: "sha256")) == 1) }
        for store in stores {
            let list = try sandbox.trireme("image", "ls", "-q", with: ["TRIREME_STORE": store])
            #expect(list.lines.count == 1, "\(list.errorText)")
            #expect(
                try sandbox.trireme("image", "inspect", "app:1", with: ["TRIREME_STORE": store]).status == 0
            )
        }
        // It goes when it is told to, and takes along what it kept for the other.
        kill(first.processIdentifier, SIGTERM)
        first.waitUntilExit()
        #expect(first.terminationStatus == 0)
        let left = try FileManager.default.contentsOfDirectory(atPath: stores[0])
        #expect(!left.contains { $0.hasPrefix("registry-spread") })
        // Who has it asks nobody.
        let (again, output) = try node(1, stores[1], port, image.manifest.digest, address, sandbox)
        #expect(line(output) == "spread-done 1 itself\n")
        again.waitUntilExit()
    }
    /// Who holds the port of the node above learns nothing and gives nothing: it does not know the job's secret.
    @Test func strangersPortIsPassedOver() throws {
        let image = try TestImage.make()
        let sandbox = try Sandbox()
        let secret = JobSecret()
        let leader = try SocketServer { request, _ in
            secret.refusal(request) ?? image.reply(request, name: "sha256")
        }
        defer { leader.stop() }
        secret.port = leader.port
        // One stranger answers as if it had everything, one plays back a proof that it drew itself.
        let guess = String(repeating: "0", count: 64)
        let replies: [@Sendable (SeenRequest) -> Reply] = [
            { image.reply($0, name: "sha256") },
            { _ in
                Reply(
                    status: 401,
                    headers: ["WWW-Authenticate": "Trireme nonce=\"\(guess)\", proof=\"\(guess)\""])
            },
        ]
        for (number, reply) in replies.enumerated() {
            let stranger = try SocketServer { request, _ in reply(request) }
            defer { stranger.stop() }
            let store = sandbox.directory.path + "/s\(number)"
            let (node, output) = try node(
                1, store, stranger.port, image.manifest.digest, "127.0.0.1:\(leader.port)", sandbox)
            #expect(line(output) == "spread-done 1 127.0.0.1:\(leader.port)\n")
            node.waitUntilExit()
            #expect(node.terminationStatus == 0)
            #expect(!stranger.requests.isEmpty)
            for request in stranger.requests {
                #expect(request.target == "/v2/" && request.headers["authorization"] == nil)
                let said =
                    request.headers.map { $0.key + $0.value }.joined() + String(decoding: request.body, as: UTF8.self)
                #expect(!said.contains(JobSecret.text) && !said.contains(image.manifest.digest))
            }
        }
    }

    /// The registry of a job serves who proves to know its secret, at the address he dialled.
    @Test func jobsRegistryWantsProof() throws {
        let sandbox = try Sandbox()
        let registry = try ServedRegistry(
            sandbox, "--within-job", "--read-only", with: ["TRIREME_JOB_SECRET": JobSecret.text])
        #expect(try registry.send("GET", "/v2/", isLoggedIn: false).headers["www-authenticate"] == nil)
        let nonce = String(repeating: "7", count: 64)
        let asked = try registry.send("GET", "/v2/", headers: ["Trireme-Nonce": nonce], isLoggedIn: false)
        #expect(asked.status == 401)
        let words = (asked.headers["www-authenticate"] ?? "").split(separator: "\"")
        try #require(words.count == 4)
        let theirs = String(words[1])
        #expect(String(words[3]) == JobSecret.proof("registry", nonce, theirs, registry.host))
        func get(_ authorization: String) throws -> Int {
            try registry.send("GET", "/v2/", headers: ["Authorization": authorization], isLoggedIn: false).status
        }
        #expect(try get("Trireme \(nonce):\(JobSecret.proof("client", nonce, theirs, registry.host))") == 200)
        let wrong = [
            "Bearer \(JobSecret.text)", "Trireme \(nonce):\(words[3])", "Trireme \(nonce):", "Trireme :",
            "Trireme \(nonce):\(JobSecret.proof("client", nonce, theirs, "127.0.0.1:1"))",
            "Trireme \(nonce):\(JobSecret.proof("client", nonce, nonce, registry.host))",
        ]
        for header in wrong { #expect(try get(header) == 401, "\(header)") }
    }
}
