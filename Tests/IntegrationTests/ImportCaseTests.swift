import Foundation
import TestSupport
import Testing

/// Cases of importing that no other suite has a place for (Documentation/Reference/import-cases.md).
@Suite struct ImportCaseTests {
    /// One layer made by a shell line in `r`, as `x.tar`.
    private func archive(_ fixture: ImageFixture, _ make: String, tar: String = "--xattrs") throws {
        try fixture.shell(
            """
            mkdir r; \(make); tar -C r \(tar) -cf r.tar .; umoci init --layout oci; umoci new --image oci:i
            umoci raw add-layer --image oci:i r.tar; skopeo copy -q oci:oci:i oci-archive:x.tar:x:1
            """)
    }

    private func load(_ fixture: ImageFixture, refusing calls: String, _ error: String) throws -> ProgramRun {
        try runProgram(
            [
                "strace", "-f", "-o", "/dev/null", "-e", "trace=\(calls)", "-e", "inject=\(calls):error=\(error)",
                try Programs.path("trireme-cli"), "load", "-i", fixture.path + "/x.tar",
            ], environment: ["TRIREME_STORE": fixture.store, "SWIFT_BACKTRACE": "enable=no"])
    }

    /// The largest layers are begun first, and wait for lower ones that nobody has begun: the files their hard links
    /// name. With one processor there are two threads for ten layers.
    @Test(arguments: [["taskset", "-c", "0"], []]) func upperLayersThatNeedAllBelow(_ before: [String]) throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            """
            cat > make.py <<'E'
            import io, os, tarfile
            def add(tar, name, kind=tarfile.REGTYPE, content=b"", link="", mode=0o644):
                entry = tarfile.TarInfo(name); entry.type = kind; entry.size = len(content)
                entry.linkname = link; entry.mode = mode; tar.addfile(entry, io.BytesIO(content))
            for layer in range(10):
                with tarfile.open(f"{layer}.tar", "w") as tar:
                    if layer == 0: add(tar, "d", tarfile.DIRTYPE, mode=0o711)
                    for number in range(layer if layer > 7 else 0):
                        add(tar, f"d/{layer}-{number}", tarfile.LNKTYPE, link=f"f{number}")
                    add(tar, f"f{layer}", content=os.urandom(1000 * layer + (layer > 7) * layer * 200_000))
            E
            python3 make.py; umoci init --layout oci; umoci new --image oci:i
            for layer in 0 1 2 3 4 5 6 7 8 9; do umoci raw add-layer --image oci:i $layer.tar; done
            skopeo copy -q oci:oci:i oci-archive:x.tar:x:1
            """)
        let environment = ["TRIREME_STORE": fixture.store, "SWIFT_BACKTRACE": "enable=no"]
        let run = try runProgram(
            before + [try Programs.path("trireme-cli"), "load", "-i", fixture.path + "/x.tar"],
            environment: environment, limitSeconds: 60)
        #expect(run.status == 0, "\(run.errorText)")
        #expect(try fixture.trireme("image", "convert", "x:1", fixture.path + "/out").status == 0)
        let compared = try fixture.shell(
            """
            cd out; for n in 0 1 2 3 4 5 6 7; do cmp f$n d/8-$n; cmp f$n d/9-$n; done; cmp f8 d/9-8
            stat -c %a d; ls d | wc -l
            """)
        #expect(compared.lines == ["711", "17"])
    }

    /// A user's attributes stay; access control lists and file capabilities cannot, and that is said once.
    @Test func attributesAndAccessLists() throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            """
            cat > make.py <<'E'
            import io, tarfile
            tar = tarfile.open("r.tar", "w", format=tarfile.PAX_FORMAT)
            def add(name, kind, **headers):
                entry = tarfile.TarInfo(name); entry.type = kind; entry.mode = 0o755
                entry.pax_headers = headers; tar.addfile(entry)
            add("kept", tarfile.REGTYPE, **{"SCHILY.xattr.user.note": "hello"})
            add("listed", tarfile.REGTYPE, **{"SCHILY.acl.access": "user::rwx,user:4711:r--,group::r-x,mask::r-x,other::r-x"})
            add("d", tarfile.DIRTYPE, **{"SCHILY.acl.default": "user::rwx,group::r-x,other::---"})
            add("caps", tarfile.REGTYPE, **{"SCHILY.xattr.security.capability": "\\1\\0\\0\\2\\0 \\0\\0"})
            tar.close()
            E
            python3 make.py; umoci init --layout oci; umoci new --image oci:i; umoci raw add-layer --image oci:i r.tar
            skopeo copy -q oci:oci:i oci-archive:x.tar:x:1
            """)
        let run = try fixture.trireme("load", "-i", fixture.path + "/x.tar")
        #expect(run.status == 0, "\(run.errorText)")
        #expect(run.errorText.contains("extended attributes"), "\(run.errorText)")
        #expect(run.errorText.split(separator: "\n").filter { $0.contains("extended attributes") }.count == 1)
        let note = try fixture.shell("getfattr --only-values -n user.note store/layers/*/kept")
        #expect(note.outputText == "hello")
        let names = try fixture.shell("getfattr -R -m - -d store/layers/*/listed store/layers/*/d store/layers/*/caps")
        #expect(!names.outputText.contains("posix_acl") && !names.outputText.contains("security.capability"))
        // What was left out is not lost: the blob is as it came.
        try fixture.shell("test $(ls store/blobs/sha256 | wc -l) = 3; skopeo copy -q oci:store:x:1 dir:out")
    }

    @Test(.enabled(if: RunCostTests.canTrace, "strace is missing or may not trace"))
    func aStoreWithoutAttributes() throws {
        let fixture = try ImageFixture()
        try archive(fixture, "echo x > r/f; setfattr -n user.a -v b r/f")
        let run = try load(fixture, refusing: "fsetxattr", "EOPNOTSUPP")
        #expect(run.status == 0, "\(run.errorText)")
        #expect(run.errorText.contains("1 extended attributes"), "\(run.errorText)")
        #expect(try fixture.trireme("images").lines.count == 2)
    }

    /// Without locks two commands could not share a store: that is said, and nothing is written.
    @Test(
        .enabled(if: RunCostTests.canTrace, "strace is missing or may not trace"), arguments: ["ENOLCK", "EOPNOTSUPP"])
    func aStoreWithoutLocks(_ error: String) throws {
        let fixture = try ImageFixture()
        try archive(fixture, "echo x > r/f")
        let run = try load(fixture, refusing: "flock", error)
        #expect(run.status == 125)
        #expect(run.errorText.contains("[store-unusable]"), "\(run.errorText)")
        #expect(run.errorText.contains("gives no locks") && run.errorText.contains("'nolock'"), "\(run.errorText)")
        #expect(fixture.isStoreEmpty)
    }

    /// A layer that the archive only points to is refused by name; nothing is fetched from the address.
    @Test func aLayerKeptElsewhere() throws {
        let fixture = try ImageFixture()
        try archive(fixture, "echo x > r/f")
        try fixture.shell(
            """
            cat > away.py <<'E'
            import hashlib, json
            index = json.load(open("oci/index.json"))
            path = "oci/blobs/sha256/" + index["manifests"][0]["digest"][7:]
            manifest = json.load(open(path)); layer = manifest["layers"][0]
            import os; os.remove("oci/blobs/sha256/" + layer["digest"][7:])
            layer["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            layer["urls"] = ["http://127.0.0.1:9/layer"]
            text = json.dumps(manifest).encode(); digest = hashlib.sha256(text).hexdigest()
            open("oci/blobs/sha256/" + digest, "wb").write(text)
            index["manifests"][0].update(digest="sha256:" + digest, size=len(text)); json.dump(index, open("oci/index.json", "w"))
            E
            python3 away.py; tar -C oci -cf away.tar .
            """)
        let run = try fixture.trireme("load", "-i", fixture.path + "/away.tar")
        #expect(run.status == 125)
        #expect(run.errorText.contains("[archive-invalid]") && run.errorText.contains("missing"), "\(run.errorText)")
        #expect(fixture.isStoreEmpty)
    }

    /// Names that differ only in how an accent is written are two files, also in the whole way round.
    @Test func composedAndDecomposedNames() throws {
        let fixture = try ImageFixture()
        try archive(
            fixture, "printf one > \"$(printf 'r/caf\\303\\251')\"; printf two > \"$(printf 'r/cafe\\314\\201')\"")
        #expect(try fixture.trireme("load", "-i", fixture.path + "/x.tar").status == 0)
        let kept = try fixture.shell(
            "cd store/layers/*; cat \"$(printf 'caf\\303\\251')\" \"$(printf 'cafe\\314\\201')\"")
        #expect(kept.outputText == "onetwo")
    }
}
