import Foundation
import Glibc
import TestSupport
import Testing

/// What images leave on a disk that other users can reach: nothing they can write to, nothing privileged.
@Suite struct LeftOnDiskTests {
    let fixture: ImageFixture

    init() throws {
        fixture = try ImageFixture()
        try fixture.shell(
            """
            chmod 755 .; umoci init --layout oci; umoci new --image oci:image; mkdir -p a/bin a/open a/drop
            cp /bin/true a/bin/loose; cp /bin/true a/bin/set; chmod 666 a/bin/loose; chmod 777 a/open; chmod 6755 a/bin/set
            chmod 1777 a/drop; echo x >a/open/x; setfattr -n user.kind -v some a/open/x
            tar --xattrs --xattrs-include='user.*' -C a -cf a.tar .; umoci raw add-layer --image oci:image a.tar
            skopeo copy -q oci:oci:image oci-archive:x.tar:x:1
            """)
    }

    /// Paths below `directory` that others or a group may write to, or that are set-id.
    private func open(_ directory: String) throws -> String {
        try fixture.shell("find \(directory) ! -type l ! -type c -perm /6022 -printf '%m %P\\n'").outputText
    }

    @Test("A store is its user's own; what a layer says of modes is kept in it")
    func ownStore() throws {
        #expect(try fixture.trireme("load", "-q", "-i", "x.tar".inFixture(fixture)).status == 0)
        #expect(try fixture.shell("stat -c %a store").outputText == "700\n")
        let modes = "stat -c %a store/layers/*/bin/loose store/layers/*/open store/layers/*/drop"
        #expect(try fixture.shell(modes).lines == ["666", "777", "1777"])
        #expect(try fixture.trireme("image", "verify", "x:1").status == 0)
    }

    @Test("In a store that others enter, nothing is theirs to write; the modes are recorded")
    func sharedStore() throws {
        try fixture.shell("mkdir -m 755 store")
        #expect(try fixture.trireme("load", "-q", "-i", "x.tar".inFixture(fixture)).status == 0)
        #expect(try open("store") == "")
        let recorded = "getfattr --only-values -n user.trireme.mode store/layers/*/bin/loose"
        #expect(try fixture.shell(recorded).outputText == "666")
        #expect(try fixture.trireme("image", "verify", "x:1").status == 0)
        // As its author meant it where it goes on.
        #expect(try fixture.trireme("image", "convert", "-q", "x:1", fixture.path + "/x.sqfs").status == 0)
        let listing = try fixture.shell("unsquashfs -lls x.sqfs").outputText
        #expect(listing.contains("-rw-rw-rw-") && listing.contains("drwxrwxrwt"))
    }

    @Test("Another user replaces no program", .enabled(if: hasSecondUser))
    func anotherUser() throws {
        let attack = "for f in \(fixture.path)/store/layers/*/bin/loose; do echo bad >>\"$f\"; done; "
        let create = "for d in \(fixture.path)/store/layers/*/open; do echo bad >\"$d/new\"; done"
        for isShared in [false, true] {
            try fixture.shell("chmod -R u+w store 2>/dev/null || true; rm -rf store")
            if isShared { try fixture.shell("mkdir -m 755 store") }
            #expect(try fixture.trireme("load", "-q", "-i", "x.tar".inFixture(fixture)).status == 0)
            try asSecondUser(["sh", "-c", attack + create])
            try fixture.shell("cmp store/layers/*/bin/loose /bin/true; [ ! -e store/layers/*/open/new ]")
        }
        // That the account can do what it is allowed to shows that it tried.
        try fixture.shell("mkdir -m 777 door")
        try asSecondUser(["sh", "-c", "echo here >\(fixture.path)/door/file"])
        #expect(try fixture.shell("cat door/file").outputText == "here\n")
    }

    @Test("A directory made of an image holds no set-id file and nothing others write to, and says so")
    func directory() throws {
        let run = try fixture.trireme("image", "convert", "x.tar".inFixture(fixture), fixture.path + "/out")
        #expect(run.status == 0, "\(run.errorText)")
        #expect(run.outputText.contains("without set-id bits of 1"), "\(run.outputText)")
        #expect(try open("out") == "")
        #expect(
            try fixture.shell("getfattr --only-values -n user.trireme.mode out/bin/set out/open").outputText
                == "6755777")
        #expect(try fixture.shell("getfattr --only-values -n user.kind out/open/x").outputText == "some")
    }

    @Test("SIF and plain tar are no directories to be made")
    func otherTargets() throws {
        for name in ["out.sif", "out.tar"] {
            let run = try fixture.trireme(
                "image", "convert", "x.tar".inFixture(fixture), fixture.path + "/" + name)
            #expect(run.status == 125 && run.errorText.contains("[conversion-refused]"), "\(run.errorText)")
            #expect(!FileManager.default.fileExists(atPath: fixture.path + "/" + name))
        }
    }

    @Test("A conversion that is killed leaves nothing; what an earlier one left is swept")
    func killed() throws {
        let program = try Programs.path("trireme-cli")
        try fixture.shell(
            """
            mkdir -p big/etc; head -c 60000000 /dev/urandom >big/etc/random
            \(program) image convert --level 19 ./big big.sqfs >/dev/null 2>&1 & sleep 0.4; kill -9 $!; wait $! || true
            test ! -e big.sqfs; touch x.sqfs.partial-77 y.sqfs.partial-78 my.partial-notes
            TRIREME_STORE=$PWD/store \(program) image convert -q x.tar x.sqfs
            """)
        #expect(try fixture.shell("ls | grep -F .partial-").lines == ["my.partial-notes", "y.sqfs.partial-78"])
        let clean = try runProgram(
            [program, "clean"], environment: ["TRIREME_STORE": fixture.store, "TRIREME_TMPDIR": fixture.path],
            directory: fixture.path)
        #expect(clean.status == 0, "\(clean.errorText)")
        #expect(try fixture.shell("ls | grep -F .partial-").lines == ["my.partial-notes"])
    }

    @Test(
        "A directory or an archive whose making is killed is not there; what is left of it goes with the next one, or with clean"
    )
    func killedDirectory() throws {
        let program = try Programs.path("trireme-cli")
        try fixture.shell(
            """
            mkdir -p big; head -c 3000000 /dev/urandom >big/z; echo a >big/a; tar -C big -cf big.tar .
            \(program) image convert -q ./big big.sqfs
            TRIREME_STORE=$PWD/store \(program) image import big.tar big:1 >/dev/null; echo old >saved.tar
            """)
        /// Half way, whatever the machine's speed: SIGXFSZ (setrlimit(2)) ends it at half a megabyte of a file.
        func kill(_ words: String) throws {
            let killed = try fixture.shell(
                """
                export TRIREME_STORE=$PWD/store
                (ulimit -c 0; ulimit -f 1000; exec env --default-signal=XFSZ \(program) \(words)) 2>/dev/null || echo $?
                """)
            #expect(killed.lines == ["\(128 + SIGXFSZ)"], "\(words)")
        }
        func partials() throws -> [String] { try fixture.shell("ls | grep -F .partial- || true").lines }
        try kill("image convert -q ./big.sqfs out")
        #expect(try partials().count == 1)
        #expect(try fixture.shell("ls -d out 2>/dev/null || echo none").outputText == "none\n")
        let again = try runProgram([program, "image", "convert", "-q", "./big.sqfs", "out/"], directory: fixture.path)
        #expect(again.status == 0, "\(again.errorText)")
        #expect(try partials() == [])
        try fixture.shell("cmp out/z big/z; [ $(stat -c %a out) = 755 ]")

        try kill("image convert -q ./big.sqfs other")
        try fixture.shell("mkdir mine.partial-notes living.partial-1")
        #expect(try partials().count == 3)
        let held = "flock living.partial-1 \(program) clean"
        try fixture.shell("export TRIREME_STORE=$PWD/store TRIREME_TMPDIR=$PWD HOME=$PWD; " + held)
        #expect(try partials() == ["living.partial-1", "mine.partial-notes"])

        try kill("save -q -o saved.tar big:1")
        #expect(try partials().count == 3)
        #expect(try fixture.shell("cat saved.tar").outputText == "old\n")
        #expect(try fixture.trireme("save", "-q", "-o", fixture.path + "/saved.tar", "big:1").status == 0)
        #expect(try partials().count == 2)
        #expect(try fixture.shell("tar -tf saved.tar | grep -c manifest.json").outputText == "1\n")
    }
}

extension String {
    fileprivate func inFixture(_ fixture: ImageFixture) -> String { "\(fixture.path)/\(self)" }
}
