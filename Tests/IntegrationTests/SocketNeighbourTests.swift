import ContainerLaunch
import Foundation
import Glibc
import TestSupport
import Testing

/// What another ordinary account tries with the places where a user's processes meet.
@Suite(.serialized, .enabled(if: hasSecondUser, "the tests were started by one account alone"))
struct SocketNeighbourTests {
    let store: HandmadeStore
    /// As /tmp is: anybody's, and sticky.
    private var space: String { store.directory.path + "/space" }
    private var usual: String { "\(space)/trireme-\(geteuid())" }

    init() throws {
        store = try HandmadeStore()
        chmod(store.directory.path, 0o755)
        try FileManager.default.createDirectory(atPath: space, withIntermediateDirectories: true)
        chmod(space, 0o1777)
        try store.write("layers/base/etc/marker", "first")
    }

    private func made() throws -> String {
        let directory = try #require(PrivateDirectory.temporary(space), "errno \(errno)")
        defer { close(directory.descriptor) }
        return String(cString: directory.path)
    }

    @Test(
        "Who has taken the usual name has nothing of it",
        arguments: [
            "mkdir -m 777 \"$0\"", "touch \"$0\"; chmod 666 \"$0\"", "ln -s \"$1\" \"$0\"",
            "mkfifo \"$0\"",
        ])
    func takenName(trap: String) throws {
        try asSecondUser(["sh", "-c", trap, usual, store.home])
        var status = stat()
        #expect(lstat(usual, &status) == 0 && status.st_uid != geteuid())
        let own = try made()
        #expect(own.hasPrefix(usual + "."))
        #expect(try made() == own)
        // Neither what is there nor more than one's own is ever taken for it: the first by name is the owner's only.
        try asSecondUser([
            "sh", "-c", "mkdir -m 700 \"$0.aaaaaaaaaaaa\"; ln -s \"$1\" \"$0.aaaaaaaaaaab\"", usual, own,
        ])
        #expect(try made() == own)
        let run = try asSecondUser([
            "sh", "-c",
            "ls \"$0\"; echo evil >\"$0/x\"; mv \"$0\" \"$0.gone\"; rmdir \"$0\"; chmod 777 \"$0\"; echo tried",
            own,
        ])
        #expect(run.outputText == "tried\n")
        #expect(try made() == own)
        #expect(try FileManager.default.contentsOfDirectory(atPath: own) == [])
    }

    @Test("A single-file image is unpacked beside a name that is taken, and is its user's alone")
    func unpacked() throws {
        let image = try converted()
        try asSecondUser(["mkdir", "-m", "777", usual])
        let environment: [String: String?] = [
            "TRIREME_SINGLE_FILE": "unpack", "TRIREME_TMPDIR": space, "TMPDIR": nil,
        ]
        for _ in 0..<2 {
            let run = try store.trireme(
                "run", image, "probe", "cat", "/etc/marker", environment: environment)
            #expect(run.outputText == "first", "\(run.errorText)")
            try asSecondUser([
                "sh", "-c", "for f in \"$0\"*/cache/*/etc/marker \"$0\"/*; do echo evil >\"$f\"; done",
                usual,
            ])
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: usual).filter { $0 != "*" } == [])
    }

    @Test(
        "It reaches no socket of a running launch, and knows no name of one",
        .enabled(if: SingleFileTests.hasFuse))
    func sockets() throws {
        let image = try converted()
        let hold = store.directory.path + "/hold"
        try #require(mkfifo(hold, 0o600) == 0)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try Programs.path("trireme"))
        process.arguments = ["run", "-B", "\(hold):/hold", image, "probe", "cat", "/hold"]
        process.environment = ["TRIREME_STORE": store.path, "HOME": store.home]
        try process.run()
        let writer = Glibc.open(hold, O_WRONLY)
        defer {
            close(writer)
            process.waitUntilExit()
        }
        let place = try #require(PrivateDirectory.forRunning(UnsafePointer(environ)))
        defer { close(place.descriptor) }
        let directory = String(cString: place.path)
        let name = try #require(
            try FileManager.default.contentsOfDirectory(atPath: directory)
                .first { $0.hasPrefix("image-") && !$0.hasSuffix(".lock") })
        let script = """
            import errno, os, socket, sys
            directory, name = sys.argv[1:]
            def tried(what):
                try:
                    what()
                    return "done"
                except OSError as error:
                    return errno.errorcode[error.errno]
            path = os.path.join(directory, name)
            print(tried(lambda: socket.socket(socket.AF_UNIX).connect(path)))
            print(tried(lambda: socket.socket(socket.AF_UNIX).bind(path + "x")))
            print(tried(lambda: os.unlink(path)))
            print(tried(lambda: os.rename(directory, directory + ".gone")))
            print(tried(lambda: os.listdir(directory)))
            print(tried(lambda: open(path + ".lock")))
            print([line for line in open("/proc/net/unix") if " @" in line and "trireme" in line])
            """
        let run = try asSecondUser(["python3", "-c", script, directory, name])
        let refusals = Set(run.lines.dropLast())
        #expect(
            run.lines.count == 7 && refusals.isSubset(of: ["EACCES", "EPERM"]),
            "\(run.outputText)\(run.errorText)")
        #expect(run.lines.last == "[]")
    }

    private func converted() throws -> String {
        let image = store.directory.path + "/x.sqfs"
        let run = try runProgram(
            [try Programs.path("trireme-cli"), "image", "convert", store.path + "/layers/base", image],
            environment: ["TRIREME_STORE": store.path])
        try #require(run.status == 0, "\(run.errorText)")
        return image
    }
}
