import Foundation
import LaunchPlan
import TestSupport
import Testing

/// Every spelling of a bind; the same case first by bubblewrap where it has it, as what to expect.
@Suite struct RunBindTests {
    let store: HandmadeStore
    let files = FileManager.default
    /// Two directories of the host with a file each.
    let one: String
    let two: String

    init() throws {
        store = try HandmadeStore()
        one = store.directory.path + "/one"
        two = store.directory.path + "/two"
        for (path, text) in [(one, "first"), (two, "second")] {
            try files.createDirectory(atPath: path + "/sub", withIntermediateDirectories: true)
            try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/file"))
        }
    }

    /// What the probe says in the image's first layer under bubblewrap, which must be installed.
    private func reference(_ options: String...) throws -> ProgramRun {
        try runProgram(["bwrap", "--bind", store.path + "/layers/base", "/"] + options, limitSeconds: 120)
    }

    @Test func readOnlyIsReadOnly() throws {
        let expected = try reference("--ro-bind", one, "/srv", "/bin/probe", "write", "/srv/new")
        #expect(expected.lines == ["EROFS"], "\(expected.errorText)")
        for option in [
            ["-v", one + ":/srv:ro"], ["-v", one + ":/srv:ro,z"], ["-B", one + ":/srv:ro,rbind,noexec"],
            ["--mount", "type=bind,source=\(one),target=/srv,readonly"],
            ["--mount", "type=bind,src=\(one),dst=/srv,ro=true,bind-propagation=rprivate"],
            ["--mount", "\"source=\(one)\",\"destination=/srv\",readonly=1"],
        ] {
            let run = try runProgram(
                [try Programs.path("trireme"), "run"] + option + ["prepared", "probe", "write", "/srv/new"],
                environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
            #expect(run.lines == expected.lines, "\(option): \(run.errorText)")
        }
    }

    @Test func severalBindsInOneWord() throws {
        let run = try store.trireme(
            "run", "-B", "\(one):/a:ro,\(two):/b,\(one)/file", "prepared", "probe", "cat", "/b/file")
        #expect(run.outputText == "second", "\(run.errorText)")
        #expect(
            try store.trireme("run", "-B", "\(one):/a:ro,\(two):/b", "prepared", "probe", "write", "/a/x").lines == [
                "EROFS"
            ])
        let site = try store.trireme(
            "run", "-B", "\(two):/a", "prepared", "probe", "cat", "/a/file",
            environment: ["TRIREME_BIND": "\(one):/a,\(one):/c"])
        #expect(site.outputText == "second", "the command line is later than TRIREME_BIND")
        let fromSite = try store.trireme(
            "run", "prepared", "probe", "cat", "/c/file", environment: ["TRIREME_BIND": "\(one):/a,\(one):/c"])
        #expect(fromSite.outputText == "first")
        let wrong = try store.trireme("run", "prepared", "true", environment: ["TRIREME_BIND": "/a:b:c:d"])
        #expect(wrong.status == 125)
        #expect(wrong.errorText.contains("TRIREME_BIND"))
    }

    @Test func namesWithSeparators() throws {
        let odd = store.directory.path + "/a,b:c\\d e"
        try files.createDirectory(atPath: odd, withIntermediateDirectories: true)
        try Data("odd".utf8).write(to: URL(fileURLWithPath: odd + "/file"))
        let typed = store.directory.path + #"/a\,b\:c\\d e"#
        #expect(
            try store.trireme("run", "-B", typed + #":/o\,/p"#, "prepared", "probe", "cat", "/o,/p/file").outputText
                == "odd")
        let quoted = "type=bind,\"source=\(odd)\",target=/o"
        #expect(try store.trireme("run", "--mount", quoted, "prepared", "probe", "cat", "/o/file").outputText == "odd")
    }

    @Test func nestedInAnyOrderAndOverEachOther() throws {
        let expected = try reference(
            "--bind", one, "/srv", "--bind", two, "/srv/sub", "/bin/probe", "cat", "/srv/sub/file")
        #expect(expected.outputText == "second", "\(expected.errorText)")
        for binds in [["\(one):/srv", "\(two):/srv/sub"], ["\(two):/srv/sub", "\(one):/srv"]] {
            let run = try store.trireme(
                "run", "-B", binds[0], "-B", binds[1], "prepared", "probe", "cat", "/srv/sub/file")
            #expect(run.outputText == expected.outputText, "\(binds): \(run.errorText)")
        }
        let over = try store.trireme(
            "run", "-B", "\(one):/srv", "-B", "\(two):/srv", "prepared", "probe", "cat", "/srv/file")
        #expect(over.outputText == "second")
        // A place below a directory of the host is never made there.
        let missing = try store.trireme("run", "-B", "\(one):/srv/none", "-B", "\(two):/srv", "prepared", "true")
        #expect(missing.errorText.contains("[bind-destination-missing]"))
        #expect(!files.fileExists(atPath: two + "/none"))
    }

    @Test func linksOfTheImageLeadInsideTheRoot() throws {
        for (name, target) in [
            ("abs", "/made/here"), ("rel", "srv/below"), ("chain", "abs"), ("up", "../../../made/there"),
        ] {
            try files.createSymbolicLink(atPath: store.path + "/layers/base/" + name, withDestinationPath: target)
        }
        for (name, place) in [
            ("/abs", "/made/here"), ("/rel/x", "/srv/below/x"), ("/chain", "/made/here"), ("/up/y", "/made/there/y"),
        ] {
            for image in ["plain", "prepared"] {
                let run = try store.trireme("run", "-B", "\(one):\(name)", image, "probe", "cat", place + "/file")
                #expect(run.outputText == "first", "\(name) in \(image): \(run.errorText)")
            }
        }
        #expect(!files.fileExists(atPath: "/made"))
        // A circle of links ends.
        try files.createSymbolicLink(atPath: store.path + "/layers/base/loop", withDestinationPath: "loop")
        #expect(try store.trireme("run", "-B", "\(one):/loop/x", "prepared", "true").status == 125)
    }

    @Test func aLinkOfTheHostIsFollowedOnce() throws {
        let link = store.directory.path + "/link"
        try files.createSymbolicLink(atPath: link, withDestinationPath: one)
        #expect(
            try store.trireme("run", "-B", "\(link):/l", "prepared", "probe", "cat", "/l/file").outputText == "first")
    }

    /// Read-only holds for what is mounted below the source, and set-id and devices mean nothing there.
    @Test func submountsAreReadOnlyToo() throws {
        let script = """
            set -e
            mount -t tmpfs inner "$1/sub"; touch "$1/sub/seen"
            bwrap --bind "$2/layers/base" / --ro-bind "$1" /srv /bin/probe write /srv/sub/new
            "$0" run -B "$1:/srv:ro" prepared probe write /srv/sub/new
            "$0" run -B "$1:/srv" prepared probe write /srv/sub/new
            "$0" run -B "$1:/srv" prepared probe cat /proc/self/mountinfo | awk '$5 == "/srv/sub" { print $6 }'
            """
        let run = try runProgram(
            ["unshare", "-U", "-r", "-m", "sh", "-c", script, try Programs.path("trireme"), one, store.path],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home, limitSeconds: 120)
        #expect(run.lines.prefix(3) == ["EROFS", "EROFS", "written"], "\(run.errorText)")
        #expect(run.lines.last?.contains("nosuid,nodev") == true, "\(run.lines)")
    }

    @Test func temporaryFileSystems() throws {
        let run = try store.trireme(
            "run", "--mount", "type=tmpfs,destination=/t,tmpfs-size=64k,tmpfs-mode=1770", "prepared", "probe", "stat",
            "/t")
        #expect(run.outputText.hasSuffix(" 41770\n"), "\(run.errorText)")
        #expect(
            try store.trireme("run", "--tmpfs", "/t:size=1m,mode=700", "prepared", "probe", "stat", "/t").outputText
                .hasSuffix(" 40700\n"))
        let full = try store.trireme(
            "run", "--mount", "type=tmpfs,destination=/t,tmpfs-size=64k", "prepared", "probe", "fill", "/t/x")
        #expect(full.lines == ["ENOSPC"], "the application sees why: \(full.errorText)")
        #expect(
            try store.trireme("run", "--mount", "type=tmpfs,target=/t,readonly", "prepared", "probe", "write", "/t/x")
                .lines
                == ["EROFS"])
    }

    @Test func temporaryDirectoriesOfItsOwn() throws {
        let marker = "/tmp/" + UUID().uuidString
        #expect(
            try store.trireme("run", "--tmp", "private", "prepared", "probe", "write", marker).lines == ["written"])
        #expect(!files.fileExists(atPath: marker))
        #expect(
            try store.trireme("run", "--tmp=private", "plain", "probe", "stat", "/var/tmp").outputText.hasSuffix(
                " 41777\n"))
        #expect(try store.trireme("run", "--tmp", "host", "prepared", "probe", "write", marker).lines == ["written"])
        #expect(files.fileExists(atPath: marker))
        try files.removeItem(atPath: marker)
        #expect(try store.trireme("run", "--tmp", "other", "prepared", "true").status == 125)
    }

    @Test(arguments: [
        "type=bind,source=/tmp", "type=bind,target=/x", "type=volume,source=x,target=/x",
        "type=bind,source=/tmp,target=x",
        "type=bind,source=/tmp,target=/x,bind-propagation=shared", "type=tmpfs,target=/x,tmpfs-size=many",
        "type=tmpfs,target=/x,tmpfs-mode=9", "type=bind,source=/tmp,target=/x,colour=red", "\"type=bind",
        "type=tmpfs,source=/tmp,target=/x", "",
    ])
    func mountsThatMakeNoSense(text: String) throws {
        let run = try store.trireme("run", "--mount", text, "prepared", "true")
        #expect(run.status == 125)
        #expect(run.errorText.contains("[option-value]"), "\(run.errorText)")
    }

    @Test(arguments: ["/", "/proc/self", "/sys/kernel"])
    func protectedPlacesAreRefused(place: String) throws {
        let run = try store.trireme("run", "--mount", "type=bind,source=\(one),target=\(place)", "prepared", "true")
        #expect(run.status == 125)
        #expect(run.errorText.contains("[mount-refused]"), "\(run.errorText)")
    }

    @Test func missingSourcesAreNeverMade() throws {
        let none = store.directory.path + "/none"
        for option in [["-v", none + ":/x"], ["--mount", "type=bind,source=\(none),target=/x"]] {
            let run = try store.trireme("run", option[0], option[1], "prepared", "true")
            #expect(run.status == 125)
            #expect(run.errorText.contains("[bind-source-missing]"))
        }
        #expect(try store.trireme("run", "-v", none + ":/x:optional", "prepared", "true").status == 0)
        #expect(!files.fileExists(atPath: none))
    }

    @Test func homeModes() throws {
        let home = store.home
        #expect(try store.trireme("run", "prepared", "probe", "pwd").lines == [home])
        #expect(
            try store.trireme("run", "--home", "tmpfs", "prepared", "probe", "write", home + "/x").lines == ["written"])
        #expect(!files.fileExists(atPath: home + "/x"))
        #expect(try store.trireme("run", "--home", "tmpfs", "prepared", "probe", "pwd").lines == [home])
        let other = try store.trireme("run", "--home", one + ":/home/me", "prepared", "probe", "cat", "/home/me/file")
        #expect(other.outputText == "first", "\(other.errorText)")
        let variables = try store.trireme("run", "--home", one + ":/home/me", "prepared", "probe", "env")
        #expect(variables.strings.contains(Array("HOME=/home/me".utf8)))
        #expect(try store.trireme("run", "--home", one, "--tmp", "private", "prepared", "probe", "pwd").lines == [one])
        #expect(
            try store.trireme("run", "--home", "none", "--tmp", "private", "prepared", "probe", "stat", home).lines == [
                "ENOENT"
            ])
        let missing = try store.trireme("run", "--home", "/no/such/home", "prepared", "true")
        #expect(missing.status == 125)
        #expect(missing.errorText.contains("/no/such/home"))
    }
}
