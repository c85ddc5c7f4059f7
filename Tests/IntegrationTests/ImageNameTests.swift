import Foundation
import LaunchPlan
import TestSupport
import Testing

/// Which image a name means, and what is said of a name that means none.
@Suite struct ImageNameTests {
    let store: HandmadeStore
    private let digest: String

    init() throws {
        store = try HandmadeStore()
        var plan = store.prepared
        plan.imageName = "lab/x:1"
        try store.add("lab/x:1", plan)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: store.path + "/plans/lab%2Fx:1"))
        digest = try LaunchPlan(decoding: Array(bytes)).imageDigest
    }

    @Test(arguments: ["lab/x", "lab/x:1", "docker.io/lab/x:1", "docker.io/lab/x", "docker://lab/x:1"])
    func theNamesOwnDigest(name: String) throws {
        let run = try store.trireme("run", "\(name)@\(digest)", "true")
        #expect(run.status == 0, "\(run.errorText)")
    }

    @Test(arguments: ["other", "lab/x:2", "lab/xy:1", "localhost/lab/x:1", "docker.io/x"])
    func aDigestUnderAnotherName(name: String) throws {
        let word = "\(name)@\(digest)"
        for words in [
            ["run", word, "true"], ["exec", word, "true"], ["shell", word], ["run", "-n", "1", word, "true"],
            ["run", "--data", "\(word):/data", "lab/x:1", "true"], ["image", "inspect", word],
            ["image", "history", word], ["image", "tag", word, "y:1"], ["image", "convert", word, "out.sqfs"],
            ["save", "-o", "out.tar", word], ["push", word, "127.0.0.1:1/y"], ["image", "pin", word],
            ["image", "check", word], ["image", "verify", word], ["image", "rm", word], ["image", "rm", "-f", word],
        ] {
            let run = try runProgram(
                [try Programs.path("trireme")] + words, environment: ["TRIREME_STORE": store.path, "HOME": store.home],
                directory: store.home)
            #expect(run.status == 125 && run.errorText.contains("[image-name-differs]"), "\(words): \(run.errorText)")
            #expect(run.errorText.contains("hint: type 'lab/x:1@\(digest)'"), "\(run.errorText)")
        }
        #expect(try store.trireme("run", "lab/x:1", "true").status == 0, "it is still there")
    }

    @Test("An image whose name was given to another keeps its digest, under the old name, too")
    func aNameThatMovedOn() throws {
        let named = store.path + "/plans/lab%2Fx:1"
        var plan = try LaunchPlan(decoding: Array(Data(contentsOf: URL(fileURLWithPath: named))))
        plan.imageName = digest
        try FileManager.default.removeItem(atPath: named)
        try Data(plan.encoded()).write(to: URL(fileURLWithPath: store.path + "/plans/" + digest))
        #expect(try store.trireme("run", "lab/x:1@\(digest)", "true").status == 0)
        #expect(try store.trireme("run", "lab/x:1", "true").errorText.contains("[image-not-found]"))
        var other = store.prepared
        other.imageName = "lab/x:1"
        try store.add("lab/x:1", other)
        var moved = try LaunchPlan(decoding: Array(Data(contentsOf: URL(fileURLWithPath: named))))
        moved.imageDigest = "sha256:" + String(repeating: "7", count: 64)
        try Data(moved.encoded()).write(to: URL(fileURLWithPath: named))
        let gone = try store.trireme("run", "lab/x:1@sha256:" + String(repeating: "6", count: 64), "true")
        #expect(gone.status == 125 && gone.errorText.contains("[image-not-found]"), "\(gone.errorText)")
    }

    @Test(arguments: ["trireme", "trireme-cli"])
    func anUnknownNameIsOfferedWhatBringsIt(program: String) throws {
        func said(_ words: String...) throws -> String {
            let run = try runProgram(
                [try Programs.path(program)] + words,
                environment: ["TRIREME_STORE": store.path, "HOME": store.home, "TRIREME_REGISTRY_ATTEMPTS": "1"],
                directory: store.home)
            #expect(run.status == 125, "\(words)")
            return run.errorText
        }
        for words in [["run", "ubuntu", "true"], ["exec", "ubuntu:24.04", "true"], ["shell", "ghcr.io/a/b"]] {
            let text = try words.count == 3 ? said(words[0], words[1], words[2]) : said(words[0], words[1])
            #expect(text.contains("[image-not-found]") && text.contains(store.path))
            #expect(text.contains("hint: trireme pull \(words[1])\n"), "\(text)")
            #expect(text.contains("hint: trireme run docker://\(words[1]) "), "\(text)")
        }
        let near = try said("run", "lab/z:1", "true")
        #expect(near.contains("did you mean 'lab/x:1'?") && near.contains("docker://lab/z:1"), "\(near)")
        try Data().write(to: URL(fileURLWithPath: store.home + "/archive"))
        #expect(try said("run", "archive").contains("./archive"))
        // What the hints name is understood: the registry is asked, and none listens there.
        #expect(try said("run", "docker://127.0.0.1:1/x", "true").contains("[registry-unreachable]"))
        #expect(try said("pull", "127.0.0.1:1/x").contains("[registry-unreachable]"))
    }
}
