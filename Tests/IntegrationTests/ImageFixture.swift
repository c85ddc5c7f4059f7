import Foundation
import TestSupport
import Testing

/// Images made by umoci and skopeo, and a store of their own for trireme.
struct ImageFixture {
    let scratch: TemporaryDirectory
    var path: String { scratch.path }
    var store: String { path + "/store" }

    init() throws { scratch = try TemporaryDirectory() }

    /// trireme-cli with this fixture's store.
    @discardableResult
    func trireme(_ arguments: String..., input: Data = Data()) throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme-cli")] + arguments,
            environment: ["TRIREME_STORE": store, "SWIFT_BACKTRACE": "enable=no"], input: input)
    }

    /// A shell line in the fixture's directory, which must succeed.
    @discardableResult
    func shell(_ line: String) throws -> ProgramRun {
        let run = try runProgram(["sh", "-ec", line], directory: path)
        if run.status != 0 { throw ShellFailed(line: line, errors: run.errorText) }
        return run
    }
    struct ShellFailed: Error {
        var line: String
        var errors: String
    }

    /// An image of two layers with most things a layer can say, as `oci:image` in the fixture.
    func makeImage(extraFile: String = "") throws {
        try shell(
            """
            umoci init --layout oci; umoci new --image oci:image
            mkdir -p a/etc a/bin a/usr/lib a/opaque/sub a/lower/tree a/keep; chmod 751 a/keep
            cp /bin/true a/bin/true; ln a/bin/true a/bin/same; ln -s true a/bin/link; ln -s usr/lib a/lib
            printf 'root:x:0:0:root:/root:/bin/sh\\napp:x:1234:1235::/app:/bin/sh\\n' > a/etc/passwd
            printf 'root:x:0:\\napp:x:1235:\\n' > a/etc/group
            echo old > a/opaque/sub/f; echo gone > a/lower/gone; echo stay > a/lower/stay; echo t > a/lower/tree/f
            echo type > a/type; mkdir a/dir2file; echo x > a/dir2file/x; echo '\(extraFile)' > a/extra
            touch -d @1500000000 a/lower/stay; chmod 4755 a/bin/true; chmod 640 a/extra
            tar -C a -cf a.tar .; umoci raw add-layer --image oci:image a.tar
            mkdir -p b/lower b/opaque b/type b/new; touch b/lower/.wh.gone b/lower/.wh.tree b/opaque/.wh..wh..opq
            echo new > b/opaque/new; echo in > b/type/in; echo file > b/dir2file; ln -s ../lower/stay b/new/link
            tar -C b -cf b.tar .; umoci raw add-layer --image oci:image b.tar
            umoci config --image oci:image --config.env 'A=b=c' --config.entrypoint /bin/true --config.user app
            """)
    }

    /// What stands in the store below `directory`, hidden names included.
    func entries(_ directory: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: store + "/" + directory)) ?? []).sorted()
    }

    /// Nothing but the empty shape of a store.
    var isStoreEmpty: Bool {
        ["plans", "images", "layers", "blobs/sha256", "tmp"].allSatisfy { entries($0).isEmpty }
    }

    /// Every blob is what its name says, no staging is left, every plan's image is there, and skopeo can read it.
    func verifyStore(names: [String]) throws {
        try shell("cd store/blobs/sha256 && for f in *; do echo \"$f  $f\"; done | sha256sum -c --quiet")
        #expect(entries("tmp") == [])
        for name in names { try shell("skopeo inspect --raw oci:store:\(name) >/dev/null") }
    }

    /// One line per file of the tree that `mount` shows: type, mode, links, size, time, target, content.
    static let listing = """
        find . -mindepth 1 -printf '%y %m %P -> %l\\n' | sort; find . -type f -printf '%n %s %T@ %P\\n' | sort
        find . -type f -exec sha256sum {} + | sort -k2
        """
}
