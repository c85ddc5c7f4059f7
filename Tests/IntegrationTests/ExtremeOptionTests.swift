import Foundation
import TestSupport
import Testing

/// Numbers on the command line: whatever they are, a program says what is wrong with them, or goes on, and never
/// ends by a trap.
@Suite struct ExtremeOptionTests {
    private static let numbers = [
        "-1", "0", "4294967296", "9223372036854775", "9223372036854775807", "-9223372036854775808",
        "18446744073709551615", "1e308", "nan",
    ]

    /// Commands that end at once, whatever the number.
    private static let commands: [[String]] = [
        ["job", "wait", "none", "--timeout", "%"], ["job", "logs", "none", "-n", "%"],
        ["job", "stats", "none", "--rank", "%"],
        ["image", "prune", "--older-than", "%d"], ["image", "prune", "--keep-size", "%g"],
        ["image", "prune", "--filter", "until=%h"],
        ["image", "load", "-i", "/none", "--max-files", "%", "--max-size", "%t"],
        ["image", "convert", "/none", "/none/x.sqfs", "--level", "%", "--block-size", "%"],
        ["image", "spread", "none:1", "--timeout", "%", "--port", "%"],
        ["run", "--dry-run", "--memory", "%g", "--cpus", "%", "--pids-limit", "%", "none:1", "true"],
        ["run", "--dry-run", "--timeout", "%", "--stop-timeout", "%h", "--preserve-fds", "%", "none:1", "true"],
        ["run", "--dry-run", "--shm-size", "%m", "--ulimit", "nofile=%:%", "--io-bw", "%m", "none:1", "true"],
        ["run", "--dry-run", "--cpuset-cpus", "0-%", "--gpus", "%", "none:1", "true"],
        ["run", "-n", "%", "-N", "%", "--ntasks-per-node", "%", "-c", "%", "none:1", "true"],
        ["run", "-n", "1", "--grace", "%", "--join-timeout", "%", "--port", "%", "--time", "%-%:%", "none:1", "true"],
        ["registry", "serve", "--idle-timeout", "%", "--address", "127.0.0.1:%", "--data", "/usr"],
    ]

    @Test func nothingTraps() throws {
        let directory = try TemporaryDirectory()
        let environment = [
            "TRIREME_STORE": directory.path + "/store", "HOME": directory.path,
            "XDG_STATE_HOME": directory.path + "/state",
        ]
        for command in Self.commands {
            for number in Self.numbers {
                let words = command.map { $0.replacing("%", with: number) }
                let run = try runProgram(
                    [try Programs.path("trireme-cli")] + words, environment: environment, limitSeconds: 60)
                #expect(
                    run.status < 128 && run.status != 0 || words[0] == "image",
                    "\(words): \(run.status) \(run.errorText)")
                #expect(run.status < 128, "\(words): \(run.status) \(run.errorText)")
            }
        }
    }
}
