import ContainerLaunch
import Foundation
import Glibc
import TestSupport
import Testing

/// An isolated container of the same user tries to serve other launches (`Tests/Probe/squat.c`): with what it is
/// shown, and where the directory of the user's sockets is shown to it, too.
@Suite(.serialized) struct SquatterTests {
    let store: HandmadeStore
    private var image: String { store.directory.path + "/x.sqfs" }
    private static let step: [String: String?] = [
        "SLURM_JOB_ID": "78", "SLURM_STEP_ID": "4", "SLURM_STEP_NUM_TASKS": "16", "TRIREME_JOIN": nil,
    ]

    init() throws {
        store = try HandmadeStore()
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../Probe/squat.c"
        let squat = store.path + "/layers/base/bin/squat"
        let built = try runProgram(["cc", "-O1", "-static", source, "-o", squat])
        try #require(built.status == 0, "\(built.errorText)")
        try store.write("layers/base/etc/marker", "first")
        let run = try runProgram(
            [try Programs.path("trireme-cli"), "image", "convert", store.path + "/layers/base", image],
            environment: ["TRIREME_STORE": store.path])
        try #require(run.status == 0, "\(run.errorText)")
    }

    /// A squatter at work, until it is let go. What it says lies in a file: a pipe would be inherited by whatever
    /// other tests start meanwhile, and have no end.
    private struct Squatter {
        private let place: TemporaryDirectory
        private let process: pid_t
        let said: String

        init(_ store: HandmadeStore, _ options: [String], _ words: [String]) throws {
            place = try TemporaryDirectory()
            let script = """
                "$0" "$@" >said 2>errors </dev/null & echo $! >process; n=0
                until grep -q . said || [ $n = 100 ]; do sleep 0.1; n=$((n + 1)); done; cat said errors
                """
            let command =
                [try Programs.path("trireme-cli"), "run", "--profile", "isolated"] + options
                + [store.path + "/layers/base", "/bin/squat"] + words
            said = try runProgram(
                ["sh", "-c", script] + command, environment: ["TRIREME_STORE": store.path, "HOME": store.home],
                directory: place.path
            ).outputText
            let number = try String(contentsOfFile: place.path + "/process", encoding: .utf8)
            process = try #require(pid_t(number.trimmingCharacters(in: .whitespacesAndNewlines)))
        }

        /// Ends it; all that it said.
        func end() throws -> String {
            kill(process, SIGKILL)
            return try String(contentsOfFile: place.path + "/said", encoding: .utf8)
        }
    }

    private func marker() throws -> ProgramRun { try store.trireme("run", image, "probe", "cat", "/etc/marker") }

    private func rank() throws -> ProgramRun {
        try store.trireme("run", "prepared", "probe", "cat", "/etc/marker", environment: Self.step)
    }

    private func endServer() throws { try runProgram(["pkill", "-9", "-f", "^trireme-mount serve \(image)"]) }

    @Test("From what an isolated container is shown, nobody's place can be taken")
    func watching() throws {
        let squatter = try Squatter(store, [], ["watch"])
        #expect(squatter.said == "looking\n")
        for _ in 0..<6 {
            if SingleFileTests.hasFuse { #expect(try marker().outputText == "first") }
            #expect(try rank().outputText == "first")
            // Free names are what a squatter waits for.
            try endServer()
        }
        #expect(try squatter.end() == "looking\n")
    }

    /// The directory of this user's sockets, and the name that the last launch met at.
    private func meeting(_ isWanted: (String) -> Bool) throws -> (directory: String, name: String) {
        let place = try #require(PrivateDirectory.forRunning(UnsafePointer(environ)))
        defer { close(place.descriptor) }
        let directory = String(cString: place.path)
        let names = try FileManager.default.contentsOfDirectory(atPath: directory)
        return (directory, try #require(names.first { !$0.hasSuffix(".lock") && isWanted($0) }, "\(names)"))
    }

    @Test("A process in a container is not followed as the server of an image", .enabled(if: SingleFileTests.hasFuse))
    func server() throws {
        #expect(try marker().outputText == "first")
        var status = stat()
        try #require(stat(image, &status) == 0)
        let identity = "-\(String(status.st_ino, radix: 16))-\(String(status.st_size, radix: 16))-"
        let (directory, name) = try meeting { $0.hasPrefix("image-") && $0.contains(identity) }
        try endServer()
        let squatter = try Squatter(store, ["-B", directory + ":/meet"], ["take", "/meet", name])
        #expect(squatter.said == "have the name\n")
        let refused = try marker()
        #expect(refused.status == 125 && refused.outputText == "", "\(refused.outputText)")
        #expect(refused.errorText.contains("which is in a container, answers in its server's place"))
        #expect(refused.errorText.contains("[image-file-unusable]"), "\(refused.errorText)")
        let data = try store.trireme("run", "--data", image + ":/data", "prepared", "probe", "cat", "/data/etc/marker")
        #expect(data.status == 125 && data.outputText == "", "\(data.outputText)")
        // It was asked: the attempt is a real one.
        #expect(try squatter.end() == "have the name\na launch has come\na launch has come\n")
        #expect(try marker().outputText == "first")
    }

    @Test("Ranks go by themselves rather than into namespaces made in a container")
    func sharedContainer() throws {
        let name = try nameOfTheStep()
        let directory = try meeting { $0 == name }.directory
        let squatter = try Squatter(store, ["-B", directory + ":/meet"], ["take", "/meet", name])
        #expect(squatter.said == "have the name\n")
        #expect(try rank().outputText == "first")
        #expect(try squatter.end().hasPrefix("have the name\n"))
    }

    /// Where the first rank listens: other tests' ranks do at the same time.
    private func nameOfTheStep() throws -> String {
        let script = """
            "$0" run prepared probe signals 1 >said & first=$!; n=0
            while ! grep -q ready said 2>/dev/null && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done
            sockets=$(readlink /proc/$first/fd/2?? | sed 's/socket:.\\([0-9]*\\)./ \\1 /'); kill -KILL $first
            grep -F "$sockets" /proc/net/unix | sed 's,.*/,,'
            """
        var environment = Self.step
        environment["TRIREME_STORE"] = store.path
        environment["HOME"] = store.home
        let run = try runProgram(
            ["sh", "-c", script, try Programs.path("trireme")], environment: environment, directory: store.home)
        try #require(run.lines.count == 1 && run.lines[0].hasPrefix("step-"), "\(run.outputText)\(run.errorText)")
        return run.lines[0]
    }
}
