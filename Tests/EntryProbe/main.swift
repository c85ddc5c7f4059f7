import ContainerLaunch
import Glibc

// Stands for a node's agent in the tests: a process of one thread that uses the facade.
//
//   EntryProbe PLAN-FILE STORE COMMAND [ARG…]
let words = CommandLine.arguments
guard words.count > 3 else { exit(2) }
let file = open(words[1], O_RDONLY | O_CLOEXEC)
var plan = [UInt8](repeating: 0, count: 1 << 16)
let length = read(file, &plan, plan.count)
guard length > 0 else { exit(2) }

func bytes(_ words: [String]) -> [[UInt8]] { words.map { Array($0.utf8) } }

let status = plan[..<length].withUnsafeBytes { raw in
    do throws(LaunchFailure) {
        try enterContainer(plan: raw, store: words[2])
        let environment = composedEnvironment(plan: raw, host: bytes(["HOST=1"]), overrides: bytes(["OVER=2"]))
        throw becomeCommand(bytes(Array(words[3...])), environment: environment)
    } catch {
        return LaunchDiagnosis(error, image: error.subject).report()
    }
}
exit(status)
