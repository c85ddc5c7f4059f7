import Foundation
import ImageStore
import OCIModel
import TestSupport
import Testing

/// What a served registry keeps is its user's alone, and no link leads it elsewhere.
@Suite struct RegistryDirectoryTests {
    private func push(_ bytes: [UInt8], _ registry: ServedRegistry) throws -> String {
        let blob = TestImage.Blob(bytes)
        #expect(
            try registry.send("POST", "/v2/a/blobs/uploads/?digest=\(blob.digest)", body: bytes).status == 201)
        return blob.digest
    }

    private func found(_ words: String...) throws -> [String] { try runProgram(["find"] + words).lines }

    /// Whatever the umask it is started under, and what an earlier one left open is closed.
    @Test func nothingIsOthers() throws {
        let sandbox = try Sandbox()
        let data = sandbox.store + "/registry"
        var registry: ServedRegistry? = try ServedRegistry(sandbox, umask: "0")
        let image = try TestImage.make()
        for blob in image.blobs { _ = try push(blob.bytes, registry!) }
        let put = try registry!.send(
            "PUT", "/v2/a/manifests/1", headers: ["Content-Type": TestImage.manifestType], body: image.manifest.bytes)
        #expect(put.status == 201)
        _ = try registry!.send("POST", "/v2/a/blobs/uploads/")
        // Blobs that the store has, too, are its files, readable as all of it.
        #expect(try found(data, "-type", "d", "-perm", "/077") == [])
        #expect(try found(data, "-type", "f", "-perm", "/022") == [])
        #expect(try found(data, "-path", "*/uploads/*", "-perm", "/077") == [])
        #expect(try found(sandbox.store, "-maxdepth", "1", "-perm", "/002") == [])
        registry = nil
        let good = image.layers[0].digest.dropFirst(7), bad = String(repeating: "4", count: 64)
        try runProgram(["chmod", "-R", "a+rwX", data])
        try Data("poison".utf8).write(to: URL(fileURLWithPath: data + "/blobs/" + bad))
        try Data("poison".utf8).write(to: URL(fileURLWithPath: data + "/uploads/left"))
        registry = try ServedRegistry(sandbox, umask: "0")
        #expect(try found(data, "-type", "d", "-perm", "/077") == [])
        #expect(try registry!.send("HEAD", "/v2/a/blobs/sha256:\(bad)").status == 404)
        #expect(try registry!.send("HEAD", "/v2/a/blobs/sha256:\(good)").status == 200)
        #expect(!FileManager.default.fileExists(atPath: data + "/uploads/left"))
    }

    @Test func linksLeadNowhere() throws {
        let sandbox = try Sandbox()
        let data = sandbox.store + "/registry"
        let registry = try ServedRegistry(sandbox)
        let victim = sandbox.directory.path + "/.bashrc"
        try "mine\n".write(toFile: victim, atomically: true, encoding: .utf8)
        let files = FileManager.default
        let location = try #require(try registry.send("POST", "/v2/a/blobs/uploads/").headers["location"])
        let upload = data + "/uploads/" + (location.split(separator: "/").last ?? "")
        try files.removeItem(atPath: upload)
        try files.createSymbolicLink(atPath: upload, withDestinationPath: victim)
        #expect(try registry.send("PATCH", location, body: Array("evil\n".utf8)).status == 404)
        let digest = Digest(sha256: Array("mine\n".utf8)).description
        #expect(try registry.send("PUT", "\(location)?digest=\(digest)").status == 404)
        try files.createSymbolicLink(atPath: data + "/blobs/" + digest.dropFirst(7), withDestinationPath: victim)
        #expect(try registry.send("GET", "/v2/a/blobs/\(digest)").status == 404)
        // A directory, too.
        try files.moveItem(atPath: data + "/uploads", toPath: data + "/moved")
        try files.createSymbolicLink(atPath: data + "/uploads", withDestinationPath: sandbox.directory.path)
        #expect(try registry.send("POST", "/v2/a/blobs/uploads/").status >= 400)
        #expect(try String(contentsOfFile: victim, encoding: .utf8) == "mine\n")
    }

    @Test func anothersDirectoryIsRefused() throws {
        let run = try Sandbox().trireme("registry", "serve", "--address", "127.0.0.1:0", "--data", "/usr")
        #expect(run.status == 125 && run.errorText.contains("[registry-serve]"), "\(run.errorText)")
    }
}
