import Foundation
import TestSupport
import Testing

/// Images named by where they lie.
@Suite struct RunPathImageTests {
    let store: HandmadeStore
    init() throws { store = try HandmadeStore() }

    @Test func aDirectoryIsARoot() throws {
        let root = store.path + "/layers/base"
        let run = try store.trireme("run", root, "/bin/probe", "pwd")
        #expect(run.lines == [store.home], "\(run.errorText)")
        #expect(try store.trireme("run", root, "/bin/probe", "write", "/x").lines == ["EROFS"])
        #expect(try store.trireme("run", "../store/layers/base", "/bin/probe", "exit", "3").status == 3)
        #expect(try store.trireme("run", "dir:" + root, "/bin/probe", "exit", "4").status == 4)
        let passwd = try store.trireme("run", root, "/bin/probe", "cat", "/etc/passwd").lines
        #expect(passwd.contains { $0.contains(":x:\(geteuid()):") } || geteuid() == 0)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: root).sorted() == ["bin", "etc", "srv"],
            "nothing was made in it")
        #expect(
            try store.trireme("run", "--overlay", store.home, root, "/bin/probe", "write", "/x").lines == ["written"])
    }

    @Test func archivesAndLayoutsAreLoadedOnce() throws {
        let image = try ImageFixture()
        try image.shell(
            """
            umoci init --layout oci; umoci new --image oci:image; mkdir -p a/bin; cp \(store.path)/layers/base/bin/probe a/bin/
            tar -C a -cf a.tar .; umoci raw add-layer --image oci:image a.tar
            umoci config --image oci:image --config.env PATH=/bin --config.entrypoint probe
            skopeo copy -q oci:oci:image docker-archive:one.tar:one:1
            """)
        let environment = ["TRIREME_STORE": image.store, "HOME": image.path]
        func run(_ words: String...) throws -> ProgramRun {
            try runProgram(
                [try Programs.path("trireme"), "run"] + words, environment: environment, directory: image.path)
        }
        for name in ["./one.tar", "./oci"] {
            let first = try run(name, "exit", "5")
            #expect(first.status == 5, "\(name): \(first.errorText)")
            #expect(first.errorText.contains("\(name) is in the store as "))
            let again = try run(name, "exit", "6")
            #expect(again.status == 6)
            #expect(again.errorText.isEmpty)
        }
        #expect(try run("docker-archive:" + image.path + "/one.tar", "exit", "7").status == 7)
        // A changed file is another image.
        try image.shell("umoci config --image oci:image --config.entrypoint /bin/probe --config.cmd pwd; rm one.tar")
        try image.shell("skopeo copy -q oci:oci:image docker-archive:one.tar:one:1")
        let changed = try run("./one.tar")
        #expect(changed.errorText.contains("is in the store as"))
        #expect(changed.lines == [image.path], "\(changed.errorText)")
        // A batch job's files hold what the application wrote.
        try image.shell("umoci config --image oci:image --config.cmd args; rm one.tar")
        try image.shell("skopeo copy -q oci:oci:image docker-archive:one.tar:one:1")
        for variables in [["SLURM_JOB_ID": "7"], ["JOB_ID": "7", "SGE_ROOT": "/opt"], ["PBS_JOBID": "7"]] {
            try image.shell("rm -rf store/archives")
            let quiet = try runProgram(
                [try Programs.path("trireme"), "run", "./one.tar", "exit", "3"],
                environment: environment.merging(variables) { $1 }, directory: image.path)
            #expect(quiet.status == 3 && quiet.errorText.isEmpty && quiet.outputText.isEmpty, "\(quiet.errorText)")
            let load = try runProgram(
                [try Programs.path("trireme"), "load", "-i", "one.tar"],
                environment: environment.merging(variables) { $1 }, directory: image.path)
            #expect(load.status == 0 && load.errorText.isEmpty && load.lines.count == 1, "\(load.errorText)")
        }
    }

    @Test func whatIsNoImage() throws {
        try FileManager.default.createDirectory(atPath: store.home + "/empty", withIntermediateDirectories: true)
        try Data("text".utf8).write(to: URL(fileURLWithPath: store.home + "/text"))
        for (path, code) in [
            ("./none", "image-path"), ("./empty", "image-path"), ("./text", "archive-invalid"),
            ("/dev/null", "image-path"),
        ] {
            let run = try store.trireme("run", path, "true")
            #expect(run.status == 125)
            #expect(run.errorText.contains("[\(code)]") && run.errorText.contains(path), "\(run.errorText)")
        }
    }
}
