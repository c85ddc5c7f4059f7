import OCIModel
import Testing

@Suite struct ImageReferenceTests {
    @Test(arguments: [
        ("busybox", "busybox:latest", "busybox:latest"),
        ("docker.io/library/busybox:1", "busybox:1", "busybox:1"),
        ("index.docker.io/u/x", "u/x:latest", "u%2Fx:latest"),
        ("localhost/x:2", "localhost/x:2", "localhost%2Fx:2"),
        ("host.example:5000/a/b:T_1.x-y", "host.example:5000/a/b:T_1.x-y", "host.example:5000%2Fa%2Fb:T_1.x-y"),
    ])
    func isShownAsDockerShowsIt(typed: String, shown: String, file: String) throws {
        let reference = try #require(ImageReference(typed))
        #expect(reference.description == shown)
        #expect(reference.fileName == file)
        #expect(ImageReference(fileName: file) == reference)
    }

    @Test(arguments: [
        "", "/", "a//b", "Upper", "a:", "a:-x", "a b", "../x", "a/..", ".", "x@sha256:00", "a\n", "a%2Fb", "a:b/c:d e",
    ])
    func refusesWhatIsNoName(typed: String) { #expect(ImageReference(typed) == nil) }

    @Test func localhostIsTakenOff() {
        #expect(ImageReference("localhost/a/b:1")?.withoutLocalhost?.description == "a/b:1")
        #expect(ImageReference("a/b:1")?.withoutLocalhost == nil)
    }

    @Test func digestsAreStrict() {
        let hex = String(repeating: "0123456789abcdef", count: 4)
        #expect(Digest("sha256:" + hex)?.hex == hex)
        for wrong in [
            "sha256:" + hex.uppercased(), hex, "sha256:" + hex.dropLast(), "sha512:" + hex,
            "sha256:../" + hex.dropFirst(3),
        ] {
            #expect(Digest(wrong) == nil)
        }
    }

    @Test func platformsFit() {
        let amd64 = Platform(architecture: "amd64")
        #expect(amd64.accepts(Platform("linux/x86_64")!))
        #expect(!amd64.accepts(Platform("linux/arm64/v8")!))
        #expect(!amd64.accepts(Platform("windows/amd64")!))
    }
}
