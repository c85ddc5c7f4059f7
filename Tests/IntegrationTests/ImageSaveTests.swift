import Foundation
import TestSupport
import Testing

@Suite struct ImageSaveTests {
    private func digest(_ fixture: ImageFixture, _ name: String, store: String = "store") throws -> String {
        try fixture.shell(
            "TRIREME_STORE=$PWD/\(store) \(try Programs.path("trireme-cli")) image ls --no-trunc --digests --format '{{.Name}} {{.Digest}}' \(name) | cut -d' ' -f2"
        ).lines.first ?? ""
    }

    /// What came in comes out, in every form, to files and pipes, and the tools of others take it.
    @Test func everyFormatGoesRound() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell("skopeo copy -q oci:oci:image oci-archive:in.tar:t/x:1")
        try fixture.trireme("load", "-i", fixture.path + "/in.tar")
        try fixture.trireme("image", "tag", "t/x:1", "second:2")
        let wanted = try fixture.shell("skopeo inspect --raw oci-archive:in.tar | sha256sum | cut -c1-64").lines[0]
        #expect(try digest(fixture, "t/x:1") == "sha256:" + wanted)
        let program = try Programs.path("trireme-cli")
        try fixture.shell(
            """
            export TRIREME_STORE=$PWD/store
            \(program) save -q -o docker.tar t/x:1
            \(program) image save --format oci-archive t/x:1 second:2 | cat > oci.tar
            \(program) image save --format oci-dir -o dir t/x:1; \(program) image save --format oci-dir -o dir second:2
            \(program) save t/x:1 | cmp - docker.tar
            """)
        for source in [
            "oci-archive:oci.tar:t/x:1", "oci-archive:oci.tar:second:2", "oci:dir:t/x:1", "oci:dir:second:2",
        ] {
            let found = try fixture.shell("skopeo inspect --raw \(source) | sha256sum | cut -c1-64").lines[0]
            #expect(found == wanted, "\(source)")
        }
        try fixture.shell(
            """
            skopeo copy -q docker-archive:docker.tar oci:fromdocker:x; skopeo inspect docker-archive:docker.tar >/dev/null
            umoci unpack --rootless --image dir:second:2 bundle 2>/dev/null || umoci ls --layout dir
            """)
        for (file, count) in [("docker.tar", 1), ("oci.tar", 2), ("dir", 2)] {
            let run = try runProgram(
                [program, "load", "-i", fixture.path + "/" + file],
                environment: ["TRIREME_STORE": fixture.path + "/other-\(file)"])
            #expect(run.lines.count == count, "\(run.errorText)")
            #expect(try digest(fixture, "t/x:1", store: "other-\(file)") == "sha256:" + wanted)
        }
        // A directory that is something else is not written into.
        try fixture.shell("mkdir mine; echo x > mine/file")
        let refused = try fixture.trireme("save", "--format", "oci-dir", "-o", fixture.path + "/mine", "t/x:1")
        #expect(refused.status == 125 && refused.errorText.contains("[archive-unwritable]"))
    }

    @Test(.enabled(if: isInstalled("podman"), "podman is not installed (make test-full installs it)"))
    func podmanLoadsWhatWasSaved() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell("skopeo copy -q oci:oci:image docker-archive:in.tar:t/x:1")
        try fixture.trireme("load", "-i", fixture.path + "/in.tar")
        try fixture.trireme("save", "-o", fixture.path + "/docker.tar", "t/x:1")
        let id = try fixture.trireme("image", "ls", "-q", "--no-trunc").lines[0].dropFirst(7)
        // As its storage wants no mount, this works where podman cannot run.
        let run = try runProgram(
            [
                "podman", "--root", fixture.path + "/p", "--runroot", fixture.path + "/r", "--storage-driver", "vfs",
                "load",
                "-q", "-i", "docker.tar",
            ], environment: ["XDG_RUNTIME_DIR": fixture.path], directory: fixture.path)
        #expect(run.outputText.contains("t/x:1") || run.outputText.contains(id), "\(run.outputText) \(run.errorText)")
        let images = try runProgram(
            [
                "podman", "--root", fixture.path + "/p", "--runroot", fixture.path + "/r", "--storage-driver", "vfs",
                "images", "-q", "--no-trunc",
            ], environment: ["XDG_RUNTIME_DIR": fixture.path])
        #expect(images.outputText.contains(id), "the image's id is the same")
    }

    @Test func aDamagedBlobIsNotSaved() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell("skopeo copy -q oci:oci:image oci-archive:in.tar:x:1")
        try fixture.trireme("load", "-i", fixture.path + "/in.tar")
        try fixture.shell(
            "big=$(ls -S store/blobs/sha256/* | head -1); printf '\\377\\377' | dd of=$big bs=1 seek=100 conv=notrunc status=none"
        )
        let run = try fixture.trireme("save", "-o", fixture.path + "/out.tar", "x:1")
        #expect(run.status == 125 && run.errorText.contains("[store-damaged]") && run.errorText.contains("x:1"))
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: fixture.path).allSatisfy { !$0.hasPrefix("out.tar") })
    }

    @Test func aRootFileSystemIsImported() throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            "mkdir -p r/bin r/etc; cp /bin/true r/bin/true; echo hi > r/etc/f; tar -C r -czf r.tgz .; gzip -dc r.tgz > r.tar"
        )
        let run = try fixture.trireme(
            "image", "import", fixture.path + "/r.tgz", "my/root:1", "-c", "CMD [\"/bin/true\"]", "-c",
            "ENV A=b \"C=d e\"",
            "-c", "LABEL k=v", "-c", "WORKDIR /etc", "-c", "EXPOSE 80", "-m", "by hand")
        #expect(run.status == 0 && run.outputText == "Imported image: my/root:1\n", "\(run.errorText)")
        let facts = try fixture.trireme("image", "inspect", "my/root:1").outputText
        for word in ["\"A=b\"", "\"C=d e\"", "\"/bin/true\"", "\"80/tcp\"", "\"WorkingDir\" : \"/etc\"", "+gzip"] {
            #expect(facts.contains(word), "\(word)")
        }
        let history = try fixture.trireme("image", "history", "my/root:1", "--format", "{{.Comment}}|{{.CreatedBy}}")
        #expect(history.outputText == "by hand|\n")
        let archive = try Data(contentsOf: URL(fileURLWithPath: fixture.path + "/r.tar"))
        let piped = try fixture.trireme("image", "import", "-q", "-", "my/root:2", input: archive)
        #expect(piped.outputText.hasPrefix("sha256:"))
        #expect(fixture.entries("layers").count == 1, "the same tree, compressed or not")
        #expect(try fixture.trireme("image", "import", "-c", "FROM x", fixture.path + "/r.tar").status == 125)
        let none = try fixture.trireme("image", "import", "-", "x", input: Data())
        #expect(none.status == 125 && none.errorText.contains("[archive-invalid]"))
    }
}
