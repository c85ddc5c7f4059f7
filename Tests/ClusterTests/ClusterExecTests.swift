import Foundation
import TestSupport
import Testing

/// A command in a node behaves like a command here.
@Suite(.serialized) struct ClusterExecTests {
    let fixture: ClusterFixture
    init() throws {
        fixture = try ClusterFixture()
        try #require(try fixture.create("x", nodes: 1).status == 0)
    }

    @Test func statusAndStreams() throws {
        #expect(try fixture.exec("x", "--", "sh", "-c", "exit 42").status == 42)
        #expect(try fixture.exec("x", "--", "sh", "-c", "kill -9 $$").status == 137)
        let missing = try fixture.exec("x", "--", "no-such-program")
        #expect(missing.status == 127 && missing.errorText.contains("'no-such-program'"))
        #expect(try fixture.exec("x", "--", "/etc").status == 126)
        let run = try fixture.run(["exec", "x", "n1", "--", "sh", "-c", "cat; echo error >&2"], input: "in\n")
        #expect(run.outputText == "in\n" && run.errorText == "error\n")
        // The node may be given without '--', and arguments pass byte for byte.
        #expect(try fixture.exec("x", "n1", "hostname").lines == ["n1"])
        #expect(try fixture.exec("x", "--", "printf", "%s|", "a b", "", "--", "-x").outputText == "a b||--|-x|")
    }

    @Test func directoryAndEnvironment() throws {
        let home = ProcessInfo.processInfo.environment["HOME"] ?? "/"
        let here = try runProgram(
            [fixture.program, "cluster", "exec", "x", "--", "pwd"],
            environment: ["XDG_STATE_HOME": fixture.directory.path], directory: "/usr/lib")
        #expect(here.outputText == "/usr/lib\n")
        let elsewhere = try runProgram(
            [fixture.program, "cluster", "exec", "x", "--", "pwd"],
            environment: ["XDG_STATE_HOME": fixture.directory.path], directory: fixture.directory.path)
        #expect(elsewhere.outputText == home + "\n" || elsewhere.outputText == fixture.directory.path + "\n")
        let environment = try fixture.run(
            ["exec", "x", "--", "env"], environment: ["TMPDIR": "/nonexistent", "LD_LIBRARY_PATH": "/x", "OWN": "1"])
        #expect(environment.lines.contains("OWN=1") && environment.lines.contains("TRIREME_CLUSTER=x"))
        #expect(!environment.outputText.contains("TMPDIR") && !environment.outputText.contains("LD_LIBRARY_PATH"))
    }

    @Test func signalsReachTheCommandOnce() throws {
        let command =
            "n=0; trap 'n=$((n+1))' TERM; echo ready; while [ $n -eq 0 ]; do sleep 0.05; done; sleep 0.2; exit $((n+10))"
        let script = """
            "$0" cluster exec x -- sh -c "$1" >"$2/said" & p=$!
            until grep -q ready "$2/said"; do sleep 0.05; done
            kill -TERM $p; wait $p; status=$?; cat "$2/said"; rm "$2/said"; exit $status
            """
        let run = try runProgram(
            ["sh", "-c", script, fixture.program, command, fixture.directory.path],
            environment: ["XDG_STATE_HOME": fixture.directory.path])
        #expect(run.outputText == "ready\n")
        #expect(run.status == 11)
    }

    @Test func aKilledExecLeavesNothing() throws {
        let run = try runProgram(
            [
                "timeout", "--foreground", "-s", "KILL", "0.5", fixture.program, "cluster", "exec", "x", "n1", "--",
                "sleep", "4711",
            ],
            environment: ["XDG_STATE_HOME": fixture.directory.path])
        #expect(run.status == 137)
        let isGone = try ClusterFixture.eventually {
            try !fixture.exec("x", "n1", "--", "ps", "-eo", "stat,args").lines.contains {
                $0.contains("sleep 4711") && !$0.hasPrefix("Z")
            }
        }
        #expect(isGone)
    }
}
