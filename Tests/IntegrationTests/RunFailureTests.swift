import Foundation
import LaunchPlan
import TestSupport
import Testing

/// Each failure says what, why and what next, with the exit codes of the specification.
@Suite struct RunFailureTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    private func expect(
        _ run: ProgramRun, status: Int32, _ parts: String..., location: SourceLocation = #_sourceLocation
    ) {
        #expect(run.status == status, "\(run.errorText)", sourceLocation: location)
        #expect(run.output.isEmpty, sourceLocation: location)
        #expect(run.errorText.hasPrefix("trireme: "), sourceLocation: location)
        for part in parts + ["hint: "] {
            #expect(run.errorText.contains(part), "\(part) in \(run.errorText)", sourceLocation: location)
        }
    }

    @Test func commandMissing() throws {
        expect(try store.trireme("run", "prepared", "nosuch"), status: 127, "nosuch", "/bin", "[command-not-found]")
        expect(try store.trireme("run", "prepared", "/no/such"), status: 127, "/no/such", "[command-not-found]")
        expect(try store.trireme("run", "prepared", ""), status: 127, "[command-not-found]")
        expect(try store.trireme("run", "prepared"), status: 125, "[command-missing]")
    }

    @Test func commandCannotBeExecuted() throws {
        expect(
            try store.trireme("run", "prepared", "not-executable"), status: 126, "/bin/not-executable", "chmod +x",
            "[command-not-executable]")
        expect(
            try store.trireme("run", "prepared", "no-interpreter"), status: 126, "/no/such/interpreter",
            "[command-not-executable]")
        expect(try store.trireme("run", "prepared", "no-program"), status: 126, "ELF", "[command-not-executable]")
        expect(try store.trireme("run", "prepared", "/srv"), status: 126, "it is a directory")
        #if arch(x86_64)
            let names = ("aarch64", "x86_64")
        #else
            let names = ("x86_64", "aarch64")
        #endif
        expect(
            try store.trireme("run", "prepared", "foreign"), status: 126, "for \(names.0)", "host is \(names.1)",
            "[wrong-architecture]")
    }

    @Test func programWithoutItsLoader() throws {
        // A dynamic program of the host, in an image without a C library.
        try FileManager.default.copyItem(atPath: "/bin/cat", toPath: store.home + "/dynamic")
        expect(
            try store.trireme("run", "prepared", store.home + "/dynamic"), status: 126, "its loader is missing",
            "/ld-linux",
            "[command-not-executable]")
    }

    @Test func damagedPlanAndMissingLayer() throws {
        try store.write("plans/broken:latest", "TRPLAN01 but no more")
        expect(try store.trireme("run", "broken", "true"), status: 125, "broken", "[plan-damaged]")
        var plan = store.prepared
        plan.layers.append("layers/gone")
        try store.add("hole", plan)
        expect(try store.trireme("run", "hole", "true"), status: 125, "layers/gone", "[layer-missing]")
    }

    @Test func badVariables() throws {
        expect(try store.trireme("run", "-e", "=x", "prepared", "true"), status: 125, "=x", "[usage]")
        expect(try store.trireme("run", "-e", "", "prepared", "true"), status: 125, "[usage]")
    }

    @Test func aValueThatIsMissing() throws {
        for word in ["--cpus=", "--bind=", "--workdir=", "--env=", "--profile=", "--user=", "--ntasks="] {
            let run = try store.trireme("run", word, "prepared", "probe", "exit", "3")
            expect(run, status: 125, "\(word): its value is missing", "[option-value]")
        }
        expect(try store.trireme("run", "--init=", "prepared", "true"), status: 125, "takes no value")
        expect(try store.trireme("run", "--cpu=", "prepared", "true"), status: 125, "did you mean --cpus?")
        // What is not the value of an option is not looked at, and none of the image's is no mistake.
        #expect(try store.trireme("run", "prepared", "probe", "exit", "--cpus=").status == 0)
        #expect(try store.trireme("run", "-e", "--cpus=", "--shm-size=1m", "prepared", "true").status == 0)
        for options in [["--entrypoint="], ["--entrypoint=", "--shm-size", "1m"]] {
            let run = try runProgram(
                [try Programs.path("trireme"), "run"] + options + ["prepared", "probe", "exit", "4"],
                environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
            #expect(run.status == 4, "\(options): \(run.errorText)")
        }
        // Behind each option without a value the next one is still seen.
        let help = try runProgram([try Programs.path("trireme-cli"), "run", "--help"]).lines
        let flags = help.compactMap { line -> String? in
            let words = line.split(separator: " ").map { $0.trimmingCharacters(in: [",", "/"]) }
            guard line.hasPrefix("  -"), !words.contains(where: { $0.hasPrefix("<") }) else { return nil }
            return words.first { $0.hasPrefix("--") }
        }
        #expect(flags.count > 10)
        for flag in flags where flag != "--help" && flag != "--version" {
            let run = try store.trireme("run", flag, "--cpus=", "prepared", "true")
            #expect(run.errorText.contains("--cpus=: its value is missing"), "\(flag): \(run.errorText)")
        }
    }

    @Test func theHostsOwnRootIsNoImage() throws {
        for path in ["/", "/etc/.."] {
            let run = try store.trireme("run", path, "true")
            expect(run, status: 125, "the root of this host itself", "[image-path]", "trireme image ls")
        }
    }

    @Test func noUserNamespaces() throws {
        // An outer user namespace in which the limit is ours to set to 0.
        let run = try runProgram(
            [
                "unshare", "-U", "-r", "sh", "-c",
                "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" run prepared true",
                try Programs.path("trireme"),
            ], environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        expect(
            run, status: 125, "user.max_user_namespaces = 0", "sysctl -w user.max_user_namespaces",
            "[no-user-namespaces]")
    }

    @Test func worksInsideAnotherUserNamespace() throws {
        let run = try runProgram(
            ["unshare", "-U", "-r", "-m", try Programs.path("trireme"), "run", "prepared", "probe", "id"],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        #expect(run.lines == ["0 0 0 0"])
        #expect(run.status == 0)
    }

    @Test func worksInsideItself() throws {
        let trireme = store.home + "/trireme"
        try FileManager.default.copyItem(atPath: try Programs.path("trireme"), toPath: trireme)
        let run = try store.trireme(
            "run", "prepared", trireme, "run", "plain", trireme, "run", "prepared", "probe", "id")
        if geteuid() == 0 {
            // The kernel's rule, not ours (user_namespaces(7)): an unprivileged uid 0 cannot be mapped on.
            expect(run, status: 125, "CAP_SETFCAP", "[no-user-namespaces]")
        } else {
            #expect(run.lines == ["\(getuid()) \(geteuid()) \(getgid()) \(getegid())"])
        }
    }

    @Test func theRestIsHandedOverByteForByte() throws {
        let bin = try TemporaryDirectory()
        try FileManager.default.copyItem(atPath: try Programs.path("trireme"), toPath: bin.path + "/trireme")
        let cli = bin.path + "/trireme-cli"
        let environment: [String: String?] = ["TRIREME_STORE": store.path, "HOME": store.home]
        let missing = try runProgram([bin.path + "/trireme", "image", "ls"], environment: environment)
        expect(missing, status: 125, cli, "[installation-incomplete]")
        try "#!/bin/sh\nprintf '<%s>' \"$@\"; exit 9\n".write(toFile: cli, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: cli)
        for words in [
            [], ["image", "ls", "a b"], ["run"], ["run", "-n", "4", "prepared", "x"], ["run", "--nosuch", "prepared"],
            ["run", "unknown-image", "x"], ["run", "./file.tar", "x"], ["run", "docker://a/b", "x"],
            ["exec", "prepared"],
            ["run", "-B"], ["--version"], ["run", "--user", "root", "prepared", "x"], ["run", "-x", "prepared"],
        ] {
            let run = try runProgram([bin.path + "/trireme"] + words, environment: environment)
            #expect(run.status == 9, "\(words)")
            #expect(run.outputText == (words.isEmpty ? "<>" : words.map { "<\($0)>" }.joined()), "\(words)")
        }
    }

    @Test func aFinishedPlanComesByDescriptor() throws {
        var plan = store.prepared
        plan.command = ["probe", "fds"].map { Array($0.utf8) }
        try store.write("finished", Data(try plan.encoded()))
        let run = try runProgram(
            [
                "sh", "-c", "exec 9<\"$1\"; exec \"$0\" run --plan-fd 9 anything", try Programs.path("trireme"),
                store.path + "/finished",
            ],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        #expect(run.status == 0, "\(run.errorText)")
        #expect(!run.lines.contains("9"))
    }

    @Test func theLauncherIsSmallAndPlain() throws {
        let program = try Data(contentsOf: URL(fileURLWithPath: try Programs.path("trireme")))
        // Names that every program linking these libraries carries (protocol descriptors), and what the
        // runtime says when it cannot find itself.
        let runtime = "Unable to obtain Swift runtime path"
        for name in ["s20FoundationEssentials", "s10Foundation", "s8Dispatch0A14SourceProtocolP", runtime] {
            #expect(program.range(of: Data(name.utf8)) == nil, "\(name)")
        }
        // A disk that reads ahead reads all of it before a cold start.
        #expect(program.count < 700_000)
        // No interpreter (PT_INTERP): statically linked.
        #expect(program.range(of: Data("/ld-linux".utf8)) == nil)
        // It makes a user namespace, which the kernel refuses to a process with a second thread.
        #expect(try store.trireme("run", "prepared", "probe", "exit", "0").status == 0)
    }
}
