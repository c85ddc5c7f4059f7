import Foundation
import LaunchPlan
import TestSupport
import Testing

/// `trireme run` on the real thing: what the application gets and what it sees.
@Suite struct RunTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    @Test(arguments: [0, 1, 42, 124, 125, 255])
    func exitCodePassesThrough(code: Int) throws {
        #expect(try store.trireme("run", "prepared", "probe", "exit", "\(code)").status == Int32(code))
    }

    @Test(arguments: [SIGTERM, SIGKILL, SIGUSR1])
    func deathBySignalPassesThrough(signal: Int32) throws {
        #expect(try store.trireme("run", "prepared", "probe", "kill", "\(signal)").status == 128 + signal)
    }

    @Test func streamsPassThrough() throws {
        let bytes = Data((0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
        let run = try store.trireme("run", "-i", "prepared", "probe", "cat", "/proc/self/fd/0", input: bytes)
        #expect(run.output == bytes)
        #expect(run.errors.isEmpty)
    }

    @Test func argumentsAreByteEqual() throws {
        let trireme = try Programs.path("trireme")
        let words = ["", " ", "a b", "'\"$HOME`*", "-x", "--", "new\nline", "é"]
        let run = try store.trireme(
            "run", "prepared", "probe", "argv", words[0], words[1], words[2], words[3], words[4], words[5], words[6],
            words[7])
        #expect(run.strings == (["probe", "argv"] + words).map { Array($0.utf8) })
        // Bytes that are no UTF-8 reach the launcher through a shell: Foundation cannot pass them.
        let raw = try runProgram(
            [
                "sh", "-c", #"exec "$0" run -e "B=$(printf '\377=\376')" prepared probe argv "$(printf '\377\200')""#,
                trireme,
            ],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        #expect(raw.strings.last == [0xFF, 0x80])
        let environment = try runProgram(
            ["sh", "-c", #"exec "$0" run -e "B=$(printf '\377=\376')" prepared probe env"#, trireme],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        #expect(environment.strings.contains([0x42, 0x3D, 0xFF, 0x3D, 0xFE]))
    }

    @Test func imageArgumentsAreDockers() throws {
        var plan = store.prepared
        plan.entrypoint = ["/bin/probe", "argv", "", "a b", "$X\n"].map { Array($0.utf8) }
        plan.command = [Array("from image".utf8), [0xFF]]
        try store.add("entry", plan)
        let entry = plan.entrypoint
        #expect(try store.trireme("run", "entry").strings == entry + plan.command)
        #expect(try store.trireme("run", "entry", "mine").strings == entry + [Array("mine".utf8)])
        #expect(
            try store.trireme("exec", "entry", "probe", "argv").strings == ["probe", "argv"].map { Array($0.utf8) })
        #expect(
            try store.trireme("run", "--entrypoint", "/bin/probe", "entry", "argv").strings
                == ["/bin/probe", "argv"].map { Array($0.utf8) })
    }

    @Test func shellIsTheImagesBest() throws {
        for shell in ["/bin/sh", "/bin/bash"] {
            try FileManager.default.copyItem(
                atPath: store.directory.path + "/probe", toPath: store.path + "/layers/second" + shell)
            #expect(try store.trireme("shell", "prepared", "argv").strings == [shell, "argv"].map { Array($0.utf8) })
        }
    }

    @Test func environmentRule() throws {
        var plan = store.prepared
        plan.environment += ["HOME=/image", "WINS=image", "EMPTY="].map { Array($0.utf8) }
        try store.add("env", plan)
        let run = try store.trireme(
            "run", "-e", "OVER=flag", "--env=NEW=1", "-eHOSTED", "-e", "UNKNOWN_HERE", "env", "probe", "env",
            environment: [
                "PATH": "/usr/bin:/bin", "WINS": "host", "OVER": "host", "KEPT": "a=b", "HOSTED": "h",
                "LD_PRELOAD": "", "LD_LIBRARY_PATH": "/x", "LD_AUDIT": "",
            ])
        let entries = run.strings.map { String(decoding: $0, as: UTF8.self) }
        for expected in [
            "PATH=/bin", "WINS=image", "OVER=flag", "NEW=1", "HOSTED=h", "KEPT=a=b", "EMPTY=", "FROM_IMAGE=yes",
            "HOME=\(store.home)",
        ] {
            #expect(entries.filter { $0 == expected }.count == 1, "\(expected)")
        }
        for absent in ["LD_", "UNKNOWN_HERE"] { #expect(!entries.contains { $0.hasPrefix(absent) }, "\(absent)") }
        let clean = try store.trireme("run", "--clean-env", "-e", "A=1", "env", "probe", "env")
        #expect(
            Set(clean.strings.map { String(decoding: $0, as: UTF8.self) })
                == ["HOME=\(store.home)", "PATH=/bin", "FROM_IMAGE=yes", "WINS=image", "EMPTY=", "A=1"])
    }

    @Test func pathDefaultsWhenTheImageNamesNone() throws {
        var plan = store.prepared
        plan.environment = []
        try store.add("nopath", plan)
        let run = try store.trireme("run", "nopath", "/bin/probe", "env")
        #expect(
            run.strings.contains(Array("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".utf8)))
    }

    @Test func aLargeEnvironmentPasses() throws {
        let large = String(repeating: "x", count: 120_000)
        let run = try store.trireme("run", "prepared", "probe", "env", environment: ["LARGE": large])
        #expect(run.strings.contains(Array("LARGE=\(large)".utf8)))
    }

    @Test(arguments: ["prepared", "plain"])
    func callersFilesAreVisible(image: String) throws {
        try Data("mine".utf8).write(to: URL(fileURLWithPath: store.home + "/file"))
        #expect(try store.trireme("run", image, "probe", "cat", store.home + "/file").outputText == "mine")
        #expect(try store.trireme("run", image, "probe", "pwd").lines == [store.home])
        #expect(
            try store.trireme("run", image, "probe", "id").lines
                == ["\(getuid()) \(geteuid()) \(getgid()) \(getegid())"])
        #expect(try store.trireme("run", image, "probe", "write", store.home + "/new").lines == ["written"])
        let made = try FileManager.default.attributesOfItem(atPath: store.home + "/new")
        #expect((made[.ownerAccountID] as? NSNumber)?.uint32Value == geteuid())
        #expect(try store.trireme("run", image, "probe", "stat", "/tmp").status == 0)
        #expect(
            try store.trireme("run", image, "probe", "cat", "/etc/hosts").output
                == Data(contentsOf: URL(fileURLWithPath: "/etc/hosts")))
    }

    @Test func aDirectoryOutsideHomeAndTmpIsVisible() throws {
        let outside = try TemporaryDirectory(under: "/var/tmp")
        for image in ["prepared", "plain"] {
            #expect(try store.trireme("run", image, "probe", "pwd", from: outside.path).lines == [outside.path])
        }
        // The image's own directories are not covered by the host's of the same name.
        #expect(try store.trireme("run", "prepared", "probe", "pwd", from: "/usr/share").lines == ["/"])
    }

    @Test func accountsAreTheCallers() throws {
        #expect(try store.trireme("run", "prepared", "probe", "cat", "/etc/passwd").outputText.hasPrefix("prepared:"))
        var plan = store.prepared
        plan.preparedForUID = geteuid() + 1
        try store.add("others", plan)
        for image in ["others", "plain"] {
            let lines = try store.trireme("run", image, "probe", "cat", "/etc/passwd").lines
            #expect(lines.contains { $0.split(separator: ":").dropFirst(2).first == "\(geteuid())" }, "\(lines)")
            #expect(
                lines.first
                    == (image == "plain" ? "root:x:0:0::/:/bin/sh" : "prepared:x:\(geteuid()):\(getegid())::/:/bin/sh"))
        }
    }

    @Test func homeCanBeLeftOut() throws {
        let home = try TemporaryDirectory(under: "/var/tmp")
        for option in ["--no-home", "--home=none"] {
            let run = try store.trireme(
                "run", option, "prepared", "probe", "stat", home.path, environment: ["HOME": home.path], from: home.path
            )
            #expect(run.lines == ["ENOENT"])
        }
        let run = try store.trireme(
            "run", "prepared", "probe", "stat", home.path, environment: ["HOME": home.path], from: home.path)
        #expect(run.status == 0)
    }

    @Test func startDirectory() throws {
        var plan = store.prepared
        plan.workingDirectory = Array("/made/by/run".utf8)
        try store.add("workdir", plan)
        #expect(try store.trireme("run", "workdir", "probe", "pwd").lines == ["/made/by/run"])
        #expect(try store.trireme("run", "-w", "/srv", "workdir", "probe", "pwd").lines == ["/srv"])
        #expect(try store.trireme("run", "--workdir=/srv", "prepared", "probe", "pwd").lines == ["/srv"])
        let missing = try store.trireme("run", "-w", store.home + "/none", "prepared", "probe", "pwd")
        #expect(missing.status == 125)
        #expect(missing.errorText.contains("[workdir-missing]"))
    }

    @Test(arguments: ["", "0", "1234:5678", "nobody", "nobody:nogroup", "12:x y", "\u{e9}"])
    func everyUserIsAccepted(user: String) throws {
        var plan = store.prepared
        plan.user = Array(user.utf8)
        plan.userID = 1234
        plan.groupID = 5678
        try store.add("user", plan)
        #expect(
            try store.trireme("run", "user", "probe", "id").lines
                == ["\(getuid()) \(geteuid()) \(getgid()) \(getegid())"])
        let shown = user.isEmpty ? "0 0 0 0" : "1234 1234 5678 5678"
        #expect(try store.trireme("run", "--user", "image", "user", "probe", "id").lines == [shown])
    }

    @Test func manyLayersStack() throws {
        for count in [2, 20, 90] {
            var plan = store.prepared
            for index in 0..<count {
                let name = "layers/" + String(repeating: "f", count: 60) + "\(1000 + index)"
                try store.write(name + "/mark\(index)", "\(index)")
                plan.layers.insert(name, at: 0)
            }
            try store.add("many", plan)
            #expect(try store.trireme("run", "many", "probe", "cat", "/mark0").outputText == "0")
            #expect(try store.trireme("run", "many", "probe", "cat", "/mark\(count - 1)").outputText == "\(count - 1)")
        }
    }

    @Test func oneLayerIsBoundReadOnly() throws {
        var plan = store.prepared
        plan.layers = ["images/i/prepared"]
        try FileManager.default.copyItem(
            atPath: store.path + "/layers/base/bin", toPath: store.path + "/images/i/prepared/bin")
        try store.add("single", plan)
        #expect(try store.trireme("run", "single", "probe", "write", "/x").lines == ["EROFS"])
    }

    @Test func namesFindTheirPlans() throws {
        try store.add("u/app:1.0", store.prepared)
        // As the store of these tests makes them.
        func digest(_ name: String) -> String {
            let hex = name.utf8.map { String(format: "%02x", $0) }.joined()
            return "@sha256:" + (hex + String(repeating: "0", count: 64)).prefix(64)
        }
        for name in [
            "prepared", "prepared:latest", "docker.io/library/prepared", "library/prepared:latest", "u/app:1.0",
            "docker.io/u/app:1.0", "prepared" + digest("prepared"), "u/app:1.0" + digest("u/app:1.0"),
        ] {
            #expect(try store.trireme("run", name, "probe", "exit", "7").status == 7, "\(name)")
        }
        // The name counts as well as the digest.
        #expect(try store.trireme("run", "prepared" + digest("u/app:1.0"), "probe", "exit", "7").status == 125)
    }
}
