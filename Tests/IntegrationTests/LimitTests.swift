import Foundation
import LinuxSystem
import TestSupport
import Testing

/// Limits of one container: enforced, or refused with the reason.
///
/// What needs a control group runs where one is delegated to this user (`Scripts/ordinary-user` does
/// that for version 1; `make test-vm` has version 2); elsewhere the same options must be refused.
@Suite(.serialized) struct LimitTests {
    let store: LimitFixture
    init() throws { store = try LimitFixture.shared.get() }

    /// Whether groups of `controller` can be made below this process's own.
    private static func isDelegated(_ controller: String) -> Bool {
        guard let own = CgroupTree.current().legacy(controller)?.directory else { return false }
        return access(own, W_OK) == 0
    }

    private static var groupsOfOurs: [String] { ControlGroup.leftovers() }

    /// Version 1 without delegation: nothing may be promised.
    private func expectRefused(_ run: ProgramRun, _ option: String, location: SourceLocation = #_sourceLocation) {
        #expect(run.status == 125, "\(run.errorText)", sourceLocation: location)
        #expect(run.errorText.hasPrefix("trireme: \(option)"), sourceLocation: location)
        #expect(run.errorText.contains("[limit-refused]"), sourceLocation: location)
        #expect(run.errorText.contains("hint: "), sourceLocation: location)
        #expect(run.output.isEmpty, sourceLocation: location)
    }

    @Test func memory() throws {
        let run = try store.trireme("run", "-m", "32m", "box", "probe", "eat", "100000000")
        guard Self.isDelegated("memory") else { return expectRefused(run, "--memory") }
        #expect(run.status == 137)
        #expect(run.errorText.contains("box: killed by the memory limit 32 MiB (oom_kill 1) [memory-limit]"))
        let fits = try store.trireme("run", "--mem", "32", "box", "probe", "eat", "4000000")
        #expect(fits.lines == ["ate 4000000"])
        #expect(fits.status == 0)
        #expect(fits.errorText.isEmpty)
        #expect(Self.groupsOfOurs.isEmpty)
    }

    @Test(.enabled(if: isDelegated("memory"), "no control group is delegated to this user"))
    func memoryIsShownInside() throws {
        let own = CgroupTree.current().legacy("memory")!.point
        let shown = try store.trireme(
            "run", "-m", "32m", "box", "probe", "cat", own + "/memory.limit_in_bytes")
        #expect(shown.lines == ["\(32 << 20)"])
        let lifted = try store.trireme(
            "run", "-m", "32m", "box", "probe", "write", own + "/memory.limit_in_bytes")
        #expect(lifted.lines == ["EROFS"])
        let paths = try store.trireme("run", "-m", "32m", "box", "probe", "cat", "/proc/self/cgroup")
        #expect(paths.lines.contains { $0.hasSuffix(":memory:/") })
    }

    @Test func processes() throws {
        let run = try store.trireme("run", "--pids-limit", "5", "box", "probe", "forks", "20")
        guard Self.isDelegated("pids") else { return expectRefused(run, "--pids-limit") }
        #expect(run.lines == ["4 EAGAIN"])
        #expect(Self.groupsOfOurs.isEmpty)
    }

    @Test func processorTime() throws {
        // A tenth of a processor: 200 ms of work take at least 1.5 s however idle the machine is.
        let run = try store.trireme("run", "--cpus", "0.1", "box", "probe", "spin", "200")
        guard Self.isDelegated("cpu") else { return expectRefused(run, "--cpus") }
        #expect(run.lines.first.flatMap { Int($0) } ?? 0 > 1500)
    }

    @Test func processorsByNumber() throws {
        let allowed = ProcessorList.allowed()
        let one = try store.trireme("run", "--cpuset", allowed.prefix(1).description, "box", "probe", "processors")
        #expect(one.lines == ["1"], "\(one.errorText)")
        let foreign = try store.trireme("run", "--cpuset", "0-8000", "box", "probe", "processors")
        #expect(foreign.status == 125)
        #expect(foreign.errorText.contains("not among those allowed here (\(allowed))"))
        let many = try store.trireme("run", "--cpus", "8000", "box", "true")
        #expect(many.status == 125)
        #expect(many.errorText.contains("this process may use \(allowed.count) processors"))
    }

    @Test func bestEffortWarns() throws {
        let run = try store.trireme("run", "--limits", "best-effort", "--net-bw", "1m", "box", "true")
        #expect(run.status == 0)
        #expect(run.errorText.contains("warning: --net-bw"))
        expectRefused(try store.trireme("run", "--net-bw", "1m", "box", "true"), "--net-bw")
        if !Self.isDelegated("memory") {
            let memory = try store.trireme("run", "--limits=best-effort", "-m", "32m", "box", "true")
            #expect(memory.status == 0)
            #expect(memory.errorText.contains("warning: --memory does not hold"))
        }
    }

    @Test func limitsOfProcesses() throws {
        let files = try store.trireme("run", "--ulimit", "nofile=64:128", "box", "probe", "limit", "7")
        #expect(files.lines == ["64 128"], "\(files.errorText)")
        let core = try store.trireme("run", "--ulimit", "core=0", "--ulimit", "host", "box", "probe", "limit", "4")
        #expect(core.lines == ["0 0"])
        if geteuid() != 0 {
            let above = try store.trireme("run", "--ulimit", "nofile=-1", "box", "true")
            expectRefused(above, "--ulimit nofile")
            #expect(above.errorText.contains("the hard limit of this session is"))
        }
    }

    @Test func sharedMemory() throws {
        let run = try store.trireme("run", "--shm-size", "5m", "box", "probe", "cat", "/proc/self/mountinfo")
        #expect(run.lines.contains { $0.contains(" /dev/shm ") && $0.contains("size=5120k") })
    }

    @Test(arguments: [
        ["--memory", "0"], ["--memory", "1m"], ["--memory", "-5g"], ["--memory", "x"], ["--memory", "1.2.3g"],
        ["--memory", "99999999999999g"], ["--memory", "16777216t"], ["--mem", "1"],
        ["--memory-soft", "5k"], ["--mem-soft", "5k"], ["--memory-reservation", "5k"], ["--cpuset-cpus", "3-1"],
        ["--cpus", "0"], ["--cpus", "0.001"], ["--cpus", "x"], ["--cpus", "1e3"],
        ["--cpus", "99999999"], ["--cpus", "."], ["--pids-limit", "0"], ["--pids-limit", "-1"],
        ["--pids-limit", "99999999999999999999"], ["--cpuset", "3-1"], ["--cpuset", "0-99999"],
        ["--ulimit", "nofile"], ["--ulimit", "colour=1"], ["--ulimit", "nofile=2:1"], ["--ulimit", "nofile=1:2:3"],
        ["--ulimit", "nofile=x"], ["--io-bw", "0"], ["--shm-size", "0"], ["--memory-swap", "1g"],
    ])
    func impossibleValues(_ words: [String]) throws {
        let run = try store.trireme("run", words[0] + "=" + words[1], "box", "true")
        #expect(run.status == 125)
        #expect(run.errorText.contains("[limit-value]"), "\(run.errorText)")
        let names = [
            "--mem-soft": "--memory-soft", "--memory-reservation": "--memory-soft", "--cpuset-cpus": "--cpuset",
        ]
        #expect(run.errorText.hasPrefix("trireme: \(names[words[0]] ?? words[0]) \(words[1])"), "\(run.errorText)")
    }

    @Test(.enabled(if: isDelegated("memory"), "no control group is delegated to this user"))
    func statusAndSignalsPassThroughTheKeeper() throws {
        #expect(try store.trireme("run", "-m", "32m", "box", "probe", "exit", "9").status == 9)
        #expect(try store.trireme("run", "-m", "32m", "box", "probe", "kill", "15").status == 128 + 15)
        let missing = try store.trireme("run", "-m", "32m", "box", "nosuch")
        #expect(missing.status == 127)
        #expect(missing.errorText.contains("[command-not-found]"))
        #expect(Self.groupsOfOurs.isEmpty)
    }

    /// With an init as well one process keeps both, and a second one waits for its end.
    @Test(.enabled(if: isDelegated("memory"), "no control group is delegated to this user"))
    func oneKeeperOfGroupAndNamespace() throws {
        let options = ["run", "--init", "-m", "32m", "box", "probe"]
        func inside(_ words: String...) throws -> ProgramRun {
            try runProgram(
                [try Programs.path("trireme")] + options + words,
                environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        }
        #expect(try inside("exit", "9").status == 9)
        #expect(try inside("kill", "15").status == 128 + 15)
        let eaten = try inside("eat", "100000000")
        #expect(eaten.status == 137)
        #expect(eaten.errorText.contains("box: killed by the memory limit 32 MiB"), "\(eaten.errorText)")
        #expect(try inside("nosuch").status == 2)
        let missing = try store.trireme("run", "--init", "-m", "32m", "box", "nosuch")
        #expect(missing.status == 127 && missing.errorText.contains("[command-not-found]"))
        let late = try store.trireme("run", "--timeout", "1s", "-m", "32m", "box", "probe", "linger")
        #expect(late.status == 124 && late.errorText.contains("[timeout]"))
        #expect(Self.groupsOfOurs.isEmpty)
        let script = """
            children() { for p in $(cat /proc/$1/task/$1/children); do echo; children $p; done; }
            "$0" run --init -m 32m box probe signals 1 >out & launcher=$!
            for i in $(seq 300); do grep -q ready out && break; sleep 0.1; done
            echo "processes:$(children $launcher | wc -l)"
            kill -TERM $launcher; wait $launcher; echo "status:$?"
            """
        let run = try runProgram(
            ["sh", "-c", script, try Programs.path("trireme")],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        // The waiting one, the init and the application.
        #expect(run.lines == ["processes:3", "status:0"], "\(run.errorText)")
        #expect(Self.groupsOfOurs.isEmpty)
    }

    /// SIGKILL of the launcher: the container and its group are gone.
    @Test(
        .enabled(if: isDelegated("memory"), "no control group is delegated to this user"), arguments: ["", "--init"])
    func aKilledLauncherLeavesNothing(options: String) throws {
        let script = """
            "$0" run \(options) -m 32m box probe sleep 600 >out & launcher=$!
            for i in $(seq 300); do grep -q asleep out && break; sleep 0.1; done
            kill -9 $launcher; wait $launcher 2>/dev/null
            for i in $(seq 100); do
                left=$(find "$1" -maxdepth 1 -name 'trireme-*'); [ -z "$left" ] && break; sleep 0.1
            done
            grep asleep out; echo "left:$left"
            """
        let run = try runProgram(
            [
                "sh", "-c", script, try Programs.path("trireme"), CgroupTree.current().legacy("memory")!.directory!,
            ], environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        #expect(run.lines == ["asleep", "left:"])
    }
}

/// A store with one image, `box`, that holds the probe: the options of limits go through `trireme-cli`,
/// which wants an image that was imported.
final class LimitFixture: Sendable {
    static let shared = Result { try LimitFixture() }

    let directory: TemporaryDirectory
    var path: String { directory.path + "/imported" }
    var home: String { directory.path + "/home" }

    init() throws {
        let made = try HandmadeStore()
        directory = made.directory
        let tree = path + ".tree"
        let line = """
            mkdir -p "$1/bin" "$1/etc" && cp "$2/layers/base/bin/probe" "$1/bin/" && cp "$1/bin/probe" "$1/bin/true" &&
            tar -C "$1" -cf "$1.tar" . && "$0" image import "$1.tar" box
            """
        let run = try runProgram(
            ["sh", "-c", line, try Programs.path("trireme"), tree, made.path], environment: ["TRIREME_STORE": path])
        guard run.status == 0 else { throw Failed(what: run.errorText) }
    }
    struct Failed: Error { var what: String }

    func trireme(_ arguments: String...) throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme")] + arguments, environment: ["TRIREME_STORE": path, "HOME": home],
            directory: home, limitSeconds: 120)
    }
}
