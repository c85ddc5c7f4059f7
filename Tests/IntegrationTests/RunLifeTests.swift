import Foundation
import TestSupport
import Testing

/// Signals, ends and what is left behind. Waiting is by events of the processes, never by a clock alone.
@Suite struct RunLifeTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    /// `trireme run OPTIONS prepared probe VERB` driven by a shell script in which it is `$@`.
    private func script(_ text: String, _ options: [String], _ command: String...) throws -> ProgramRun {
        try runProgram(
            ["bash", "-c", text, "bash", try Programs.path("trireme"), "run"] + options + ["prepared", "probe"]
                + command,
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home, limitSeconds: 120)
    }

    @Test(arguments: [[], ["--init"], ["--profile", "isolated"]])
    func theStatusIsTheApplications(options: [String]) throws {
        #expect(try script("\"$@\"", options, "exit", "7").status == 7)
        #expect(try script("\"$@\"", options, "exit", "0").status == 0)
        for number in [6, 9, 15] {
            // The shell turns death by a signal into 128+N.
            #expect(try script("\"$@\"", options, "kill", "\(number)").status == 128 + Int32(number))
        }
    }

    @Test(arguments: [[], ["--init"]], ["$!", "-$!"])
    func everySignalArrivesOnce(options: [String], target: String) throws {
        // bash: dash has no `set -m` without a terminal. It puts the job into a process group of its own; -PID is the whole group.
        let run = try script(
            """
            set -m; "$@" >out & n=0
            while ! grep -q ready out 2>/dev/null && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done
            for s in 1 2 3 10 12 28 15; do
                kill -$s -- \(target); n=0
                while ! grep -qx $s out && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done
            done
            wait $!; echo status $? >>out; cat out
            """, options, "signals", "1")
        #expect(run.lines == ["ready", "1", "2", "3", "10", "12", "28", "15", "status 0"])
    }

    @Test(arguments: [[], ["--init"]])
    func aStopIsSeenOutsideAndEnds(options: [String]) throws {
        let run = try script(
            """
            "$@" >out & n=0
            while [ "$(cut -d')' -f2 /proc/$!/stat | cut -c2)" != T ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done
            [ $n -lt 300 ] && echo stopped
            kill -CONT $!; wait $!; echo status $?; cat out
            """, options, "stop")
        #expect(run.lines == ["stopped", "status 0", "went on"])
    }

    @Test func theEndOfTheTimeIsTheEndOfEverything() throws {
        // The output ends only when its last holder, the orphan, has ended.
        let run = try script("\"$@\"", ["--timeout", "1.5s", "--stop-timeout", "500ms"], "linger")
        #expect(run.status == 124)
        #expect(run.lines == ["ready"])
        #expect(run.errorText.contains("ended after 1.500 s by --timeout [timeout]"))
    }

    @Test(arguments: [["--init"], ["--profile", "isolated"]])
    func aKilledLauncherLeavesNoProcess(options: [String]) throws {
        let run = try script(
            """
            "$@" >out & n=0
            while ! grep -q ready out 2>/dev/null && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done
            kill -KILL $!; wait $! 2>/dev/null; echo status $?
            """, options, "linger")
        // runProgram returned: nobody holds the output any more.
        #expect(run.lines == ["status 137"])
    }

    @Test func optionsOfDaemonsAreRefusedWithTheWayToDoIt() throws {
        for option in [["-d"], ["--detach"], ["--name", "x"]] {
            let run = try script("\"$@\"", option, "exit", "0")
            #expect(run.status == 125)
            #expect(run.errorText.contains("[no-daemon]"))
        }
        for both in [["-it"], ["--interactive", "--tty"]] {
            let terminal = try script("\"$@\"", both, "exit", "0")
            #expect(terminal.status == 125)
            #expect(terminal.errorText.contains("the input device is not a TTY"))
        }
        for wrong in [["--timeout", "soon"], ["--timeout", "0"], ["--stop-signal", "SIGNOT"]] {
            let run = try script("\"$@\"", wrong, "exit", "0")
            #expect(run.status == 125)
            #expect(run.errorText.contains("[option-value]"))
        }
        #expect(try script("\"$@\"", ["--rm"], "exit", "3").status == 3)
    }
}
