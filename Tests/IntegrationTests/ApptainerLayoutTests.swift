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
        #expect(try store.trireme("run", "--entrypoint", "sh", image, "-c", "echo $MY").outputText == "it's 42\n")
        let path = store.directory.path
        try FileManager.default.removeItem(atPath: store.path + "/rootfs/bin/sh")
        try cli("image", "convert", store.path + "/rootfs", path + "/bare.sqfs")
        let bare = try store.trireme("exec", path + "/bare.sqfs", "busybox", "env")
        #expect(bare.lines.contains("DOCKER=from docker"), "no shell in the image: \(bare.errorText)")
    }
}
