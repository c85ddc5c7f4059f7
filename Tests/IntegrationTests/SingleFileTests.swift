import Foundation
import Glibc
import TestSupport
import Testing

/// Images that are one file, run by the real programs.
@Suite(.serialized) struct SingleFileTests {
    let store: HandmadeStore
    var path: String { store.directory.path }

    init() throws {
        store = try HandmadeStore()
        try store.write("rootfs/etc/marker", "first")
        try FileManager.default.copyItem(
            atPath: store.path + "/layers/base/bin", toPath: store.path + "/rootfs/bin")
        try convert("x.sqfs")
    }

    private func convert(_ name: String) throws {
        let run = try cli("image", "convert", store.path + "/rootfs", "\(path)/\(name)")
        #expect(run.status == 0, "\(run.errorText)")
    }

    @discardableResult
    private func cli(_ words: String...) throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme-cli")] + words,
            environment: ["TRIREME_STORE": store.path, "SWIFT_BACKTRACE": "enable=no"], limitSeconds: 120)
    }

    @discardableResult
    private func script(_ text: String) throws -> ProgramRun { try store.imageScript(text) }

    static let hasFuse: Bool = {
        if access("/dev/fuse", R_OK | W_OK) == 0 { return true }
        print("skipped: /dev/fuse cannot be used by this user here (0600 but on real machines 0666)")
        return false
    }()

    @Test("Runs straight from the file: content, options, exit status; the caller's own identity")
    func runs() throws {
        #expect(try store.trireme("run", path + "/x.sqfs", "probe", "cat", "/etc/marker").outputText == "first")
        #expect(try store.trireme("run", path + "/x.sqfs", "probe", "exit", "7").status == 7)
        #expect(try store.trireme("run", "../x.sqfs", "probe", "exit", "3").status == 3)
        let written = try store.trireme(
            "run", "--writable-tmpfs", path + "/x.sqfs", "probe", "write", "/etc/marker")
        #expect(written.lines == ["written"])
        #expect(try store.trireme("run", path + "/x.sqfs", "probe", "cat", "/etc/marker").outputText == "first")
        #expect(try store.trireme("run", path + "/x.sqfs", "probe", "write", "/etc/marker").lines == ["EROFS"])
    }

    @Test("Without FUSE a copy is unpacked once on the node, and said once")
    func unpacked() throws {
        let run = try script(
            """
            export TRIREME_SINGLE_FILE=unpack
            $run $image probe cat /etc/marker 2>$dir/first; $run $image probe cat /etc/marker 2>$dir/second
            grep -q unpacking $dir/first; [ ! -s $dir/second ]; ls $dir/trireme-$(id -u)/cache | grep -vc lock
            """)
        #expect(run.outputText == "firstfirst1\n")
    }

    @Test("16 starts at once share one server, which goes when all of them are killed", .enabled(if: hasFuse))
    func shared() throws {
        let run = try script(
            """
            mkfifo $dir/hold
            for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do $run $image probe cat $dir/hold & done
            until_true '[ $(probes) = 16 ]'
            echo servers $(servers)
            pkill -9 -f "^probe cat $dir/hold"
            until_true '[ $(servers) = 0 ]'
            """)
        #expect(run.outputText.contains("servers 1\n"))
    }

    @Test("Without descriptors the server rests, and serves when it has some", .enabled(if: hasFuse))
    func serverWithoutDescriptors() throws {
        let image = "\(path)/x.sqfs"
        let first = Process()
        first.executableURL = URL(fileURLWithPath: try Programs.path("trireme"))
        first.arguments = ["run", image, "probe", "listen", "famine"]
        first.environment = ["TRIREME_STORE": store.path, "HOME": store.home, "TRIREME_SINGLE_FILE": "fuse"]
        let output = Pipe()
        first.standardOutput = output
        try first.run()
        defer { kill(first.processIdentifier, SIGKILL) }
        #expect(output.fileHandleForReading.availableData == Data("listening\n".utf8))
        let server = try #require(
            try runProgram(["pgrep", "-f", "serve .*\(image)"]).lines.compactMap { pid_t($0) }.first)
        let famine = try DescriptorFamine(of: server)
        let second = Process()
        second.executableURL = first.executableURL
        second.arguments = ["run", image, "probe", "exit", "7"]
        second.environment = first.environment
        try second.run()
        usleep(200_000)
        let before = try processorSeconds(of: server)
        usleep(1_000_000)
        #expect(try processorSeconds(of: server) - before < 0.2)
        #expect(second.isRunning)
        try famine.end()
        second.waitUntilExit()
        #expect(second.terminationStatus == 7)
    }

    @Test("A killed server ends nothing but itself: the next start works", .enabled(if: hasFuse))
    func killedServer() throws {
        let run = try script(
            """
            mkfifo $dir/hold
            $run $image probe cat $dir/hold & until_true '[ $(probes) = 1 ]'
            pkill -9 -f "^trireme-mount serve $image"
            until_true '[ $(servers) = 0 ]'
            $run $image probe cat /etc/marker
            pkill -9 -f "^probe cat $dir/hold"; until_true '[ $(servers) = 0 ]'
            """)
        #expect(run.outputText == "first")
    }

    @Test("A file replaced meanwhile is a new image; who runs the old one keeps it", .enabled(if: hasFuse))
    func replaced() throws {
        try store.write("rootfs/etc/marker", "second")
        try convert("y.sqfs")
        let run = try script(
            """
            mkfifo $dir/hold
            $run $image probe cat $dir/hold & until_true '[ $(probes) = 1 ]'
            mv $dir/y.sqfs $image
            $run $image probe cat /etc/marker; echo " servers $(servers)"
            pkill -9 -f "^probe cat $dir/hold"; until_true '[ $(servers) = 0 ]'
            """)
        #expect(run.outputText == "second servers 2\n")
    }

    @Test("What cannot be run or written says why")
    func refusals() throws {
        try Data("hsqs, and nothing more that would be an image".utf8).write(
            to: URL(fileURLWithPath: path + "/bad.sqfs"))
        let bad = try store.trireme("run", path + "/bad.sqfs", "probe", "pwd")
        #expect(bad.status == 125)
        #expect(bad.errorText.contains("[archive-invalid]"))
        let exists = try cli("image", "convert", store.path + "/rootfs", path + "/x.sqfs")
        #expect(exists.status == 125)
        #expect(exists.errorText.contains("[conversion-refused]") && exists.errorText.contains("file exists"))
    }

    @Test("Back to a directory, without what was added to run it")
    func convertedBack() throws {
        #expect(try cli("image", "convert", path + "/x.sqfs", path + "/back").status == 0)
        #expect(try String(contentsOfFile: path + "/back/etc/marker", encoding: .utf8) == "first")
        #expect(!FileManager.default.fileExists(atPath: path + "/back/.trireme"))
        try script("diff -r $dir/back/bin $dir/store/rootfs/bin")
    }
}
