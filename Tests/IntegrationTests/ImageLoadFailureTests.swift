import Foundation
import TestSupport
import Testing

@Suite struct ImageLoadFailureTests {
    /// An archive that cannot be loaded: what it says, and that nothing of it stays.
    private func expectRefused(
        _ fixture: ImageFixture, _ file: String, code: String, says: [String],
        _ location: SourceLocation = #_sourceLocation
    ) throws {
        let run = try fixture.trireme("image", "load", "-i", fixture.path + "/" + file)
        #expect(run.status == 125, sourceLocation: location)
        #expect(run.output.isEmpty, sourceLocation: location)
        #expect(
            run.errorText.contains("[\(code)]") && run.errorText.contains(file), "\(run.errorText)",
            sourceLocation: location)
        for words in says { #expect(run.errorText.contains(words), "\(run.errorText)", sourceLocation: location) }
        #expect(fixture.isStoreEmpty, "\(file) left something", sourceLocation: location)
    }

    @Test func damagedArchives() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            skopeo copy -q oci:oci:image oci-archive:good.tar:x:1; skopeo copy -q oci:oci:image docker-archive:docker.tar:x:1
            half() { head -c $(($(stat -c %s $1) / 2)) $1; }
            gzip -k good.tar; half good.tar > cut.tar; half docker.tar > cutdocker.tar; half good.tar.gz > cut.tar.gz
            echo nonsense > text.tar; : > empty.tar; tar -cf other.tar oci/index.json
            cp -r oci flip; big=$(ls -S flip/blobs/sha256/* | head -1); printf '\\377\\377' | dd of=$big bs=1 seek=$(($(stat -c %s $big) / 2)) conv=notrunc status=none
            tar -C flip -cf flip.tar .
            cp -r oci grow; big=$(ls -S grow/blobs/sha256/* | head -1); echo more >> $big; tar -C grow -cf grow.tar .
            cp -r oci gone; rm $(ls -S gone/blobs/sha256/* | head -1); tar -C gone -cf gone.tar .
            """)
        for file in ["cut.tar", "cutdocker.tar", "cut.tar.gz"] {
            try expectRefused(fixture, file, code: "archive-invalid", says: ["truncated"])
        }
        try expectRefused(fixture, "text.tar", code: "archive-invalid", says: [])
        try expectRefused(fixture, "empty.tar", code: "archive-invalid", says: ["neither manifest.json"])
        try expectRefused(fixture, "other.tar", code: "archive-invalid", says: ["neither manifest.json"])
        try expectRefused(
            fixture, "flip.tar", code: "archive-invalid", says: ["layer digest mismatch", "layer 1 of 2"])
        try expectRefused(fixture, "grow.tar", code: "archive-invalid", says: ["descriptor says"])
        try expectRefused(fixture, "gone.tar", code: "archive-invalid", says: ["missing"])
        try expectRefused(fixture, "nowhere.tar", code: "archive-unreadable", says: ["no such file"])
    }

    @Test func wrongDigests() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        // A docker-archive whose configuration promises another layer, under a name that is no digest.
        try fixture.shell(
            """
            skopeo copy -q oci:oci:image docker-archive:docker.tar:x:1; mkdir d; tar -C d -xf docker.tar
            chmod -R u+w d; config=$(ls d/*.json | grep -v manifest | head -1); first=$(basename $config)
            sed -E 's/("diff_ids":\\["sha256:)[0-9a-f]{8}/\\100000000/' $config > d/other.json
            sed "s/$first/other.json/" d/manifest.json > d/m; mv d/m d/manifest.json; tar -C d -cf diffid.tar .
            cp d/other.json d/$first; sed "s/other.json/$first/" d/manifest.json > d/m; mv d/m d/manifest.json; tar -C d -cf config.tar .
            """)
        try expectRefused(
            fixture, "diffid.tar", code: "archive-invalid", says: ["diff-id mismatch", "sha256:00000000"])
        try expectRefused(fixture, "config.tar", code: "archive-invalid", says: ["config digest mismatch"])
    }

    @Test func membersOutsideTheArchive() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            skopeo copy -q oci:oci:image docker-archive:docker.tar:x:1; mkdir d; tar -C d -xf docker.tar; chmod -R u+w d; cp d/manifest.json m
            sed -E 's|"Layers":\\["[^"]*"|"Layers":["../../x.tar"|' m > d/manifest.json; tar -C d -cf up.tar .
            sed -E 's|"Layers":\\["[^"]*"|"Layers":["/etc/passwd"|' m > d/manifest.json; tar -C d -cf absolute.tar .
            sed -E 's|"Layers":\\["[^"]*"|"Layers":["link"|' m > d/manifest.json; ln -s ../../etc/passwd d/link; tar -C d -cf link.tar .
            """)
        try expectRefused(fixture, "up.tar", code: "archive-invalid", says: ["outside the archive", "../../x.tar"])
        try expectRefused(fixture, "absolute.tar", code: "archive-invalid", says: ["outside the archive"])
        try expectRefused(fixture, "link.tar", code: "archive-invalid", says: ["link"])
    }

    @Test func hostileLayers() throws {
        let fixture = try ImageFixture()
        for (name, make, says) in [
            ("up", "echo x > v; tar --transform 's|v|../victim|' -P -cf h.tar v", "../victim"),
            ("link", "echo x > v; ln v w; tar --transform 's|^v$|../../etc/passwd|RSh' -P -cf h.tar v w", "etc/passwd"),
        ] {
            try fixture.shell(
                "rm -rf oci v w; umoci init --layout oci; umoci new --image oci:i; \(make); umoci raw add-layer --image oci:i h.tar; skopeo copy -q oci:oci:i oci-archive:\(name).tar:x:1"
            )
            try expectRefused(fixture, "\(name).tar", code: "archive-invalid", says: ["layer 1 of 1", says])
        }
        #expect(!FileManager.default.fileExists(atPath: fixture.store + "/victim"))
    }

    @Test func noSpace() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            head -c 6000000 /dev/urandom > a/big; tar -C a -cf big.tar .; umoci raw add-layer --image oci:image big.tar
            head -c 300000000 /dev/zero > a/big; tar -C a -cf big.tar .; umoci raw add-layer --image oci:image big.tar
            skopeo copy -q oci:oci:image oci-archive:x.tar:x:1; mkdir small
            """)
        for size in ["4m", "40m"] {
            let run = try runProgram(
                [
                    "unshare", "--map-root-user", "--mount", "sh", "-c",
                    "mount -t tmpfs -o size=\(size) t small; TRIREME_STORE=$PWD/small/store \(try Programs.path("trireme-cli")) load -i x.tar; echo $?; find small/store/tmp small/store/layers small/store/plans small/store/images -mindepth 1",
                ], directory: fixture.path)
            #expect(run.outputText == "125\n", "\(run.outputText) \(run.errorText)")
            #expect(run.errorText.contains("[no-space]") && run.errorText.contains("small/store"))
            #expect(run.errorText.contains("need ") && run.errorText.contains("have "))
        }
    }

    @Test func killedAtAnyMoment() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            """
            mkdir c; for i in $(seq 1500); do echo $i > c/f$i; done; head -c 20000000 /dev/urandom > c/big
            tar -C c -cf c.tar .; umoci raw add-layer --image oci:image c.tar; skopeo copy -q oci:oci:image oci-archive:x.tar:x:1
            """)
        let program = try Programs.path("trireme-cli")
        let start = ContinuousClock.now
        #expect(try fixture.trireme("load", "-i", fixture.path + "/x.tar").status == 0)
        let whole = ContinuousClock.now - start
        let seconds = Double(whole.components.attoseconds) / 1e18 + Double(whole.components.seconds)
        #expect(try fixture.trireme("image", "rm", "x:1").status == 0)
        let rounds = ProcessInfo.processInfo.environment["TRIREME_TEST_FULL"] == nil ? 20 : 200
        var killed = 0
        for _ in 0..<rounds {
            let delay = Double.random(in: 0...seconds * 1.2)
            let run = try runProgram(
                [
                    "timeout", "-s", "KILL", String(format: "%.4f", delay), program, "load", "-i",
                    fixture.path + "/x.tar",
                ],
                environment: ["TRIREME_STORE": fixture.store])
            if run.status == 137 { killed += 1 }
            let list = try fixture.trireme("images")
            #expect(list.status == 0)
            let verified = try fixture.trireme("image", "verify")
            #expect(verified.status == 0, "killed after \(delay) s: \(verified.outputText) \(verified.errorText)")
            if list.lines.count > 1 {
                // What is listed is whole.
                #expect(try fixture.trireme("image", "inspect", "x:1").status == 0)
                try fixture.shell("test $(ls store/layers | wc -l) = 3")
                #expect(try fixture.trireme("image", "rm", "x:1").status == 0)
            }
        }
        #expect(killed > 3)
        let again = try fixture.trireme("load", "-i", fixture.path + "/x.tar")
        #expect(again.status == 0, "\(again.errorText)")
        try fixture.verifyStore(names: ["x:1"])
        #expect(try fixture.trireme("image", "rm", "x:1").status == 0)
        #expect(fixture.isStoreEmpty)
    }

    /// Every step by which a load or a removal shows in the store, each the last that its process did.
    @Test(.enabled(if: RunCostTests.canTrace, "strace is missing or may not trace"))
    func killedAtEachStep() throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            """
            umoci init --layout oci; umoci new --image oci:image; mkdir a; echo x > a/f; tar -C a -cf a.tar .
            umoci raw add-layer --image oci:image a.tar; skopeo copy -q oci:oci:image oci-archive:x.tar:x:1
            """)
        let archive = fixture.path + "/x.tar"
        for (call, verb) in [
            ("rename", ["load", "-i", archive]), ("rename", ["rmi", "x:1"]), ("unlink", ["rmi", "x:1"]),
        ] {
            var kills = 0
            for step in 1...40 {
                if verb[0] == "rmi" { #expect(try fixture.trireme("load", "-i", archive).status == 0) }
                let inject = "inject=\(call):signal=KILL:when=\(step)"
                let run = try runProgram(
                    ["strace", "-f", "-o", "/dev/null", "-e", "trace=\(call)", "-e", inject]
                        + [try Programs.path("trireme-cli")] + verb,
                    environment: ["TRIREME_STORE": fixture.store, "SWIFT_BACKTRACE": "enable=no"])
                let verified = try fixture.trireme("image", "verify")
                #expect(
                    verified.status == 0,
                    "\(verb[0]) killed at \(call) \(step): \(verified.outputText) \(verified.errorText)")
                // What is listed is whole, and what is not is gone with its killer's leavings.
                let isListed = try fixture.trireme("images").lines.count > 1
                #expect(fixture.entries("images").count == (isListed ? 1 : 0), "\(verb[0]), \(call) \(step)")
                #expect(fixture.entries("layers").count == (isListed ? 1 : 0), "\(verb[0]), \(call) \(step)")
                if isListed { #expect(try fixture.trireme("rmi", "x:1").status == 0) }
                #expect(fixture.isStoreEmpty, "\(verb[0]), \(call) \(step)")
                if run.status == 0 { break }
                #expect(run.status == 137, "\(run.errorText)")
                kills += 1
            }
            #expect((3..<40).contains(kills), "\(verb[0]) was killed \(kills) times")
        }
    }

    @Test func twoLoadsAtOnce() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        try fixture.shell(
            "head -c 20000000 /dev/urandom > a/big; tar -C a -cf big.tar .; umoci raw add-layer --image oci:image big.tar; skopeo copy -q oci:oci:image oci-archive:x.tar:x:1"
        )
        let program = try Programs.path("trireme-cli")
        let run = try fixture.shell(
            """
            export TRIREME_STORE=$PWD/store
            seq 4 | xargs -P 4 -I{} \(program) load -i x.tar
            """)
        #expect(run.lines.filter { $0 == "Loaded image: x:1" }.count == 4)
        try fixture.verifyStore(names: ["x:1"])
        #expect(fixture.entries("layers").count == 3 && fixture.entries("images").count == 1)
    }
}
