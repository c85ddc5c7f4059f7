import Foundation
import TestSupport
import Testing

/// `image convert` and `image import` between all forms an image has.
@Suite struct ConversionTests {
    let fixture: ImageFixture

    init() throws {
        fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            mkdir -p c/long c/set; n=$(printf 'n%.0s' $(seq 120)); echo long > c/long/$n; ln -s $n/$n c/long/link
            echo x > c/set/x; ln c/set/x c/set/y; setfattr -n user.kind -v some c/set/x; chmod 2755 c/set
            tar --xattrs -C c -cf c.tar .; umoci raw add-layer --image oci:image c.tar
            skopeo copy -q oci:oci:image oci-archive:x.tar:x:1; mkdir tmp
            """)
        try run("load", "-q", "-i", "x.tar")
    }

    /// In the fixture's directory, with temporary space there.
    @discardableResult
    private func run(_ words: String..., store: String? = nil) throws -> ProgramRun {
        let run = try runProgram(
            [try Programs.path("trireme-cli"), words[0] == "load" ? "load" : "image"]
                + (words[0] == "load" ? Array(words.dropFirst()) : words),
            environment: [
                "TRIREME_STORE": store ?? fixture.store, "TRIREME_TMPDIR": fixture.path + "/tmp",
            ], directory: fixture.path)
        #expect(run.status == 0, "\(words): \(run.errorText)")
        return run
    }

    /// Everything of a directory, times in whole seconds; not those of the places for the host's files, which each
    /// form makes anew.
    private func tree(_ name: String) throws -> String {
        try fixture.shell(
            """
            cd \(name); find . -mindepth 1 -printf '%y %m %n %s %P -> %l\\n' | sed 's/^d \\([0-9]*\\) [0-9]* [0-9]*/d \\1/' | sort
            find . -type f ! -path './etc/host*' ! -path ./etc/localtime ! -path ./etc/resolv.conf -printf '%Ts %P\\n' | sort; find . -type f -exec sha256sum {} + | sort -k2
            getfattr -R -h -d -m user.kind . 2>/dev/null || true
            """
        ).outputText
    }

    private struct Facts: Decodable, Equatable {
        struct Config: Decodable, Equatable {
            var environment: [String]?
            var entrypoint: [String]?
            var user: String?
            enum CodingKeys: String, CodingKey {
                case environment = "Env"
                case entrypoint = "Entrypoint"
                case user = "User"
            }
        }
        var config: Config?
    }

    private func facts(_ layout: String) throws -> Facts {
        let text = try fixture.shell("skopeo inspect --config \(layout)").output
        return try JSONDecoder().decode(Facts.self, from: text)
    }

    @Test func everyFormGivesTheSameFiles() throws {
        try run("convert", "-q", "x:1", "x.sqfs")
        try run("convert", "-q", "x.sqfs", "from-file")
        let whole = try tree("from-file")
        #expect(whole.contains("user.kind") && whole.contains("nnnn"))
        // A directory's set-id bits are its owner's to give; see LeftOnDiskTests.
        #expect(!whole.contains("2755"))
        // Straight to a directory: from the store, an archive, a layout, a directory.
        for (source, target) in [
            ("x:1", "d1"), ("docker-archive:x.tar", "d2"), ("./x.tar", "d3"), ("./from-file", "d4"),
        ] {
            try run("convert", "-q", source, target)
            #expect(try tree(target) == whole, "\(source)")
        }
        try fixture.shell("mkdir layout; tar -C layout -xf x.tar")
        try run("convert", "-q", "./layout", "d5")
        #expect(try tree("d5") == whole)
        // To OCI, as one layer, and back; run as before.
        try run("convert", "-q", "x.sqfs", "oci-archive:y.tar:y:1")
        try run("load", "-q", "-i", "y.tar")
        try run("convert", "-q", "y:1", "d6")
        #expect(try tree("d6") == whole)
        let original = try facts("oci-archive:x.tar")
        #expect(original.config?.entrypoint == ["/bin/true"] && original.config?.user == "app")
        #expect(try facts("oci-archive:y.tar") == original)
        try run("convert", "-q", "./from-file", "docker-archive:z.tar:z:1")
        try fixture.shell("skopeo copy -q docker-archive:z.tar oci:zz:z")
        try run("import", "-q", "x.sqfs", "w:1")
        try run("convert", "-q", "w:1", "d7")
        #expect(try tree("d7") == whole)
        try run("convert", "-q", "w:1", "oci:w")
        #expect(try facts("oci:w") == original)
        // Nothing stays on the way.
        #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.path + "/tmp") == [])
    }

    /// What has layers keeps them.
    @Test func layersStayTheirs() throws {
        let digest = try run("inspect", "x:1")
        func manifest(_ layout: String) throws -> String {
            let raw = try fixture.shell("skopeo inspect --raw \(layout) | sha256sum").outputText.prefix(64)
            return String(raw)
        }
        let own = try manifest("oci-archive:x.tar")
        #expect(digest.outputText.contains(own))
        try run("convert", "x:1", "oci:layout:n:2")
        #expect(try manifest("oci:layout:n:2") == own)
        try run("convert", "./x.tar", "oci-archive:again.tar")
        #expect(try manifest("oci-archive:again.tar") == own)
        // From a site's store, too.
        try run("convert", "-q", "x:1", "oci:site", store: fixture.path + "/empty:" + fixture.store)
        #expect(try manifest("oci:site") == own)
        try run("convert", "-q", "x:1", "site.sqfs", store: fixture.path + "/empty:" + fixture.store)
        try run("convert", "-q", "site.sqfs", "s1")
        try run("convert", "-q", "x:1", "s2")
        #expect(try tree("s1") == tree("s2"))
        let again = try runProgram(
            [try Programs.path("trireme-cli"), "image", "convert", "x:1", "oci-archive:again.tar"],
            environment: ["TRIREME_STORE": fixture.store], directory: fixture.path)
        #expect(again.status == 125 && again.errorText.contains("[conversion-refused]"), "\(again.errorText)")
    }
}
