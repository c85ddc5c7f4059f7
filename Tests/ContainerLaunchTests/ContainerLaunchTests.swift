import Glibc
import LaunchPlan
import Testing

@testable import ContainerLaunch

private struct NotOne: Error {}

/// All binds of `text`, sources relative to `/cwd`.
private func binds(_ text: CString) throws -> [MountRequest] {
    var binds = BindText(text, in: c("/cwd"))
    var found: [MountRequest] = []
    while let next = try binds.next() { found.append(next) }
    return found
}

private func onlyBind(_ text: CString) throws -> MountRequest {
    let all = try binds(text)
    guard all.count == 1 else { throw NotOne() }
    return all[0]
}

private func withC<R>(_ text: String, _ body: (CString) throws -> R) rethrows -> R { try text.withCString(body) }

@Suite struct CStringTests {
    @Test(arguments: [
        ("/", "/"), ("//a///b/", "/a/b"), ("/a/./b/.", "/a/b"), ("/a/../../b", "/b"), ("/..", "/"), ("", "/"),
        ("/.hidden/..x", "/.hidden/..x"),
    ])
    func pathsAreCleaned(path: String, expected: String) {
        #expect(withC(path) { String(cString: cleaned($0, in: nil)) } == expected)
    }

    @Test(arguments: [("x", "/d/x"), (".", "/d"), ("..", "/"), ("/abs", "/abs")])
    func relativePathsAreTheDirectorys(path: String, expected: String) {
        #expect(withC(path) { String(cString: cleaned($0, in: c("/d"))) } == expected)
    }

    @Test(arguments: [UInt64(0), 7, 10, 65534, UInt64(UInt32.max), UInt64.max])
    func numbersAreDecimal(number: UInt64) {
        var buffer = ByteBuffer(capacity: 2)
        buffer.append(decimal: number)
        #expect(String(cString: buffer.cString) == "\(number)")
    }

    @Test func insideMeansWholeComponents() {
        #expect(isInside(c("/a/b"), c("/a")))
        #expect(isInside(c("/a"), c("/a")))
        #expect(isInside(c("/a"), c("/")))
        #expect(!isInside(c("/ab"), c("/a")))
        #expect(!isInside(c("/"), c("/a")))
    }

    @Test(arguments: [
        ("/", true), ("/usr/share", true), ("/etc", true), ("/lib64", true), ("/var/lib/x", true),
        ("/var/tmp/x", false),
        ("/home/u", false), ("/scratch", false), ("/usrx", false), ("/root", false),
    ])
    func systemPaths(path: String, expected: Bool) { #expect(withC(path) { isSystemPath($0) } == expected) }
}

@Suite struct BindTests {
    @Test(arguments: [
        ("/a", "/a", "/a", false), ("/a:/b", "/a", "/b", false), ("/a:/b:ro", "/a", "/b", true),
        ("/a:/b:rw", "/a", "/b", false), ("x/../y:/b/", "/cwd/y", "/b", false),
        (#"/a\:1:/b\:2"#, "/a:1", "/b:2", false), (#"/a\\1\,/b:/c"#, #"/a\1,/b"#, "/c", false),
        ("/a:/b:ro,z", "/a", "/b", true), ("/a:/b:Z,rbind,rprivate", "/a", "/b", false),
        ("/a:/b:ro,rw", "/a", "/b", false),
        ("/a,1:/b c", "/a,1", "/b c", false), (#"/back\slash"#, #"/back\slash"#, #"/back\slash"#, false),
    ])
    func forms(text: String, source: String, destination: String, readOnly: Bool) throws {
        let bind = try withC(text) { try onlyBind($0) }
        #expect(String(cString: bind.source) == source)
        #expect(String(cString: bind.destination) == destination)
        #expect(bind.isReadOnly == readOnly)
    }

    @Test(arguments: [
        ("/a:/b,/c:/d", ["/a>/b", "/c>/d"]), ("/a,/c", ["/a>/a", "/c>/c"]),
        ("/a:/b:ro,/c:/d:rw,./e:/f", ["/a>/b ro", "/c>/d", "/cwd/e>/f"]), ("/a,../c", ["/a>/a", "/c>/c"]),
        ("/a,b:/c", ["/a,b>/c"]),
    ])
    func lists(text: String, expected: [String]) throws {
        let all = try withC(text) { try binds($0) }
        let said = all.map {
            "\(String(cString: $0.source))>\(String(cString: $0.destination))" + ($0.isReadOnly ? " ro" : "")
        }
        #expect(said == expected)
        #expect(withC(text) { BindText.bound($0) } >= all.count)
    }

    /// What the fuzzer of Fuzz/ checks, on texts of a fixed seed.
    @Test func anyTextEndsAndStaysInside() {
        let letters = Array(#"/ab:,\\.-= ro"#.utf8)
        var state: UInt64 = 42
        for _ in 0..<20000 {
            var text: [CChar] = []
            for _ in 0..<24 {
                state = state &* 6_364_136_223_846_793_005 &+ 1
                text.append(CChar(letters[Int(state >> 33) % letters.count]))
            }
            text.append(0)
            text.withUnsafeBufferPointer { raw in
                guard let all = try? binds(raw.baseAddress!) else { return }
                #expect(all.count <= BindText.bound(raw.baseAddress!))
                for bind in all {
                    #expect(bind.destination[0] == slash && bind.source[0] == slash)
                    #expect(!isEqual(bind.destination, "/"))
                }
            }
        }
    }

    @Test func destinationsAreOrderedByDepth() throws {
        let list = MountList(capacity: 8)
        var all = list
        for text in ["/1:/a/b/c", "/2:/a", "/3:/x/y", "/4:/a/b", "/5:/a"] {
            all.append(try withC(text) { try onlyBind($0) })
        }
        all.orderByDepth(from: 0)
        #expect((0..<all.count).map { String(cString: all.requests[$0].source) } == ["/2", "/5", "/3", "/4", "/1"])
    }

    @Test(arguments: [
        "/a:/b:shared", "/a:/b:ro,nonsense", "/a:/b:ro,", "/a:/b,/c:d", "/a:/b,/c:/proc", "", ":/b", "/a:b", "/a:",
        "/a:/b:", "/a:/b:xx", "/a:/b:ro:y", "/a:/", "/a:/proc/1", "/a:/sys",
    ])
    func refused(text: String) {
        #expect(throws: LaunchFailure.self) { try withC(text) { _ = try onlyBind($0) } }
    }
}

@Suite struct FacadeTests {
    private func encoded(_ change: (inout LaunchPlan) -> Void) throws -> [UInt8] {
        var plan = LaunchPlan()
        change(&plan)
        return try plan.encoded()
    }
    private func bytes(_ texts: String...) -> [[UInt8]] { texts.map { Array($0.utf8) } }

    @Test func environmentIsTheLaunchers() throws {
        let plan = try encoded { $0.environment = bytes("A=image", "PATH=/image", "HOME=/image") }
        let composed = plan.withUnsafeBytes {
            composedEnvironment(
                plan: $0, host: bytes("A=host", "B=host", "PATH=/host", "HOME=/me", "LD_PRELOAD=x", "LD_AUDIT=x"),
                overrides: bytes("B=flag", "C=1"))
        }
        #expect(Set(composed) == Set(bytes("A=image", "B=flag", "C=1", "PATH=/image", "HOME=/me")))
        #expect(composed.count == 5)
    }

    @Test func aBadPlanIsRefusedBeforeAnything() {
        #expect(throws: LaunchFailure.self) {
            try [UInt8](repeating: 1, count: 64).withUnsafeBytes { try enterContainer(plan: $0, store: "/") }
        }
    }
}

@Suite struct LaunchDiagnosisTests {
    @Test func everyStepHasWordsAndACode() {
        for raw in UInt8.min...UInt8.max {
            guard let step = LaunchStep(rawValue: raw) else { continue }
            for code in [ENOENT, EPERM, ENOSPC, EBUSY, EINVAL, ENODEV] {
                let failure = LaunchFailure(step, c("subject"), errno: code)
                let text = String(decoding: LaunchDiagnosis(failure, image: c("image")).text, as: UTF8.self)
                #expect(text.hasPrefix("trireme: subject: ") || text.hasPrefix("trireme: image: "))
                #expect(text.split(separator: "\n")[0].hasSuffix("]"))
                #expect(text.contains("\n  hint: "))
            }
        }
    }
}
