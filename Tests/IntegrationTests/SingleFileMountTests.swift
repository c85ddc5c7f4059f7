import Foundation
import Glibc
import TestSupport
import Testing

/// How a single-file image gets into containers: as their root and as data, through FUSE and by the kernel.
@Suite(.serialized) struct SingleFileMountTests {
    let store: HandmadeStore
    var path: String { store.directory.path }

    init() throws {
        store = try HandmadeStore()
        try store.write("rootfs/etc/marker", "first")
        // With accounts of its own an image needs no upper layer.
        try store.write("rootfs/etc/passwd", "root:x:0:0::/:/bin/sh\n")
        try store.write("rootfs/etc/group", "root:x:0:\n")
        let files = FileManager.default
        try files.createDirectory(atPath: store.path + "/rootfs/bin", withIntermediateDirectories: true)
        try files.copyItem(
            atPath: store.path + "/layers/base/bin/probe", toPath: store.path + "/rootfs/bin/probe")
        try files.linkItem(atPath: store.path + "/rootfs/etc/marker", toPath: store.path + "/rootfs/etc/linked")
        try convert("x.sqfs")
    }

    private func convert(_ name: String) throws {
        let run = try runProgram(
            [try Programs.path("trireme-cli"), "image", "convert", store.path + "/rootfs", "\(path)/\(name)"],
            environment: ["TRIREME_STORE": store.path, "SWIFT_BACKTRACE": "enable=no"], limitSeconds: 120)
        #expect(run.status == 0, "\(run.errorText)")
    }

    @discardableResult
    private func script(_ text: String) throws -> ProgramRun { try store.imageScript(text) }

    static let hasFuse = SingleFileTests.hasFuse

    static let mayUseKernel: Bool = {
        if geteuid() == 0, access("/dev/loop-control", R_OK | W_OK) == 0,
            (try? String(contentsOfFile: "/proc/filesystems", encoding: .utf8))?.contains("squashfs") == true
        {
            return true
        }
        print("skipped: the kernel mounts images for root alone, with loop devices")
        return false
    }()

    @Test(
        "All containers share one overlay above FUSE; a file has one inode under all its names", .enabled(if: hasFuse))
    func overlay() throws {
        let run = try script(
            """
            export TRIREME_SINGLE_FILE=fuse
            mkfifo $dir/hold
            $run $image probe cat $dir/hold & until_true '[ $(probes) = 1 ]'
            root_of $run --no-home $image >$dir/one; root_of $run --no-home $image >$dir/two
            cmp $dir/one $dir/two; cut -d ' ' -f 2 $dir/one
            $run --no-home $image probe inode /etc/marker >$dir/three; $run --no-home $image probe inode /etc/linked | cmp - $dir/three
            cut -d ' ' -f 2 $dir/three | grep -xE '[0-9]{1,9}' >$dir/four
            root_of $run --writable-tmpfs $image | cut -d ' ' -f 2
            $run --writable-tmpfs $image probe cat /etc/marker; $run --user image $image probe cat /etc/marker
            pkill -9 -f "^probe cat $dir/hold"; until_true '[ $(servers) = 0 ]'
            """)
        #expect(run.outputText == "overlay\noverlay\nfirstfirst")
    }

    @Test("As data: in any image's container, several, read-only, at a place the image lacks", .enabled(if: hasFuse))
    func data() throws {
        try store.write("rootfs/etc/marker", "second")
        try convert("y.sqfs")
        let both = ["run", "--data", "\(path)/x.sqfs:/one", "--data", "\(path)/y.sqfs:/two/deep"]
        for image in ["prepared", path + "/x.sqfs"] {
            for (place, text) in [("/one", "first"), ("/two/deep", "second")] {
                let run = try trireme(both + [image, "probe", "cat", place + "/etc/marker"])
                #expect(run.outputText == text, "\(run.errorText)")
            }
            #expect(try trireme(both + [image, "probe", "write", "/one/etc/marker"]).lines == ["EROFS"])
        }
        let mount = ["run", "--mount", "type=image,source=../x.sqfs,target=/one", "--fakeroot"]
        #expect(try trireme(mount + ["prepared", "probe", "cat", "/one/etc/marker"]).outputText == "first")
        #expect(try trireme(mount + ["prepared", "/one/bin/probe", "exit", "7"]).status == 7)
        let shown = try trireme(["run", "--dry-run", "--data", "../x.sqfs:/one", "prepared", "true"])
        #expect(shown.outputText.contains("/one  <-  image \(path)/x.sqfs  (ro, asked for)"), "\(shown.outputText)")
        let none = try trireme(["run", "--data", "\(path)/none.sqfs:/one", "prepared", "true"])
        #expect(none.status == 125)
        #expect(none.errorText.contains("none.sqfs"))
    }

    private func trireme(_ arguments: [String]) throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme")] + arguments,
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home, limitSeconds: 120)
    }

    @Test("Data's server serves as long as the container lives, and goes with it", .enabled(if: hasFuse))
    func dataServer() throws {
        let run = try script(
            """
            mkfifo $dir/hold
            $run $image probe cat $dir/hold & until_true '[ $(probes) = 1 ]'
            $run --data $image:/one prepared probe cat /one/etc/marker; echo " servers $(servers)"
            $run --data $image:/one prepared probe cat $dir/hold & until_true '[ $(probes) = 2 ]'
            pkill -9 -f "^probe cat $dir/hold"; until_true '[ $(servers) = 0 ]'
            """)
        #expect(run.outputText == "first servers 1\n")
    }

    @Test("Data without FUSE is the unpacked copy")
    func dataUnpacked() throws {
        let run = try script(
            """
            export TRIREME_SINGLE_FILE=unpack
            $run --data $image:/one prepared probe cat /one/etc/marker
            $run --data $image:/one prepared probe write /one/etc/marker || :
            """)
        #expect(run.outputText == "firstEROFS\n")
    }

    @Test("Root's own image is the kernel's to read, anybody's is not", .enabled(if: mayUseKernel))
    func kernelMount() throws {
        let run = try script(
            """
            loops() { losetup -nO BACK-FILE | grep -c "$image" || :; }
            mkfifo $dir/hold
            $run $image probe cat $dir/hold & until_true '[ $(probes) = 1 ]'
            root_of $run --no-home $image | cut -d ' ' -f 2; loops
            $run --data $image:/one prepared probe cat /one/etc/marker
            $run --writable-tmpfs $image probe cat /etc/marker; $run $image probe write /etc/marker || :
            pkill -9 -f "^probe cat $dir/hold"; until_true '[ $(servers) = 0 ]'; until_true '[ $(loops) = 0 ]'
            touch -d 2020-01-01 $image; chmod 666 $image; root_of $run --no-home $image | cut -d ' ' -f 2
            touch -d 2021-01-01 $image; chmod 644 $image; chown 1 $image; root_of $run --no-home $image | cut -d ' ' -f 2
            until_true '[ $(servers) = 0 ]'
            """)
        #expect(run.outputText == "squashfs\n1\nfirstfirstEROFS\noverlay\noverlay\n")
    }
}
