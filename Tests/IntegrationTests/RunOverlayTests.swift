import Foundation
import LaunchPlan
import TestSupport
import Testing

/// Where a container may write, and what it sees when it may not.
@Suite struct RunOverlayTests {
    let store: HandmadeStore
    let overlay: TemporaryDirectory

    init() throws {
        store = try HandmadeStore()
        // Not in the fixture's directory: the test of a foreign owner makes that one read-only.
        overlay = try TemporaryDirectory()
    }

    @Test func changesStayInTheDirectory() throws {
        let path = overlay.path
        #expect(
            try store.trireme("run", "--overlay", path, "prepared", "probe", "write", "/bin/kept").lines == ["written"])
        for image in ["prepared", "plain"] {
            #expect(
                try store.trireme("run", "--overlay", path, image, "probe", "stat", "/bin/kept").status == 0, "\(image)"
            )
        }
        #expect(try store.trireme("run", "prepared", "probe", "stat", "/bin/kept").lines == ["ENOENT"])
        #expect(
            try store.trireme("run", "--overlay", path + ":ro", "prepared", "probe", "stat", "/bin/kept").status == 0)
        #expect(
            try store.trireme("run", "--overlay", path + ":ro", "prepared", "probe", "write", "/bin/more").lines == [
                "EROFS"
            ])
        #expect(FileManager.default.fileExists(atPath: path + "/upper/bin/kept"))
    }

    /// The kernel says who has it, for exactly as long as the other container lives.
    @Test func oneWriterAtATime() throws {
        let key = "overlay-\(getpid())"
        let script = """
            "$0" run --overlay "$1" prepared probe listen "$2" >"$1.ready" & child=$!
            i=0; until grep -q listening "$1.ready" || [ $i = 400 ]; do sleep 0.05; i=$((i+1)); done
            "$0" run --overlay "$1" prepared probe exit 0; echo "second $?"
            "$0" run --overlay "$1:ro" prepared probe exit 0; echo "reader $?"
            kill -9 $child; wait $child 2>/dev/null
            i=0; until "$0" run --overlay "$1" prepared probe exit 0 2>/dev/null || [ $i = 600 ]; do sleep 0.05; i=$((i+1)); done
            "$0" run --overlay "$1" prepared probe exit 0; echo "later $?"; rm -f "$1.ready"
            """
        let run = try runProgram(
            ["sh", "-c", script, try Programs.path("trireme"), overlay.path, key],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home, limitSeconds: 120)
        #expect(run.lines == ["second 125", "reader 0", "later 0"], "\(run.errorText)")
        #expect(run.errorText.contains("[overlay-busy]"))
    }

    @Test func refusalsSayWhy() throws {
        for (text, word) in [
            ("/no/such/overlay", "no such file"), (store.path + "/layers/base/bin/probe", "not a directory"),
            (overlay.path + ":ro", "nothing was ever written"),
        ] {
            let run = try store.trireme("run", "--overlay", text, "prepared", "true")
            #expect(run.status == 125)
            #expect(run.errorText.contains(word), "\(text): \(run.errorText)")
        }
        let both = try store.trireme("run", "--overlay", overlay.path, "--writable-tmpfs", "prepared", "true")
        #expect(both.status == 125)
    }

    @Test(.enabled(if: geteuid() != 0, "root may write everywhere")) func aPlaceOfSomebodyElseIsRefused() throws {
        let run = try store.trireme("run", "--overlay", "/usr/share", "prepared", "true")
        #expect(run.status == 125)
        #expect(run.errorText.contains("[overlay-refused]") && run.errorText.contains("/usr/share"), "\(run.errorText)")
    }

    /// A full disk is the application's to see, and the launcher's to name when it meets it itself.
    @Test func fullDisksAreNamed() throws {
        let script = """
            set -e
            mount -t tmpfs -o size=64k,nr_inodes=12 small "$1"; mkdir "$1/data"
            "$0" run -B "$1/data:/srv" prepared probe fill /srv/x; rm "$1/data/x"
            for n in 1 2 3 4 5 6 7 8 9 10 11 12; do touch "$1/data/$n" || break; done 2>/dev/null
            "$0" run -B "$1/data:/srv" prepared probe write /srv/new
            "$0" run --overlay "$1" prepared true || echo "status $?"
            """
        let run = try runProgram(
            ["unshare", "-U", "-r", "-m", "sh", "-c", script, try Programs.path("trireme"), overlay.path],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home, limitSeconds: 120)
        #expect(run.lines == ["ENOSPC", "ENOSPC", "status 125"], "\(run.errorText)")
        #expect(run.errorText.contains("no space left on device [container-space]"), "\(run.errorText)")
        #expect(run.errorText.contains(overlay.path))
    }

    @Test func dataOfAnotherImage() throws {
        let image = try ImageFixture()
        try image.makeImage()
        _ = try image.shell("skopeo copy -q oci:oci:image oci-archive:one.tar:one:1")
        _ = try image.trireme("load", "-q", "-i", image.path + "/one.tar")
        for file in ["plans", "images", "layers"] {
            _ = try runProgram(["cp", "-a", image.store + "/" + file + "/.", store.path + "/" + file])
        }
        let run = try store.trireme("run", "--data", "one:1:/data", "prepared", "probe", "cat", "/data/lower/stay")
        #expect(run.outputText == "stay\n", "\(run.errorText)")
        // Stacked as the image's root is: what an upper layer removed is gone.
        #expect(
            try store.trireme("run", "--data", "one:1:/data", "prepared", "probe", "stat", "/data/lower/gone").lines
                == ["ENOENT"])
        let mount = "type=image,source=one:1,target=/data"
        #expect(
            try store.trireme("run", "--mount", mount, "prepared", "probe", "cat", "/data/opaque/new").outputText
                == "new\n")
        #expect(try store.trireme("run", "--mount", mount, "prepared", "probe", "write", "/data/x").lines == ["EROFS"])
        // Not what was prepared for running it.
        #expect(
            try store.trireme("run", "--mount", mount, "prepared", "probe", "stat", "/data/proc").lines == ["ENOENT"])
        let missing = try store.trireme("run", "--data", "none:/data", "prepared", "true")
        #expect(missing.errorText.contains("[image-not-found]"))
        #expect(try store.trireme("run", "--data", "one", "prepared", "true").status == 125)
    }
}
