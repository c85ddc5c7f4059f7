import Foundation
import TestSupport
import Testing

/// Variables that apptainer and docker read, in real launches: through the launcher alone, and through trireme-cli.
@Suite struct ForeignVariableTests {
    let store: HandmadeStore
    private var one: String { store.directory.path + "/one" }
    private var two: String { store.directory.path + "/two" }

    init() throws {
        store = try HandmadeStore()
        try store.write("../one/file", "first")
        try store.write("../two/file", "second")
    }

    private static let paths = [[], ["--env-file", "/dev/null"]]

    private func run(_ options: [String], _ words: [String], _ environment: [String: String?]) throws -> ProgramRun {
        var environment = environment
        environment["TRIREME_STORE"] = store.path
        environment["HOME"] = store.home
        return try runProgram(
            [try Programs.path("trireme"), "run"] + options + ["prepared"] + words, environment: environment,
            directory: store.home)
    }

    @Test(
        "Binds of apptainer's variables are there; TRIREME_BIND wins, and the first that holds something",
        arguments: paths)
    func binds(options: [String]) throws {
        let cat = ["probe", "cat", "/a/file"]
        for name in ["APPTAINER_BIND", "APPTAINER_BINDPATH", "SINGULARITY_BIND", "SINGULARITY_BINDPATH"] {
            #expect(try run(options, cat, [name: "\(two):/b,\(one):/a:ro"]).outputText == "first", "\(name)")
            let wrong = try run(options, ["true"], [name: "/a:b:c:d"])
            #expect(wrong.status == 125 && wrong.errorText.contains("from \(name)"), "\(wrong.errorText)")
        }
        let both: [String: String?] = ["APPTAINER_BIND": "\(one):/a", "TRIREME_BIND": "\(two):/a"]
        #expect(try run(options, cat, both).outputText == "second")
        #expect(try run(options, cat, ["APPTAINER_BIND": "\(one):/a", "TRIREME_BIND": ""]).status != 0)
        #expect(try run(options, cat, ["APPTAINER_BIND": "", "SINGULARITY_BIND": "\(one):/a"]).outputText == "first")
        #expect(try run(options + ["-B", "\(two):/a"], cat, ["APPTAINER_BIND": "\(one):/a"]).outputText == "second")
    }

    @Test("Switches that mean the same are honoured, and what is typed wins", arguments: paths)
    func switches(options: [String]) throws {
        func sees(_ value: String) throws -> Bool {
            try run(options, ["probe", "env"], ["APPTAINER_CLEANENV": value, "ONLY_HOST": "1"]).output.split(
                separator: 0
            )
            .contains(Data("ONLY_HOST=1".utf8))
        }
        #expect(try !sees("1") && sees("0"))
        let write = ["probe", "write", "/new"]
        #expect(try run(options, write, ["SINGULARITY_WRITABLE_TMPFS": "true"]).lines != ["EROFS"])
        #expect(try run(options, write, ["SINGULARITY_WRITABLE_TMPFS": "false"]).lines == ["EROFS"])
        #expect(try run(options + ["--read-only"], write, ["SINGULARITY_WRITABLE_TMPFS": "true"]).lines == ["EROFS"])
    }

    @Test("The others are named in one line, by the first rank, unless it is to be quiet", arguments: paths)
    func named(options: [String]) throws {
        let set: [String: String?] = [
            "APPTAINER_NV": "1", "SINGULARITY_HOME": "/a:/b", "DOCKER_HOST": "ssh://other", "APPTAINER_CACHEDIR": "/c",
        ]
        let said = try run(options, ["true"], set)
        #expect(said.status == 0)
        let lines = said.errorText.split(separator: "\n")
        #expect(lines.count == 1, "\(said.errorText)")
        for words in ["APPTAINER_NV (--nv)", "SINGULARITY_HOME (--home SRC:DST)", "DOCKER_HOST ("] {
            #expect(said.errorText.contains(words), "\(said.errorText)")
        }
        #expect(!said.errorText.contains("CACHEDIR"))
        #expect(try run(options + ["-q"], ["true"], set).errorText.isEmpty)
        #expect(try run(options + ["--quiet"], ["true"], set).errorText.isEmpty)
        #expect(try run(options, ["true"], set.merging(["SLURM_PROCID": "1"]) { $1 }).errorText.isEmpty)
        #expect(try run(options, ["true"], ["APPTAINER_BIND": "\(one):/a"]).errorText.isEmpty)
    }

    @Test("A pull names what it does not take") func transfer() throws {
        let run = try runProgram(
            [try Programs.path("trireme"), "pull", "127.0.0.1:1/x"],
            environment: [
                "TRIREME_STORE": store.path, "HOME": store.home, "TRIREME_REGISTRY_ATTEMPTS": "1",
                "SINGULARITY_CACHEDIR": "/c", "APPTAINER_NOHTTPS": "1", "APPTAINER_NV": "1",
            ])
        #expect(run.errorText.contains("SINGULARITY_CACHEDIR (TRIREME_STORE=DIR)"), "\(run.errorText)")
        #expect(run.errorText.contains("APPTAINER_NOHTTPS (--insecure)") && !run.errorText.contains("--nv"))
    }
}
