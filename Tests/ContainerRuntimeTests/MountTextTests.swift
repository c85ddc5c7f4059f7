import Diagnostics
import LaunchPlan
import TestSupport
import Testing

@testable import ContainerRuntime

@Suite struct MountTextTests {
    private func mount(_ text: String) throws -> LaunchPlan.Mount {
        guard case .mount(let mount) = try MountText.parse(text, in: "/cwd") else { throw NotAMount() }
        return mount
    }
    private struct NotAMount: Error {}

    @Test func dockersWords() throws {
        let bind = try mount("type=bind,source=/a,destination=/b,readonly,bind-nonrecursive,consistency=cached")
        #expect(bind.source == "/a" && bind.destination == "/b")
        #expect(bind.isReadOnly && bind.isWithoutSubmounts && bind.isUserRequest && !bind.isTemporary)
        #expect(try mount("src=x,dst=/b,ro=false").source == "/cwd/x")
        #expect(try !mount("src=x,dst=/b,ro=false").isReadOnly)
        #expect(try mount("\"src=/a,\"\"b\"\"\",target=/c").source == "/a,\"b\"")
        let temporary = try mount("type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=0700")
        #expect(temporary.isTemporary && temporary.source == "size=67108864,mode=0700")
        #expect(try mount("type=tmpfs,target=/t,tmpfs-size=1GB").source == "mode=01777,size=1073741824")
        #expect(
            try MountText.parse("type=image,source=x:1,target=/i", in: nil) == .image(name: "x:1", destination: "/i"))
    }

    @Test(arguments: [
        "type=bind,source=a,target=/b", "\"type=bind,source=/a,target=/b", "\"type=bind\"x,source=/a,target=/b",
        "type=tmpfs,target=/t,tmpfs-size=0", "type=tmpfs,target=/t,tmpfs-size=99999999t",
        "readonly=maybe,target=/b,source=/a",
        "type,source=/a,target=/b", "source=/a,target=/b,tmpfs-size=1m",
    ])
    func refused(text: String) {
        #expect(throws: Diagnostic.self) { _ = try MountText.parse(text, in: nil) }
    }

    @Test func patternsAreOfNames() {
        let host = ["A=1", "AB=2", "B=A", "=odd"].map { Array($0.utf8) }
        #expect(EnvironmentText.matching("A*", in: host) == [host[0], host[1]])
        #expect(EnvironmentText.matching("?", in: host) == [host[0], host[2]])
        #expect(EnvironmentText.entry(Array("AB".utf8), in: host) == host[1])
        #expect(EnvironmentText.entry(Array("ABC".utf8), in: host) == nil)
    }
}

/// Numbers in mounts and in the files of subordinate ids.
@Suite struct RequestNumberTests {
    @Test func extremesOfSizesAndModes() {
        for number in ExtremeNumbers.all {
            for unit in ["", "b", "k", "mb", "g", "t"] {
                _ = try? MountText.parse(
                    "type=tmpfs,target=/t,tmpfs-size=\(number)\(unit),tmpfs-mode=\(number)", in: nil)
            }
        }
    }

    @Test func extremesOfSubordinateIDs() {
        for a in ExtremeNumbers.all {
            for b in ExtremeNumbers.all {
                let file = "me:\(a):\(b)\nme:\(b):\(a)\nme:100000:65536\nme:\(a):\(a)\n"
                let map = SubordinateIDs.map(in: file, name: "me", uid: 1000, own: 1000)
                #expect(map?.hasPrefix("0 1000 1 1 ") == true, "\(a) \(b): \(map ?? "none")")
            }
        }
    }
}
