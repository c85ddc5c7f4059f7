import Foundation
import LaunchPlan
import TestSupport
import Testing

/// Binds, the read-only root, and what a plan adds.
@Suite struct RunMountTests {
    let store: HandmadeStore
    let data: String

    init() throws {
        store = try HandmadeStore()
        data = store.directory.path + "/da:ta"
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
        try Data("payload".utf8).write(to: URL(fileURLWithPath: data + "/file"))
    }

    private var quoted: String { data.replacingOccurrences(of: ":", with: "\\:") }

    @Test func rootIsReadOnlyUnlessAskedOtherwise() throws {
        #expect(try store.trireme("run", "prepared", "probe", "write", "/x").lines == ["EROFS"])
        #expect(try store.trireme("run", "plain", "probe", "write", "/x").lines == ["EROFS"])
        #expect(try store.trireme("run", "-B", quoted + ":/new", "prepared", "probe", "write", "/x").lines == ["EROFS"])
        #expect(try store.trireme("run", "--read-only", "prepared", "probe", "write", "/x").lines == ["EROFS"])
        #expect(
            try store.trireme("run", "--writable-tmpfs", "prepared", "probe", "write", "/bin/x").lines == ["written"])
        #expect(!FileManager.default.fileExists(atPath: store.path + "/layers/base/bin/x"))
    }

    @Test(arguments: ["-B", "-v", "--bind", "--volume"])
    func bindsAppear(option: String) throws {
        let run = try store.trireme(
            "run", option, quoted + ":/deep/er/place", "prepared", "probe", "cat", "/deep/er/place/file")
        #expect(run.outputText == "payload")
    }

    @Test func bindForms() throws {
        #expect(
            try store.trireme("run", "--bind=" + quoted + ":/d:ro", "prepared", "probe", "write", "/d/new").lines == [
                "EROFS"
            ])
        #expect(
            try store.trireme("run", "-B" + quoted + ":/d:rw", "prepared", "probe", "write", "/d/new").lines == [
                "written"
            ])
        #expect(FileManager.default.fileExists(atPath: data + "/new"))
        // A file onto a missing file; SRC relative to the caller's directory; DST left out.
        #expect(
            try store.trireme("run", "-B", quoted + "/file:/etc/new", "prepared", "probe", "cat", "/etc/new").outputText
                == "payload")
        try Data("r".utf8).write(to: URL(fileURLWithPath: store.home + "/rel"))
        #expect(try store.trireme("run", "-B", "rel:/r", "prepared", "probe", "cat", "/r").outputText == "r")
        let outside = try TemporaryDirectory(under: "/var/tmp")
        #expect(try store.trireme("run", "-B", outside.path, "prepared", "probe", "stat", outside.path).status == 0)
    }

    @Test func badBindsAreNamed() throws {
        let missing = try store.trireme("run", "-B", "/no/such/source:/x", "prepared", "true")
        #expect(missing.status == 125)
        #expect(missing.errorText.contains("/no/such/source"))
        #expect(missing.errorText.contains("no such file or directory [bind-source-missing]"))
        #expect(missing.errorText.contains("hint: "))
        for destination in ["/", "//", "/a/..", "/proc", "/proc/self", "/sys/fs/cgroup"] {
            let run = try store.trireme("run", "-B", quoted + ":" + destination, "prepared", "true")
            #expect(run.status == 125, "\(destination)")
            #expect(run.errorText.contains("[mount-refused]"), "\(destination)")
        }
        for text in ["a:relative", "::", "a:/b:wx", "a:/b:ro:x", ""] {
            let run = try store.trireme("run", "-B", text, "prepared", "true")
            #expect(run.status == 125, "\(text)")
            #expect(run.errorText.contains("[usage]"), "\(text)")
        }
        // Nothing is made in a directory of the host.
        let inHome = try store.trireme("run", "-B", quoted + ":" + store.home + "/none", "prepared", "true")
        #expect(inHome.errorText.contains("[bind-destination-missing]"))
        #expect(!FileManager.default.fileExists(atPath: store.home + "/none"))
        let fileOnDirectory = try store.trireme("run", "-B", quoted + "/file:/srv", "prepared", "true")
        #expect(fileOnDirectory.errorText.contains("[mount-refused]"))
    }

    @Test func destinationsStayInsideTheRoot() throws {
        let victim = try TemporaryDirectory(under: "/var/tmp")
        let files = FileManager.default
        for (name, target) in [
            ("absolute", victim.path), ("relative", "../../../../../../../.." + victim.path),
            ("magic", "/proc/self/root"),
            ("kernel", "/proc/sys"),
        ] {
            try files.createSymbolicLink(
                atPath: store.path + "/layers/base/" + name, withDestinationPath: target)
        }
        for name in ["absolute", "relative"] {
            // The link leads to a place of the same name in the container, where nothing is.
            let run = try store.trireme(
                "run", "-B", quoted + ":/\(name)/x", "prepared", "probe", "cat", "/\(name)/x/file")
            #expect(run.outputText == "payload" || run.status == 125, "\(name)")
            #expect(try files.contentsOfDirectory(atPath: victim.path).isEmpty, "\(name)")
        }
        for name in ["magic", "kernel"] {
            let run = try store.trireme("run", "-B", quoted + ":/\(name)", "prepared", "true")
            #expect(run.status == 125, "\(name)")
            #expect(run.errorText.contains("[mount-refused]"), "\(name): \(run.errorText)")
        }
    }

    @Test func planMountsAndFiles() throws {
        var plan = store.prepared
        plan.mountPoints += ["/srv"]
        plan.mounts = [
            .init(source: data, destination: "/srv", isReadOnly: true),
            .init(source: "/no/such", destination: "/optional", isOptional: true),
            .init(source: "", destination: "/run/own", isTemporary: true),
            .init(source: data + "/file", destination: "/run/own/program", isReadOnly: true),
        ]
        plan.files = [
            .init(destination: "/run/own/deep/file", content: [0, 1, 255]),
            .init(destination: "/etc/hosts", content: Array("10.0.0.1 n1\n".utf8)),
            .init(destination: "/etc/made", content: Array("made".utf8)),
        ]
        try store.add("extras", plan)
        #expect(try store.trireme("run", "extras", "probe", "cat", "/srv/file").outputText == "payload")
        #expect(try store.trireme("run", "extras", "probe", "write", "/srv/x").lines == ["EROFS"])
        #expect(try store.trireme("run", "extras", "probe", "stat", "/optional").lines == ["ENOENT"])
        #expect(try store.trireme("run", "extras", "probe", "cat", "/run/own/deep/file").output == Data([0, 1, 255]))
        #expect(try store.trireme("run", "extras", "probe", "cat", "/run/own/program").outputText == "payload")
        #expect(try store.trireme("run", "extras", "probe", "write", "/run/own/x").lines == ["written"])
        #expect(try store.trireme("run", "extras", "probe", "cat", "/etc/hosts").outputText == "10.0.0.1 n1\n")
        #expect(try store.trireme("run", "extras", "probe", "cat", "/etc/made").outputText == "made")
        // Without anything to make, the file is bound over the image's own and no upper layer is needed.
        plan.mounts = []
        plan.files = [plan.files[1]]
        try store.add("hosts", plan)
        #expect(try store.trireme("run", "hosts", "probe", "cat", "/etc/hosts").outputText == "10.0.0.1 n1\n")
    }

    @Test func imageLinksAtStandardPlacesAreLeftAlone() throws {
        let zone = store.path + "/layers/base/usr/share/zoneinfo"
        try store.write("layers/base/usr/share/zoneinfo/Etc", "image's own")
        try FileManager.default.createSymbolicLink(
            atPath: store.path + "/layers/base/etc/localtime", withDestinationPath: "/usr/share/zoneinfo/Etc")
        try FileManager.default.createSymbolicLink(
            atPath: store.path + "/layers/base/etc/resolv.conf", withDestinationPath: "../run/no/such/file")
        #expect(
            try store.trireme("run", "plain", "probe", "cat", "/usr/share/zoneinfo/Etc").outputText == "image's own")
        #expect(
            try store.trireme("run", "plain", "probe", "cat", "/etc/resolv.conf").output
                == Data(contentsOf: URL(fileURLWithPath: "/etc/resolv.conf")))
        #expect(try FileManager.default.contentsOfDirectory(atPath: zone) == ["Etc"])
    }

    /// What the host mounts while a container runs (an autofs home) arrives in it; nothing goes the other way.
    @Test func laterMountsOfTheHostArrive() throws {
        let script = """
            set -e
            mount --bind "$1" "$1"; mount --make-shared "$1"
            "$0" run prepared probe listen "$2" >"$1/../ready" & child=$!
            i=0; until grep -q listening "$1/../ready" || [ $i = 600 ]; do sleep 0.05; i=$((i+1)); done
            mount -t tmpfs late "$1/sub"; touch "$1/sub/seen"
            ls "/proc/$child/root$1/sub"; grep -c ' - overlay trireme ' /proc/self/mountinfo || true
            kill -9 $child
            """
        try FileManager.default.createDirectory(atPath: store.home + "/sub", withIntermediateDirectories: true)
        let run = try runProgram(
            [
                "unshare", "-U", "-r", "-m", "sh", "-c", script, try Programs.path("trireme"), store.home,
                "late-\(getpid())",
            ], environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home, limitSeconds: 120)
        #expect(run.lines == ["seen", "0"], "\(run.errorText)")
    }
}
