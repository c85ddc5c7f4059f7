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
            .merging(["TRIREME_JOB_SECRET": String(repeating: "ab", count: 32)]) { $1 }
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
        let leader = try SocketServer { request, _ in image.reply(request, name: "sha256") }
        defer { leader.stop() }
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
}
