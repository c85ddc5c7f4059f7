import Foundation
import TestSupport
import Testing

/// Nothing is left of a container, however often and however badly its launchers end.
@Suite(.serialized) struct RunLeakTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    private func script(_ text: String, _ options: [String], _ command: [String]) throws -> ProgramRun {
        try runProgram(
            ["bash", "-c", text, "bash", try Programs.path("trireme"), "run"] + options + ["prepared", "probe"]
                + command,
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home,
            limitSeconds: 120)
    }

    @Test(arguments: [[], ["--profile", "isolated"]]) func manyStartsLeakNothing(options: [String]) throws {
        let count = ProcessInfo.processInfo.environment["TRIREME_TEST_FULL"] == nil ? 200 : 1000
        let run = try script(
            """
            # A temporary directory of its own: other tests make and remove theirs meanwhile.
            export TMPDIR=$HOME/tmp; mkdir -p $TMPDIR
            entries() { find $HOME $TRIREME_STORE | wc -l; }
            # Not through a pipe: the shell's own end of it may be counted, or not.
            descriptors() { ls /proc/$$/fd >$HOME/fd.$1; }
            descriptors before; descriptors after
            m=$(wc -l </proc/self/mountinfo) t=$(entries) failed=0
            for i in $(seq \(count)); do "$@" || failed=$((failed + 1)); done
            descriptors after
            echo $failed $(( $(wc -l </proc/self/mountinfo) - m )) $(( $(entries) - t )) \
                $(( $(wc -l <$HOME/fd.after) - $(wc -l <$HOME/fd.before) ))
            """, options, ["exit", "0"])
        #expect(run.lines == ["0 0 0 0"], "\(run.outputText)\(run.errorText)")
    }

    /// Launchers are killed at any moment of their start; a second later nothing of them runs.
    @Test(arguments: [[], ["--profile", "isolated"], ["--init"], ["--timeout", "1h"]])
    func killedLaunchersLeaveNothing(options: [String]) throws {
        let count = ProcessInfo.processInfo.environment["TRIREME_TEST_FULL"] == nil ? 40 : 300
        let run = try script(
            """
            mark=leak-$$-$RANDOM; m=$(wc -l </proc/self/mountinfo)
            for i in $(seq \(count)); do
                "$@" $mark >/dev/null 2>&1 & p=$!
                sleep 0.00$((RANDOM % 10)); kill -9 $p 2>/dev/null; wait $p 2>/dev/null
            done
            # The kernel and the keepers have a second; a busy machine a few more.
            for i in $(seq 100); do [ -z "$(pgrep -f "probe sleep 3000 $mark")" ] && break; sleep 0.1; done
            pgrep -af "probe sleep 3000 $mark"
            echo $(( $(wc -l </proc/self/mountinfo) - m ))
            """, options, ["sleep", "3000"])
        #expect(run.lines == ["0"], "\(run.outputText)\(run.errorText)")
    }
}
