import Foundation
import TestSupport
import Testing

@Suite struct ImageLoadTests {
    @Test func everyArchiveForm() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            skopeo copy -q oci:oci:image oci-archive:gzip.tar:t/gzip:1
            skopeo copy -q oci:oci:image docker-archive:docker.tar:docker.io/library/plain:2
            skopeo copy -q --dest-compress --dest-compress-format zstd oci:oci:image oci:oz:image
            skopeo copy -q oci:oz:image oci-archive:zstd.tar:localhost/zstd
            gzip -k gzip.tar; zstd -q docker.tar
            """)
        for (file, name, isNew) in [
            ("gzip.tar", "t/gzip:1", true), ("docker.tar", "plain:2", true),
            ("zstd.tar", "localhost/zstd:latest", true),
            ("gzip.tar.gz", "t/gzip:1", false), ("docker.tar.zst", "plain:2", false),
        ] {
            let run = try fixture.trireme("image", "load", "-i", fixture.path + "/" + file)
            #expect(run.status == 0, "\(file): \(run.errorText)")
            #expect(run.outputText == "Loaded image: \(name)\n")
            #expect(run.errorText.contains("already present") == !isNew)
        }
        let archive = try Data(contentsOf: URL(fileURLWithPath: fixture.path + "/docker.tar"))
        for arguments in [["load"], ["load", "-i", "-"]] {
            let run = try runProgram(
                [try Programs.path("trireme-cli")] + arguments, environment: ["TRIREME_STORE": fixture.store],
                input: archive)
            #expect(run.outputText == "Loaded image: plain:2\n")
        }
        try fixture.verifyStore(names: ["t/gzip:1", "plain:2", "localhost/zstd:latest"])
        #expect(fixture.entries("layers").count == 2, "one unpacked copy for all forms of a layer")
        #expect(
            fixture.entries("plans").sorted() == ["localhost%2Fzstd:latest", "plain:2", "t%2Fgzip:1", "zstd:latest"])
        let list = try fixture.trireme("images")
        #expect(list.lines.count == 4, "a header and three images, the alias not twice")
        #expect(try fixture.trireme("image", "ls", "-q").lines.count == 1)
        let json = try JSONSerialization.jsonObject(with: fixture.trireme("image", "ls", "--format", "json").output)
        #expect(
            (json as? [[String: Any]])?.compactMap { $0["name"] as? String }.sorted() == [
                "localhost/zstd:latest", "plain:2", "t/gzip:1",
            ])
    }

    /// No digest in a docker-archive says which compressed layer it holds; its size does, with what is in it.
    @Test func compressedLayersOfADockerArchiveAreReadOnce() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            skopeo copy -q oci:oci:image docker-archive:docker.tar:plain:2
            for level in 9 1; do
                mkdir d; tar -C d -xf docker.tar
                for layer in $(find d -maxdepth 1 -name '*.tar' -type f); do gzip -n -$level <$layer >t; mv t $layer; done
                tar -C d -cf gzip$level.tar $(ls d); chmod -R u+w d; rm -rf d
            done
            """)
        func load(_ file: String) throws -> ProgramRun {
            let run = try fixture.trireme("image", "load", "-i", fixture.path + "/" + file)
            #expect(run.outputText == "Loaded image: plain:2\n", "\(run.errorText)")
            return run
        }
        #expect(try !load("gzip9.tar").errorText.contains("already present"))
        #expect(try load("gzip9.tar").errorText.contains("already present"))
        #expect(try !load("gzip1.tar").errorText.contains("already present"), "another blob")
        #expect(fixture.entries("layers").count == 2)
        // Back in place of the name that the third load took.
        #expect(try load("gzip9.tar").status == 0)
        try fixture.verifyStore(names: ["plain:2"])
    }

    /// The overlay of our layers shows what umoci unpacks, entry by entry.
    @Test func equalsUmoci() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            "umoci unpack --rootless --image oci:image bundle 2>/dev/null; skopeo copy -q oci:oci:image oci-archive:x.tar:x:1"
        )
        #expect(try fixture.trireme("load", "-i", fixture.path + "/x.tar").status == 0)
        let facts = try JSONSerialization.jsonObject(with: fixture.trireme("image", "inspect", "x:1").output)
        let image = try #require((facts as? [[String: Any]])?.first)
        let directories = try #require(image["directories"] as? [String])
        // The prepared layer is ours, not the image's.
        let layers = directories.filter { !$0.hasSuffix("/prepared") }
        #expect(layers.count == 2)
        let ours = try fixture.shell(
            """
            mkdir m; unshare --map-root-user --mount sh -ec '
            mount -t overlay overlay -o ro,userxattr,lowerdir=\(layers.joined(separator: ":")) m; cd m; \(ImageFixture.listing.replacingOccurrences(of: "'", with: "'\\''"))'
            """)
        let theirs = try fixture.shell("cd bundle/rootfs; \(ImageFixture.listing)")
        // Set-id bits are kept off the disk here; `user.trireme.mode` records them.
        let expected = theirs.outputText.replacingOccurrences(of: "f 4755 ", with: "f 755 ")
        #expect(Set(ours.lines).symmetricDifference(expected.split(separator: "\n").map(String.init)).sorted() == [])
        #expect(ours.lines.count > 30)
    }

    @Test func theRightImageOfAnIndex() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            umoci init --layout foreign; umoci new --image foreign:image; umoci config --image foreign:image --architecture s390x
            cp -n foreign/blobs/sha256/* oci/blobs/sha256/
            """)
        func descriptor(_ layout: String) throws -> [String: Any] {
            let data = try Data(contentsOf: URL(fileURLWithPath: fixture.path + "/\(layout)/index.json"))
            let index = try JSONSerialization.jsonObject(with: data) as? [String: Any]
            var first = try #require((index?["manifests"] as? [[String: Any]])?.first)
            first["annotations"] = nil
            return first
        }
        func put(_ index: [String: Any]) throws -> [String: Any] {
            let data = try JSONSerialization.data(withJSONObject: index)
            try data.write(to: URL(fileURLWithPath: fixture.path + "/blob"))
            let digest = try fixture.shell("d=$(sha256sum blob | cut -d' ' -f1); mv blob oci/blobs/sha256/$d; echo $d")
                .lines[0]
            return [
                "mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:" + digest,
                "size": data.count,
            ]
        }
        let mine = try descriptor("oci")
        let foreign = try descriptor("foreign")
        var attestation = foreign
        attestation["platform"] = ["os": "unknown", "architecture": "unknown"]
        attestation["annotations"] = ["vnd.docker.reference.type": "attestation-manifest"]
        func archive(_ children: [[String: Any]]) throws -> ProgramRun {
            var outer = try put([
                "schemaVersion": 2, "manifests": [try put(["schemaVersion": 2, "manifests": children])],
            ])
            outer["annotations"] = ["org.opencontainers.image.ref.name": "multi:1"]
            let index = try JSONSerialization.data(withJSONObject: ["schemaVersion": 2, "manifests": [outer]])
            try index.write(to: URL(fileURLWithPath: fixture.path + "/oci/index.json"))
            try fixture.shell("tar -C oci -cf multi.tar .")
            return try fixture.trireme("load", "-i", fixture.path + "/multi.tar")
        }
        let refused = try archive([attestation, foreign])
        #expect(refused.status == 125)
        #expect(refused.errorText.contains("[wrong-architecture]") && refused.errorText.contains("linux/s390x"))
        #expect(fixture.isStoreEmpty)
        #expect(try archive([attestation, foreign, mine]).outputText == "Loaded image: multi:1\n")
    }

    @Test func theLastImageTakesItsLayers() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            skopeo copy -q oci:oci:image oci-archive:1.tar:x:1
            mkdir c; echo c > c/c; tar -C c -cf c.tar .; umoci raw add-layer --image oci:image c.tar
            skopeo copy -q oci:oci:image oci-archive:2.tar:x:2
            """)
        #expect(try fixture.trireme("load", "-i", fixture.path + "/1.tar").status == 0)
        #expect(try fixture.trireme("load", "-i", fixture.path + "/2.tar").status == 0)
        #expect(fixture.entries("layers").count == 3)
        #expect(try fixture.trireme("rmi", "x:2").status == 0)
        #expect(fixture.entries("layers").count == 2)
        try fixture.verifyStore(names: ["x:1"])
        let missing = try fixture.trireme("image", "rm", "x:3")
        #expect(missing.status == 125)
        #expect(missing.errorText.contains("[image-not-found]") && missing.errorText.contains("did you mean 'x:1'?"))
        #expect(missing.errorText.contains(fixture.store))
        #expect(try fixture.trireme("image", "rm", "x:1").status == 0)
        #expect(fixture.isStoreEmpty)
    }

    @Test func aNameMovesToTheNewerImage() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            skopeo copy -q oci:oci:image oci-archive:1.tar:x:1; umoci config --image oci:image --config.env NEW=1
            skopeo copy -q oci:oci:image oci-archive:2.tar:x:1
            """)
        try fixture.trireme("load", "-i", fixture.path + "/1.tar")
        try fixture.trireme("load", "-i", fixture.path + "/2.tar")
        #expect(try fixture.trireme("image", "inspect", "x:1").outputText.contains("NEW=1"))
        let lines = try fixture.trireme("images").lines
        #expect(lines.count == 3 && lines.contains { $0.hasPrefix("<none>") }, "the older one stays without a name")
    }
}
