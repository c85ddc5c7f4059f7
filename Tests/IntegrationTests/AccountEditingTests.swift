import Foundation
import TestSupport
import Testing

/// `groupadd` and its like replace the files of accounts by renaming: in every form of an image that can be written.
@Suite(.serialized, .enabled(if: access("/bin/busybox", X_OK) == 0, "/bin/busybox is not installed (busybox-static)"))
struct AccountEditingTests {
    let directory: TemporaryDirectory

    init() throws {
        directory = try TemporaryDirectory()
        try runProgram(
            [
                "sh", "-ec",
                """
                mkdir -p home store tree; cd tree; mkdir bin etc tmp proc sys dev; cp /bin/busybox bin; ln -s busybox bin/sh
                echo root:x:0:0::/:/bin/sh >etc/passwd; echo root:x:0: >etc/group
                mksquashfs . ../tree.sqfs -all-root -quiet -no-progress >/dev/null
                """,
            ], directory: directory.path)
    }

    private static let hasSubordinateIDs =
        (try? String(contentsOfFile: "/etc/subuid", encoding: .utf8))?
        .contains("\(NSUserName()):") == true

    @Test(arguments: ["tree", "tree.sqfs"]) func asRootOfOneNumber(form: String) throws {
        try expectEdited(form, "--fakeroot-single")
    }

    @Test(.enabled(if: hasSubordinateIDs, "no line in /etc/subuid"), arguments: ["tree", "tree.sqfs"])
    func asRootOfManyNumbers(form: String) throws {
        try expectEdited(form, "--fakeroot")
    }

    private func expectEdited(_ form: String, _ option: String) throws {
        let edit = """
            cd /etc && echo added:x:101: >>group && /bin/busybox cp group group+ && /bin/busybox mv group+ group \
            && /bin/busybox cat group
            """
        let run = try runProgram(
            [
                try Programs.path("trireme"), "run", option, "--writable-tmpfs", "--no-home",
                directory.path + "/" + form, "sh", "-c", edit,
            ],
            environment: [
                "TRIREME_STORE": directory.path + "/store", "HOME": directory.path + "/home",
                "TRIREME_TMPDIR": directory.path,
            ], directory: directory.path)
        #expect(run.lines == ["root:x:0:", "added:x:101:"], "\(form) \(option): \(run.errorText)")
    }
}
