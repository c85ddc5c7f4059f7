import Foundation
import TestSupport
import Testing

// Rows of the import cases ("Hostile and odd inputs") and where each is tested. E = ImageFormatsTests/ExtractionTests,
// N = HostileNumberTests, C = CompressionTests, L = ImageLoadTests, F = ImageLoadFailureTests, S = ImageSaveTests,
// T = ImageStoreTests, H = this file.
//
// `../victim`, `a/../../victim`                       E aNameAboveTheRootIsRefused, F hostileLayers
// absolute entry                                       E absoluteNamesStayInside
// link `d -> /etc`, then `d/passwd`                    E aLinkAsParentIsFollowedInsideOnly
// hard link to `../../etc/passwd`                      E aHardLinkOutsideIsRefused, F hostileLayers
// hard link to a symbolic link                         E hardLinksShareAnInode
// chain of hard links, one whited out above            H linksSurviveAWhiteout
// `.wh.file`, `.wh.dir`, re-creation, same layer only  E whiteouts, L equalsUmoci
// `.wh..wh..opq` after siblings                        E opaqueInAnyOrder, L equalsUmoci
// bare `.wh.`                                          E aWhiteoutOfNothingIsRefused
// matrix of types                                      E aTypeReplacesAnother, L equalsUmoci
// `lib -> usr/lib`, later `lib/x`                      H aDirectoryOverALinkReplacesIt
// duplicate path                                       E aTypeReplacesAnother, H duplicatesAreNoted
// empty layer, 1024 zeros, no layers                   E emptyArchivesAreLayers, H anImageWithoutLayers
// gzip, zstd, plain, members, skippable frames         C, L everyArchiveForm
// media type lies                                      L everyArchiveForm (types are not believed), H whatIsNoImage
// bzip2, xz                                            C othersAreNamed
// wrong digests                                        F wrongDigests, damagedArchives
// wrong descriptor size                                F damagedArchives
// bombs                                                E limitsHold, N theLimitsAreTheImagesNotTheLayers, H bombs, F noSpace
// pax path of 4096, longlink 300                       E namesAreBytes, H pathsAsLongAsThereAre
// names of any bytes                                   E namesAreBytes
// sparse files                                         E sparseFiles, N aSparseMapThatCannotBe
// devices, FIFOs                                       E modesAndTimes
// set-id, capabilities                                 E modesAndTimes, overlayMarksCannotBeSmuggledIn
// modes of 000                                         E modesAndTimes, N whatCannotBeEnteredIsRemoved
// attributes                                           E overlayMarksCannotBeSmuggledIn
// nested index, attestations, foreign platforms        L theRightImageOfAnIndex
// artifacts, empty config, custom types                H whatIsNoImage
// several tags, links, `repositories`                  H aLegacyArchive, L everyArchiveForm
// Layers `../../x.tar`                                 F membersOutsideTheArchive
// filling one store from many processes                F twoLoadsAtOnce, killedAtAnyMoment
@Suite struct ImageHostileTests {
    private func load(_ fixture: ImageFixture, _ arguments: String...) throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme-cli"), "load"] + arguments, environment: ["TRIREME_STORE": fixture.store],
            directory: fixture.path)
    }

    /// What docker's and podman's overlay drivers and containerd do: a layer is unpacked by itself, so a
    /// directory of it, with an entry of its own or only implied, replaces a link of the layer below.
    @Test(arguments: ["lib/x", "lib lib/x"])
    func aDirectoryOverALinkReplacesIt(members: String) throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            """
            umoci init --layout oci; umoci new --image oci:i; mkdir -p a/usr/lib b/lib; echo low > a/usr/lib/low
            ln -s usr/lib a/lib; tar -C a -cf a.tar .; umoci raw add-layer --image oci:i a.tar
            echo up > b/lib/x; tar -C b --no-recursion -cf b.tar \(members); cp b.tar keep.tar
            skopeo copy -q oci:oci:i docker-archive:d.tar:x:1; mkdir d; tar -C d -xf d.tar; chmod -R u+w d
            umoci raw add-layer --image oci:i b.tar || true
            """)
        // umoci will not write the second form, so both are put together by hand.
        try fixture.shell(
            """
            cat > edit.py <<'E'
            import hashlib, json, os
            m = json.load(open("d/manifest.json")); c = m[0]["Config"]; config = json.load(open("d/" + c))
            config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(open("keep.tar", "rb").read()).hexdigest())
            config["history"] = []
            text = json.dumps(config).encode(); name = hashlib.sha256(text).hexdigest() + ".json"
            open("d/" + name, "wb").write(text); os.rename("keep.tar", "d/second.tar")
            m[0]["Config"] = name; m[0]["Layers"].append("second.tar"); json.dump(m, open("d/manifest.json", "w"))
            E
            python3 edit.py; tar -C d -cf d.tar .
            """)
        #expect(try load(fixture, "-i", "d.tar").status == 0)
        let facts = try JSONSerialization.jsonObject(with: fixture.trireme("image", "inspect", "x:1").output)
        let directories = try #require((facts as? [[String: Any]])?.first?["directories"] as? [String])
        let shown = try fixture.shell(
            "mkdir m; unshare --map-root-user --mount sh -ec 'mount -t overlay overlay -o ro,userxattr,lowerdir=\(directories.dropFirst().joined(separator: ":")) m; cd m; ls lib; test -d lib -a ! -L lib; ls usr/lib'"
        )
        #expect(shown.lines == ["x", "low"])
    }

    @Test func linksSurviveAWhiteout() throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            """
            umoci init --layout oci; umoci new --image oci:i; mkdir a b; echo same > a/1; ln a/1 a/2; ln a/2 a/3
            tar -C a -cf a.tar .; umoci raw add-layer --image oci:i a.tar; touch b/.wh.2; tar -C b -cf b.tar .wh.2
            umoci raw add-layer --image oci:i b.tar; skopeo copy -q oci:oci:i oci-archive:x.tar:x:1
            """)
        #expect(try load(fixture, "-i", "x.tar").status == 0)
        #expect(
            try fixture.shell("cat store/layers/*/1 store/layers/*/3; find store/layers -name 2 -type c | wc -l").lines
                == ["same", "same", "1"])
    }

    @Test func duplicatesAreNoted() throws {
        let fixture = try ImageFixture()
        try fixture.shell("mkdir a b; echo 1 > a/f; echo 2 > b/f; tar -C a -cf x.tar f; tar -C b -rf x.tar f")
        let run = try fixture.trireme("image", "import", fixture.path + "/x.tar", "x")
        #expect(run.status == 0 && run.errorText.contains("1 entries stand twice"))
        #expect(try fixture.shell("cat store/layers/*/f").outputText == "2\n")
    }

    @Test func anImageWithoutLayers() throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            "umoci init --layout oci; umoci new --image oci:i; skopeo copy -q oci:oci:i oci-archive:x.tar:x:1")
        #expect(try load(fixture, "-i", "x.tar").status == 0)
        #expect(try fixture.trireme("image", "verify").status == 0)
    }

    @Test func bombs() throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            """
            umoci init --layout oci; umoci new --image oci:i; mkdir a; truncate -s 300M a/zeros; tar -C a -cf a.tar zeros
            umoci raw add-layer --image oci:i a.tar; skopeo copy -q oci:oci:i oci-archive:size.tar:x:1
            mkdir b; (cd b; seq 3000 | xargs touch); tar -C b -cf b.tar .; umoci init --layout oci2; umoci new --image oci2:i
            umoci raw add-layer --image oci2:i b.tar; skopeo copy -q oci:oci2:i oci-archive:count.tar:x:1
            """)
        for (arguments, says) in [
            (["-i", "size.tar", "--max-size", "100M"], "--max-size"),
            (["-i", "count.tar", "--max-files", "1000"], "--max-files"),
        ] {
            let run = try runProgram(
                [try Programs.path("trireme-cli"), "load"] + arguments, environment: ["TRIREME_STORE": fixture.store],
                directory: fixture.path)
            #expect(
                run.status == 125 && run.errorText.contains("[archive-limit]") && run.errorText.contains(says),
                "\(run.errorText)")
            #expect(fixture.isStoreEmpty)
        }
        // A pipe without an end is not waited for.
        let endless = try fixture.shell("timeout 60 \(try Programs.path("trireme-cli")) load -i /dev/zero || echo $?")
        #expect(endless.outputText == "125\n")
        #expect(try load(fixture, "-i", "size.tar", "--max-size", "many").status == 125)
    }

    @Test func pathsAsLongAsThereAre() throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            """
            cat > t.py <<'E'
            import io, tarfile
            with tarfile.open("x.tar", "w", format=tarfile.PAX_FORMAT) as t:
                for name in ["/".join(["d" * 250] * 15) + "/" + "n" * 240, "short"]:
                    t.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
            with tarfile.open("long.tar", "w", format=tarfile.PAX_FORMAT) as t:
                t.addfile(tarfile.TarInfo("/".join(["d" * 250] * 20)), io.BytesIO(b""))
            E
            python3 t.py
            """)
        #expect(try fixture.trireme("image", "import", fixture.path + "/x.tar", "x").status == 0)
        #expect(try fixture.trireme("image", "rm", "x").status == 0)
        #expect(fixture.isStoreEmpty)
        let long = try fixture.trireme("image", "import", fixture.path + "/long.tar", "x")
        #expect(long.status == 125 && long.errorText.contains("name too long"), "\(long.errorText)")
        #expect(fixture.isStoreEmpty)
    }

    @Test func whatIsNoImage() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            cat > edit.py <<'E'
            import hashlib, json, shutil, sys
            def put(d, value):
                text = value if isinstance(value, bytes) else json.dumps(value).encode()
                h = hashlib.sha256(text).hexdigest(); open(f"{d}/blobs/sha256/{h}", "wb").write(text)
                return {"digest": "sha256:" + h, "size": len(text)}
            def make(name, edit):
                shutil.copytree("oci", name)
                index = json.load(open(f"{name}/index.json")); first = index["manifests"][0]
                manifest = json.load(open(f"{name}/blobs/sha256/{first['digest'][7:]}"))
                edit(name, manifest, index); first.update(put(name, manifest)); json.dump(index, open(f"{name}/index.json", "w"))
            make("artifact", lambda d, m, i: m["config"].update(mediaType="application/vnd.oci.empty.v1+json", **put(d, b"{}")))
            make("emptyconfig", lambda d, m, i: m["config"].update(put(d, b"{}")))
            make("custom", lambda d, m, i: m["layers"][0].update(mediaType="application/vnd.helm.chart"))
            make("gzipped", lambda d, m, i: m["layers"][0].update(mediaType="application/vnd.oci.image.layer.v1.tar+zstd"))
            make("deep", lambda d, m, i: m["config"].update(put(d, b"[" * 100000)))
            make("twice", lambda d, m, i: m["config"].update(put(d, b'{"architecture":"s390x","architecture":"sparc","os":"linux"}')))
            make("many", lambda d, m, i: i.update(manifests=[dict(i["manifests"][0], annotations={"n": str(n)}) for n in range(5000)]))
            make("control", lambda d, m, i: m["config"].update(put(d, b'{"architecture":"\\\\u001b[2Jx","os":"linux"}')))
            E
            python3 edit.py
            """)
        for (layout, code) in [
            ("artifact", "archive-unsupported"), ("emptyconfig", "archive-invalid"), ("custom", "archive-unsupported"),
            ("deep", "archive-invalid"), ("twice", "wrong-architecture"), ("many", "archive-limit"),
            ("control", "wrong-architecture"),
        ] {
            let run = try load(fixture, "-i", layout)
            #expect(run.status == 125 && run.errorText.contains("[\(code)]"), "\(layout): \(run.errorText)")
            #expect(!run.errorText.contains("\u{1B}"))
            #expect(fixture.isStoreEmpty, "\(layout)")
        }
        // The media type is not believed where the bytes say otherwise.
        #expect(try load(fixture, "-i", "gzipped").status == 0)
    }

    @Test func aLegacyArchive() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            skopeo copy -q oci:oci:image docker-archive:d.tar:x:1; mkdir d; tar -C d -xf d.tar; chmod -R u+w d; rm d/manifest.json
            echo '{"x":{"1":"abc"}}' > d/repositories; tar -C d -cf old.tar .
            """)
        let run = try load(fixture, "-i", "old.tar")
        #expect(run.status == 125 && run.errorText.contains("[archive-unsupported]") && run.errorText.contains("1.10"))
    }

    /// An archive whose first image is there already and whose second is not: nothing of one leaks into the other.
    @Test func severalImagesOneOfThemKnown() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            skopeo copy -q oci:oci:image docker-archive:one.tar:first:1
            mkdir c; echo c > c/c; tar -C c -cf c.tar .; umoci raw add-layer --image oci:image c.tar
            umoci config --image oci:image --config.user root
            skopeo copy -q oci:oci:image oci:both:second; skopeo copy -q docker-archive:one.tar oci:both:first
            """)
        #expect(try load(fixture, "-i", "one.tar").status == 0)
        for _ in 0..<2 { #expect(try load(fixture, "-i", "both").status == 0) }
        #expect(fixture.entries("tmp") == [])
        #expect(try fixture.trireme("image", "verify").status == 0)
        let fresh = try runProgram(
            [try Programs.path("trireme-cli"), "load", "-i", "both"],
            environment: ["TRIREME_STORE": fixture.path + "/fresh"],
            directory: fixture.path)
        #expect(fresh.status == 0)
        try fixture.shell(
            "for d in fresh/images/*/prepared; do h=$(basename $(dirname $d)); diff -r $d store/images/$h/prepared; done"
        )
    }

    @Test func signatures() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            "skopeo copy -q oci:oci:image oci:signed:x; skopeo copy -q oci:oci:image oci-archive:x.tar:x:1")
        #expect(try load(fixture, "-i", "x.tar").status == 0)
        try fixture.shell(
            """
            openssl ecparam -name prime256v1 -genkey -noout -out ec.key; openssl pkey -in ec.key -pubout -out ec.pub
            openssl genpkey -algorithm ed25519 -out ed.key; openssl pkey -in ed.key -pubout -out ed.pub
            openssl ecparam -name prime256v1 -genkey -noout | openssl pkey -pubout -out other.pub
            cat > sign.py <<'E'
            import base64, hashlib, json, shutil, subprocess
            def put(d, value):
                text = value if isinstance(value, bytes) else json.dumps(value).encode()
                h = hashlib.sha256(text).hexdigest(); open(f"{d}/blobs/sha256/{h}", "wb").write(text)
                return {"digest": "sha256:" + h, "size": len(text)}
            image = json.load(open("signed/index.json"))["manifests"][0]["digest"]
            def sign(d, key, digest, raw):
                shutil.copytree("signed", d)
                payload = json.dumps({"critical": {"identity": {"docker-reference": "host/x"}, "image": {"docker-manifest-digest": digest},
                    "type": "cosign container image signature"}, "optional": None}).encode()
                open("payload", "wb").write(payload)
                command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", "payload", "-out", "sig"]
                if not raw: command = ["openssl", "dgst", "-sha256", "-sign", key, "-out", "sig", "payload"]
                subprocess.run(command, check=True)
                layer = {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                    "annotations": {"dev.cosignproject.cosign/signature": base64.b64encode(open("sig", "rb").read()).decode()}, **put(d, payload)}
                manifest = {"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **put(d, b"{}")}, "layers": [layer]}
                index = json.load(open(d + "/index.json"))
                index["manifests"].append({"mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "annotations": {"org.opencontainers.image.ref.name": image.replace(":", "-") + ".sig"}, **put(d, manifest)})
                json.dump(index, open(d + "/index.json", "w"))
            sign("ec", "ec.key", image, False); sign("ed", "ed.key", image, True); sign("stolen", "ec.key", "sha256:" + "0" * 64, False)
            E
            python3 sign.py
            """)
        func verify(_ key: String, _ layout: String) throws -> ProgramRun {
            try fixture.trireme(
                "image", "verify", "--key", fixture.path + "/" + key, "--signatures", fixture.path + "/" + layout, "x:1"
            )
        }
        #expect(try verify("ec.pub", "ec").outputText.contains("is signed as host/x"))
        #expect(try verify("ed.pub", "ed").status == 0)
        for (key, layout) in [("other.pub", "ec"), ("ed.pub", "ec"), ("ec.pub", "stolen"), ("ec.pub", "oci")] {
            let run = try verify(key, layout)
            #expect(
                run.status == 125 && run.errorText.contains("[image-unsigned]"), "\(key) \(layout): \(run.errorText)")
        }
        #expect(try verify("ec.key", "ec").errorText.contains("[usage]"))
        // Signatures beside an image do not keep it from being loaded.
        #expect(try load(fixture, "-i", "ec").status == 0)
    }

    @Test func lint() throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            """
            mkdir -p r/etc r/home/.ssh r/usr/bin; cp /bin/true r/usr/bin/true; cp /bin/true r/usr/bin/foreign
            printf '\\267\\000' | dd of=r/usr/bin/foreign bs=1 seek=18 conv=notrunc status=none
            printf -- '-----BEGIN OPENSSH PRIVATE KEY-----\\nx\\n' > r/home/.ssh/key; echo 'root:$6$x:1::::::' > r/etc/shadow
            tar -C r -cf r.tar .
            """)
        try fixture.trireme("image", "import", fixture.path + "/r.tar", "x", "-c", "ENV DB_PASSWORD=hunter2 PLAIN=1")
        let run = try fixture.trireme("image", "lint", "x", "--format", "{{.Level}} {{.Rule}} {{.Path}}")
        #expect(run.status == 1)
        for line in [
            "error private-key /home/.ssh/key", "error password /etc/shadow", "error password ENV DB_PASSWORD",
            "warning command ",
        ] {
            #expect(run.lines.contains(line), "\(line) in \(run.outputText)")
        }
        #if arch(x86_64)
            #expect(run.lines.contains("warning architecture /usr/bin/foreign"))
        #endif
        #expect(run.outputText.contains("warning library /usr/bin/true"))
        try fixture.shell("rm -r r/home r/etc r/usr/bin/*; tar -C r -cf r.tar .")
        try fixture.trireme("image", "import", fixture.path + "/r.tar", "y", "-c", "CMD [\"true\"]")
        #expect(try fixture.trireme("image", "lint", "y").status == 0)
    }
}
