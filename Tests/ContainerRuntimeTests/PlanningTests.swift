import ContainerRuntime
import Foundation
import ImageFormats
import ImageStore
import LaunchPlan
import OCIModel
import TestSupport
import Testing

/// A directory tree standing for an image's only layer.
struct Tree {
    let scratch: TemporaryDirectory
    var root: String { scratch.path }
    init(_ files: [String: String] = [:], links: [String: String] = [:]) throws {
        scratch = try TemporaryDirectory()
        for (path, content) in files { try write(path, Data(content.utf8)) }
        for (path, target) in links {
            try makeParent(path)
            try FileManager.default.createSymbolicLink(atPath: root + "/" + path, withDestinationPath: target)
        }
    }
    func write(_ path: String, _ data: Data, executable: Bool = false) throws {
        try makeParent(path)
        try data.write(to: URL(fileURLWithPath: root + "/" + path))
        if executable {
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: root + "/" + path)
        }
    }
    private func makeParent(_ path: String) throws {
        let parent = (root + "/" + path as NSString).deletingLastPathComponent
        try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
    }
    func merged() throws -> MergedTree { try MergedTree([root]) }
}

@Suite struct AccountTests {
    @Test(
        arguments: [
            ("app", 1234, 1235), ("1234", 1234, 1235), ("app:root", 1234, 0), ("app:77", 1234, 77), ("4321", 4321, 0),
            ("4321:app", 4321, 1235), ("root", 0, 0),
        ] as [(String, UInt32, UInt32)])
    func usersResolveInTheImage(user: String, uid: UInt32, gid: UInt32) throws {
        let tree = try Tree([
            "etc/passwd": "root:x:0:0:r:/root:/bin/sh\napp:x:1234:1235::/app:/bin/sh\nbroken\n",
            "etc/group": "root:x:0:\napp:x:1235:\n",
        ])
        let found = AccountDatabase(try tree.merged()).resolve(user)
        #expect(found?.user == uid && found?.group == gid)
    }

    @Test(arguments: ["nobody-here", "app:nogroup", "", "-1", "app:-1"])
    func unknownNamesResolveToNothing(user: String) throws {
        let tree = try Tree(["etc/passwd": "app:x:1234:1235::/app:/bin/sh\n"])
        #expect(AccountDatabase(try tree.merged()).resolve(user) == nil)
    }
}

@Suite struct PreparedRootTests {
    @Test func completesTheRoot() throws {
        let tree = try Tree(
            ["etc/passwd": "root:x:0:0::/root:/bin/sh", "etc/group": "root:x:0:\n", "usr/share/zoneinfo/UTC": "zone"],
            links: [
                "etc/localtime": "/usr/share/zoneinfo/UTC", "etc/resolv.conf": "../run/missing", "home": "data/home",
            ])
        let prepared = try Tree()
        var root = PreparedRoot(
            directory: prepared.root, tree: try tree.merged(),
            account: .init(name: "u", userID: 4242, groupID: 4243, groupName: "g", home: "/people/u"))
        try root.make()
        func text(_ path: String) -> String? {
            try? String(contentsOfFile: prepared.root + "/" + path, encoding: .utf8)
        }
        #expect(text("etc/passwd") == "root:x:0:0::/root:/bin/sh\nu:x:4242:4243::/people/u:/bin/sh\n")
        #expect(text("etc/group") == "root:x:0:\ng:x:4243:\nnogroup:x:65534:\n")
        #expect(text("etc/localtime") == "zone", "a link would let a bind mount cover the zone's file")
        #expect(text("etc/resolv.conf") == "")
        #expect(root.hasAccount)
        for path in ["/proc", "/people/u", "/etc/hosts", "/etc/localtime", "/tmp"] {
            #expect(root.mountPoints.contains(path))
        }
        #expect(!root.mountPoints.contains("/home"), "a dangling link is no mount point")
        #expect(FileManager.default.fileExists(atPath: prepared.root + "/people/u"))
    }

    @Test func planKeepsBytes() throws {
        let json =
            #"{"config":{"Env":["A=b=c","N=a\nb","E="],"Entrypoint":["/a b","$x",""],"Cmd":["\"q\""],"WorkingDir":"/w","User":"7:8","StopSignal":"SIGINT"}}"#
        let configuration = try JSONDecoder().decode(ImageConfiguration.self, from: Data(json.utf8))
        let plan = PlanCompiler.plan(configuration, in: try Tree().merged())
        #expect(plan.environment == ["A=b=c", "N=a\nb", "E="].map { Array($0.utf8) })
        #expect(plan.entrypoint == ["/a b", "$x", ""].map { Array($0.utf8) })
        #expect(plan.command == [Array("\"q\"".utf8)])
        #expect(plan.userID == 7 && plan.groupID == 8)
        #expect(try LaunchPlan(decoding: plan.encoded()) == plan)
    }
}

@Suite struct MergedTreeTests {
    @Test func linksStayInside() throws {
        let tree = try Tree(
            ["usr/lib/f": "x"], links: ["lib": "usr/lib", "up": "../../../../usr", "loop": "loop", "abs": "/usr"])
        let merged = try tree.merged()
        #expect(merged.find("/lib/f")?.path == "usr/lib/f")
        #expect(merged.find("up/lib/f")?.path == "usr/lib/f")
        #expect(merged.find("abs/lib")?.isDirectory == true)
        #expect(merged.find("loop") == nil)
        #expect(merged.find("lib/../../etc") == nil)
        #expect(merged.names(in: "/lib") == ["f"])
    }

    @Test func upperLayersWin() throws {
        let lower = try Tree(["d/a": "low", "d/b": "low", "f/x": "low"])
        let upper = try Tree(["d/a": "up", "d/c": "up", "f": "file"])
        let merged = try MergedTree([upper.root, lower.root])
        #expect(merged.contents(of: "d/a") == Array("up".utf8))
        #expect(merged.names(in: "d") == ["a", "b", "c"])
        #expect(merged.find("f/x") == nil)
    }
}
