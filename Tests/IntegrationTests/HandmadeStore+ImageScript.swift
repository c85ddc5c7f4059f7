import Foundation
import TestSupport
import Testing

extension HandmadeStore {
    /// Runs a shell script that knows `$run` (trireme run), `$dir`, `$image` (x.sqfs in it) and the functions below.
    @discardableResult
    func imageScript(_ text: String) throws -> ProgramRun {
        let path = directory.path
        let run = try runProgram(
            ["sh", "-ec", Self.imageFunctions + text],
            environment: [
                "run": try Programs.path("trireme") + " run", "dir": path, "image": path + "/x.sqfs",
                "HOME": home, "TRIREME_STORE": self.path, "TRIREME_TMPDIR": path,
            ], directory: path, limitSeconds: 180)
        #expect(run.status == 0, "\(run.errorText)\(run.outputText)")
        return run
    }

    /// until_true waits for a shell condition, 30 s at most; root_of COMMAND… says what the root of its container is.
    private static let imageFunctions = """
        until_true() { n=0; while ! eval "$1"; do n=$((n+1)); [ $n -lt 300 ] || { echo "never: $1" >&2; exit 1; }; sleep 0.1; done; }
        servers() { pgrep -fc "^trireme-mount serve $image" || :; }
        probes() { pgrep -fc "^probe cat $dir/hold" || :; }
        root_of() { "$@" probe cat /proc/self/mountinfo | awk '$5 == "/" { print $3, $(NF - 2) }'; }

        """
}
