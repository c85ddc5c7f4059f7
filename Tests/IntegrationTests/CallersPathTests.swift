import Foundation
import TestSupport
import Testing

/// The caller's paths mean the same inside: through links, and where variables name them.
@Suite struct CallersPathTests {
    let store: HandmadeStore
    let place: TemporaryDirectory

    init() throws {
        store = try HandmadeStore()
        // Outside of /tmp, which is shown whole.
        place = try TemporaryDirectory(under: "/var/tmp")
        let script = """
            mkdir -p real/home/work real/space; ln -s real link; echo marker >real/home/input; echo spaced >real/space/file
            """
        try runProgram(["sh", "-ec", script], directory: place.path)
    }

    private func run(
        _ words: [String], in directory: String, variables: [String: String?] = [:], options: [String] = []
    ) throws -> ProgramRun {
        var environment: [String: String?] = ["TRIREME_STORE": store.path, "HOME": store.home, "TMPDIR": nil]
        environment.merge(variables) { $1 }
        return try runProgram(
            [try Programs.path("trireme"), "run"] + options + ["prepared", "probe"] + words, environment: environment,
            directory: directory)
    }

    /// A home whose path has a link in it is there by both its names.
    @Test func aHomeThroughALink() throws {
        let home = place.path + "/link/home"
        for file in [home + "/input", place.path + "/real/home/input"] {
            let run = try run(["cat", file], in: "/", variables: ["HOME": home])
            #expect(run.outputText == "marker\n", "\(file): \(run.errorText)")
        }
        let below = try run(["cat", "../input"], in: home + "/work", variables: ["HOME": home])
        #expect(below.outputText == "marker\n", "\(below.errorText)")
    }

    /// A link in a directory that is shown leads out of it.
    @Test func throughALinkInsideTmp() throws {
        let links = try TemporaryDirectory()
        try #require(links.path.hasPrefix("/tmp/"))
        try FileManager.default.createSymbolicLink(
            atPath: links.path + "/link", withDestinationPath: place.path + "/real")
        let home = try run(
            ["cat", links.path + "/link/home/input"], in: "/", variables: ["HOME": links.path + "/link/home"])
        #expect(home.outputText == "marker\n", "\(home.errorText)")
        let space = links.path + "/link/space"
        let written = try run(["write", space + "/through"], in: "/", variables: ["TMPDIR": space])
        #expect(written.lines == ["written"], "\(written.errorText)")
        #expect(FileManager.default.fileExists(atPath: place.path + "/real/space/through"))
    }

    /// The directory the caller stands in is there by the name that PWD has for it.
    @Test func aDirectoryThroughALink() throws {
        let typed = place.path + "/link/space"
        for file in ["file", typed + "/file", place.path + "/real/space/file"] {
            let run = try run(["cat", file], in: typed, variables: ["PWD": typed])
            #expect(run.outputText == "spaced\n", "\(file): \(run.errorText)")
        }
        // A PWD that is another directory's opens nothing.
        let wrong = try run(
            ["cat", place.path + "/real/home/input"], in: typed, variables: ["PWD": place.path + "/real/home"])
        #expect(wrong.status != 0)
    }

    @Test(arguments: ["TMPDIR", "TMP", "TEMP"]) func temporarySpaceIsShown(name: String) throws {
        let space = place.path + "/real/space"
        #expect(try run(["write", space + "/made"], in: "/", variables: [name: space]).lines == ["written"])
        #expect(FileManager.default.fileExists(atPath: space + "/made"))
    }

    /// What names a directory that the container does not show is not passed.
    @Test func variablesThatLeadNowhereAreLeftOut() throws {
        let variables = [
            "TMPDIR": "/usr/no/such", "XDG_RUNTIME_DIR": "/run/user/4294967294",
            "XDG_CONFIG_HOME": store.home + "/.none",
        ]
        let names = { (run: ProgramRun) in
            run.outputText.split(separator: "\0").compactMap { $0.split(separator: "=").first.map(String.init) }
        }
        let shared = names(try run(["env"], in: "/", variables: variables))
        #expect(!shared.contains("TMPDIR") && !shared.contains("XDG_RUNTIME_DIR"))
        // Programs make these themselves.
        #expect(shared.contains("XDG_CONFIG_HOME"))
        let own = try run(
            ["env"], in: "/", variables: ["TMPDIR": place.path + "/real/space"], options: ["--tmp", "private"])
        #expect(!names(own).contains("TMPDIR"))
    }
}
