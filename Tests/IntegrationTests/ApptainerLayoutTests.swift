import Foundation
import TestSupport
import Testing

/// Images in apptainer's layout behave as under apptainer, whatever form they have here.
@Suite(.serialized) struct ApptainerLayoutTests {
    let store: HandmadeStore

    /// A static shell for an image made here; the launcher's own needs none.
    static let hasShell: Bool = {
        if FileManager.default.isExecutableFile(atPath: "/bin/busybox") { return true }
        print("skipped: /bin/busybox is not installed (busybox-static)")
        return false
    }()

    init() throws {
        store = try HandmadeStore()
        guard Self.hasShell else { return }
        let root = "rootfs/"
        let parts = "\(root).singularity.d/"
        try store.write(root + "bin/busybox", Data(contentsOf: URL(fileURLWithPath: "/bin/busybox")), mode: 0o755)
        for name in ["sh", "env", "echo", "cat"] {
            try FileManager.default.createSymbolicLink(
                atPath: store.path + "/rootfs/bin/" + name, withDestinationPath: "busybox")
        }
        try store.write(root + "etc/passwd", "root:x:0:0::/:/bin/sh\n")
        try store.write(
            root + "opt/app/bin/myapp", "#!/bin/sh\necho \"my=$MY docker=$DOCKER n=$# args=$*\"\nexit 7\n", mode: 0o755)
        try store.write(
            parts + "env/10-docker2singularity.sh",
            "#!/bin/sh\nexport PATH=\"/opt/app/bin:/bin\"\nexport DOCKER=\"${DOCKER:-\"from docker\"}\"\n")
        try store.write(
            parts + "env/90-environment.sh",
            "set -- lost\nf() { MY=\"it's $1\"; }\nf 42\nexport MY PATH=/opt/first:$PATH EMPTY=\n")
        try store.write(parts + "env/99-base.sh", "LD_LIBRARY_PATH=/.singularity.d/libs\nexport LD_LIBRARY_PATH\n")
        try store.write(parts + "labels.json", #"{"org.label-schema.build-date":"today","Maintainer":"lab"}"#)
        try store.write(parts + "runscript", "#!/bin/sh\nexec myapp \"$@\"\n", mode: 0o755)
        try store.write(
            "rootfs/scif/apps/two/scif/runscript", "#!/bin/sh\necho \"app $SINGULARITY_APPNAME $*\"\n", mode: 0o755)
    }

    private func cli(_ words: String...) throws {
        let run = try runProgram(
            [try Programs.path("trireme-cli")] + words, environment: ["TRIREME_STORE": store.path], limitSeconds: 120)
        #expect(run.status == 0, "\(run.errorText)")
    }

    /// The same image in each form.
    private func forms() throws -> [String] {
        let path = store.directory.path
        try cli("image", "convert", store.path + "/rootfs", path + "/x.sqfs")
        try cli("image", "import", path + "/x.sqfs", "lab/x:1")
        try cli("image", "convert", path + "/x.sqfs", "oci:" + path + "/layout:lab/y:1")
        return [store.path + "/rootfs", path + "/x.sqfs", "lab/x:1", "oci:" + path + "/layout"]
    }

    @Test(
        "The environment scripts and the runscript with its arguments count in a directory, a file, the store, a layout",
        .enabled(if: hasShell))
    func everyForm() throws {
        for image in try forms() {
            let run = try store.trireme("run", image, "a  b", "c", environment: ["DOCKER": "host", "MY": "host"])
            #expect(
                run.outputText.hasSuffix("my=it's 42 docker=from docker n=2 args=a  b c\n"),
                "\(image): \(run.errorText)")
            #expect(run.status == 7)
            let exec = try store.trireme("exec", image, "sh", "-c", "echo $PATH; echo $MY")
            #expect(
                exec.lines.suffix(2).first?.hasPrefix("/opt/first:/opt/app/bin:/bin:") == true, "\(exec.outputText)")
            #expect(exec.lines.last == "it's 42")
            let shell = try store.trireme("shell", image, input: Data("echo shell $MY\n".utf8))
            #expect(shell.outputText.hasSuffix("shell it's 42\n"), "\(shell.errorText)")
        }
    }

    @Test("A job's ranks, too, begin behind the scripts", .enabled(if: hasShell)) func ranks() throws {
        for image in try forms() {
            // The script ends with 7, and one rank's failure would end the other before it has said anything.
            let run = try store.trireme(
                "run", "-n", "2", "--keep-going", "-e", "MY=typed", image, "a  b", environment: ["DOCKER": "host"])
            let lines = run.lines.filter { $0.hasPrefix("my=") }
            #expect(
                lines == Array(repeating: "my=typed docker=from docker n=1 args=a  b", count: 2), "\(run.errorText)")
            let app = try store.trireme("run", "-n", "2", "--app", "two", image, "x")
            #expect(app.lines.filter { $0 == "app two x" }.count == 2, "\(image): \(app.errorText)")
            let exec = try store.trireme("exec", "-n", "1", image, "sh", "-c", "echo $MY $TRIREME_RANK")
            #expect(exec.lines.last == "it's 42 0", "\(exec.errorText)")
        }
    }

    @Test("--explain env lists the scripts that run at the start", .enabled(if: hasShell)) func explained() throws {
        for image in try forms() {
            let text = try store.trireme("run", "--explain", "env", image).outputText
            let scripts = text.split(separator: "\n").filter { $0.hasPrefix("  script ") }
            #expect(scripts.count == 3 && text.contains("run at the start"), "\(text)")
            #expect(scripts.first?.hasSuffix("/.singularity.d/env/10-docker2singularity.sh") == true)
            #expect(!text.contains("TRIREME_SCRIPTS"))
        }
        #expect(try !store.trireme("run", "--explain", "env", "prepared").outputText.contains("run at the start"))
    }

    @Test("%test and %startscript have a way here", .enabled(if: hasShell)) func testAndStartScript() throws {
        try store.write("rootfs/.singularity.d/test", "#!/bin/sh\necho test $MY $*\nexit 3\n", mode: 0o755)
        try store.write("rootfs/scif/apps/two/scif/test", "#!/bin/sh\necho app $SINGULARITY_APPNAME\n", mode: 0o755)
        let image = store.path + "/rootfs"
        let test = try store.trireme("exec", image, "/.singularity.d/test", "a")
        #expect(test.outputText == "test it's 42 a\n" && test.status == 3, "\(test.errorText)")
        let app = try store.trireme("exec", "--app", "two", image, "/scif/apps/two/scif/test")
        #expect(app.outputText == "app two\n", "\(app.errorText)")
        // The answers to apptainer's verbs say so.
        #expect(try store.trireme("test", image).errorText.contains("trireme exec IMAGE /.singularity.d/test"))
        #expect(try store.trireme("instance", "start", image).errorText.contains("/.singularity.d/startscript"))
    }

    @Test("image inspect and its templates read an image in every form", .enabled(if: hasShell))
    func inspected() throws {
        let forms = try forms()
        for image in forms {
            let run = try store.trireme("image", "inspect", "-f", "{{.Config.Labels.Maintainer}} {{.Os}}", image)
            #expect(run.outputText == "lab linux\n", "\(image): \(run.errorText)")
            let entry = try store.trireme("image", "inspect", "-f", "{{json .Config.Entrypoint}}|{{.Path}}", image)
            #expect(entry.outputText.hasPrefix(#"["/.singularity.d/actions/run"]|"#), "\(image): \(entry.outputText)")
            let hasPath = entry.outputText.hasSuffix("|\(image)\n")
            #expect(hasPath == (image == forms[0] || image == forms[1]), "\(entry.outputText)")
        }
        let all = try store.trireme("image", "inspect", forms[1])
        #expect(all.status == 0 && all.outputText.contains("\"size\" : ") && !all.outputText.contains("\"digest\""))
        let missing = try store.trireme("image", "inspect", "./none.sif")
        #expect(missing.status == 125 && missing.errorText.contains("./none.sif"), "\(missing.errorText)")
    }

    @Test(
        "What the caller sets for the container wins, what the scripts leave unset is the caller's",
        .enabled(if: hasShell))
    func precedence() throws {
        let image = store.path + "/rootfs"
        let environment: [String: String?] = [
            "ONLY_HOST": "a 'b' \"c\" $d", "DOCKER": "host", "APPTAINERENV_DOCKER": "forced", "EMPTY": "host",
            "APPTAINERENV_PREPEND_PATH": "/front", "SINGULARITYENV_S": "s", "TRIREMEENV_MY": "mine",
        ]
        let run = try store.trireme(
            "exec", "-e", "LD_LIBRARY_PATH=/own", image, "env", environment: environment)
        let seen = Set(run.lines)
        for entry in [
            "ONLY_HOST=a 'b' \"c\" $d", "DOCKER=forced", "S=s", "MY=mine", "LD_LIBRARY_PATH=/own:/.singularity.d/libs",
            "APPTAINER_NAME=rootfs", "APPTAINER_COMMAND=exec",
        ] { #expect(seen.contains(entry), "\(entry): \(run.outputText)") }
        #expect(run.lines.contains { $0.hasPrefix("PATH=/front:/opt/first:") }, "\(run.outputText)")
        let left = run.lines.filter { $0.hasPrefix("_t") || $0.hasPrefix("TRIREME_SCRIPTS") || $0.hasPrefix("EMPTY") }
        #expect(left.isEmpty, "\(left)")
        #expect(try store.trireme("run", "-e", "MY=typed", image).outputText.hasPrefix("my=typed "))
    }

    @Test(
        "An app's runscript runs by its name, an entrypoint of one's own instead of the image's", .enabled(if: hasShell)
    )
    func apps() throws {
        let image = store.path + "/rootfs"
        let app = try store.trireme("run", image, "x", environment: ["APPTAINER_APPNAME": "two"])
        #expect(app.outputText == "app two x\n", "\(app.errorText)")
        #expect(try store.trireme("run", image, environment: ["APPTAINER_APPNAME": "none"]).status == 1)
        for name in ["APPTAINER_APP", "SINGULARITY_APP", "SINGULARITY_APPNAME"] {
            #expect(
                try store.trireme("run", image, "x", environment: [name: "two"]).outputText == "app two x\n", "\(name)")
        }
        try store.write("rootfs/scif/apps/bare/data", "")
        let other = ["APPTAINER_APPNAME": "bare", "SINGULARITY_APPNAME": "bare"]
        for image in try forms() {
            let typed = try store.trireme("run", "--app", "two", image, "x", environment: other)
            #expect(typed.outputText.hasSuffix("app two x\n"), "\(image): \(typed.errorText)")
            let exec = try store.trireme(
                "exec", "--app=two", image, "sh", "-c", "echo $SINGULARITY_APPNAME $APPTAINER_APPNAME")
            #expect(exec.outputText == "two two\n", "\(exec.errorText)")
            let shell = try store.trireme(
                "shell", "--app", "two", image, input: Data("echo in $SINGULARITY_APPNAME\n".utf8))
            #expect(shell.outputText.hasSuffix("in two\n"), "\(shell.errorText)")
            let wrong = try store.trireme("run", "--app", "twoo", image)
            #expect(wrong.status == 125 && wrong.errorText.contains("[app-unknown]"), "\(wrong.errorText)")
            #expect(wrong.errorText.contains("did you mean two?") && wrong.errorText.contains("its apps: bare, two"))
            #expect(try store.trireme("run", "--app", "bare", image).errorText.contains("has no runscript"))
        }
        #expect(try store.trireme("run", "--app", "two", "prepared").errorText.contains("has no apps"))
        #expect(try store.trireme("run", "--entrypoint", "sh", image, "-c", "echo $MY").outputText == "it's 42\n")
        let path = store.directory.path
        try FileManager.default.removeItem(atPath: store.path + "/rootfs/bin/sh")
        try cli("image", "convert", store.path + "/rootfs", path + "/bare.sqfs")
        let bare = try store.trireme("exec", path + "/bare.sqfs", "busybox", "env")
        #expect(bare.lines.contains("DOCKER=from docker"), "no shell in the image: \(bare.errorText)")
    }
}
