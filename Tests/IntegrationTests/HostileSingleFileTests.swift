import Foundation
import TestSupport
import Testing

/// Images of `Tests/HostileImages/images.py` in the programs that read them: what memory they may cost.
@Suite(.serialized) struct HostileSingleFileTests {
    let store: HandmadeStore
    var path: String { store.directory.path }
    private static let limitKiB = 64 << 10

    init() throws {
        store = try HandmadeStore()
        let script =
            URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../HostileImages/images.py"
        let run = try runProgram(["python3", script, path])
        #expect(run.status == 0, "\(run.errorText)")
    }

    /// The status of `command`, and the most memory it had (getrusage(2), ru_maxrss: KiB).
    private func measured(_ command: [String]) throws -> (status: Int32, peakKiB: Int, errors: String) {
        let wrap =
            "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], stdout=2).returncode; "
            + "print(r if r >= 0 else 128 - r, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        let run = try runProgram(
            ["python3", "-c", wrap] + command,
            environment: ["TRIREME_STORE": store.path, "TRIREME_TMPDIR": path, "SWIFT_BACKTRACE": "enable=no"])
        let words = run.outputText.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        try #require(words.count == 2, "\(run.outputText)\(run.errorText)")
        return (Int32(words[0]), words[1], run.errorText)
    }

    @Test(
        "Refused in little memory",
        arguments: [
            "fragment-of-nothing", "block-list", "block-list-long", "attributes", "huge", "listing-of-zeros",
            "cycle", "deep",
        ])
    func refused(name: String) throws {
        let convert = try [
            Programs.path("trireme-cli"), "image", "convert", "\(path)/\(name).sqfs", "\(path)/out-\(name)",
        ]
        let run = try measured(convert)
        #expect(run.status == 125, "\(name): \(run.errors)")
        #expect(run.peakKiB < Self.limitKiB, "\(name): \(run.peakKiB) KiB")
        #expect(!FileManager.default.fileExists(atPath: "\(path)/out-\(name)"))
    }

    @Test("Tables as long as 32 bits say cost no memory", arguments: ["fragments", "attribute-sets"])
    func tables(name: String) throws {
        let run = try measured([
            Programs.path("trireme-cli"), "image", "convert", "\(path)/\(name).sqfs", "\(path)/out-\(name)",
        ])
        #expect(run.status == 0, "\(name): \(run.errors)")
        #expect(run.peakKiB < Self.limitKiB, "\(name): \(run.peakKiB) KiB")
    }

    @Test(
        "A server gives little memory to a hostile image, and outlives it; others' do, too",
        .enabled(if: SingleFileTests.hasFuse))
    func served() throws {
        let program = try Programs.path("trireme")
        let environment: [String: String?] = [
            "TRIREME_STORE": store.path, "TRIREME_TMPDIR": path, "TRIREME_SINGLE_FILE": "fuse",
        ]
        for name in ["sound", "fragment-of-nothing", "block-list-long", "attributes", "names", "huge", "sound"] {
            let run = try runProgram(
                [program, "run", "--data", "\(path)/\(name).sqfs:/one", "prepared", "probe", "cat", "/one/a"],
                environment: environment)
            if name == "sound" {
                #expect(run.outputText == "hello\n", "\(run.errorText)")
                continue
            }
            // It is there for a second or two after its last user, unless it has died.
            let servers = try runProgram(["pgrep", "-f", "serve .*/\(name).sqfs"]).lines
            #expect(!servers.isEmpty, "\(name): the server is gone: \(run.errorText)")
            for server in servers {
                guard let status = try? String(contentsOfFile: "/proc/\(server)/status", encoding: .utf8),
                    let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
                    let peak = Int(line.split(whereSeparator: \.isWhitespace)[1])
                else { continue }
                #expect(peak < Self.limitKiB, "\(name): \(peak) KiB")
            }
        }
    }

    /// Any of `images.py`, and honest ones with the largest blocks.
    @Test("16 threads at once read any image in little memory")
    func manyThreads() throws {
        let program = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/ReadProbe"
        try runProgram([
            "sh", "-c",
            """
            set -e; mkdir "$0/tree"
            for i in $(seq 40); do { head -c 700000 /dev/urandom; head -c 400000 /dev/zero; } >"$0/tree/$i"; done
            for c in gzip zstd; do
                mksquashfs "$0/tree" "$0/large-$c.sqfs" -comp $c -b 1M -quiet -no-progress >/dev/null
            done
            rm -r "$0/tree"
            """, path,
        ])
        let images = try FileManager.default.contentsOfDirectory(atPath: path)
            // Its one listing of 300,000 names, which threads share, is `served`'s: 16 walks of it take minutes here.
            .filter { $0.hasSuffix(".sqfs") && $0 != "names.sqfs" }
        #expect(images.filter { $0.hasPrefix("large-") }.count == 2 && images.count > 13, "\(images)")
        for image in images {
            let run = try runProgram([program, "\(path)/\(image)", "16"])
            let words = run.outputText.split(whereSeparator: \.isWhitespace)
            let peak = try #require(words.count == 2 ? Int(words[1]) : nil, "\(image): \(run.errorText)")
            #expect(peak < Self.limitKiB, "\(image): \(peak) KiB")
            if image.hasPrefix("large-") { #expect(words[0] == "read", "\(image)") }
        }
    }

    @Test(
        "A good image's server serves while hostile ones are, and is the same one after",
        .enabled(if: SingleFileTests.hasFuse))
    func besideHostileOnes() throws {
        let run = try store.imageScript(
            """
            export TRIREME_SINGLE_FILE=fuse
            mkfifo $dir/hold
            $run --data $dir/sound.sqfs:/one prepared probe cat $dir/hold >$dir/said & launch=$!
            until_true '[ $(probes) = 1 ]'
            server=$(pgrep -f "^trireme-mount serve $dir/sound.sqfs"); echo "servers $(echo $server | wc -w)"
            for name in fragment-of-nothing block-list-long attributes names huge listing-of-zeros cycle deep; do
                $run --data $dir/$name.sqfs:/two prepared probe cat /two/a >/dev/null 2>&1 || true
                $run --data $dir/sound.sqfs:/one prepared probe cat /one/a
            done
            [ "$server" = "$(pgrep -f "^trireme-mount serve $dir/sound.sqfs")" ] && echo same
            echo held >$dir/hold; wait $launch; cat $dir/said
            """)
        #expect(run.lines.first == "servers 1" && run.lines.filter { $0 == "hello" }.count == 8, "\(run.outputText)")
        #expect(run.lines.suffix(2) == ["same", "held"], "\(run.outputText)\(run.errorText)")
    }
}
