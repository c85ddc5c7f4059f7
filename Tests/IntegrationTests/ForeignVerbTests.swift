import Foundation
import TestSupport
import Testing

/// What users of docker and Apptainer type first is answered with the verb that does it, and that verb exists.
@Suite struct ForeignVerbTests {
    private static let verbs = [
        "build", "cp", "inspect", "history", "rm", "stop", "top", "diff", "system", "prune", "commit", "wait", "attach",
        "version", "info", "instance", "cache", "verify", "sif", "tag", "kill", "import", "create", "start", "test",
    ]

    @Test(arguments: verbs) func anAnswerForEach(verb: String) throws {
        let cli = try Programs.path("trireme-cli")
        let run = try runProgram([cli, verb, "x"])
        #expect(run.status == 125 && run.outputText.isEmpty)
        #expect(run.errorText.contains("'\(verb)'") && run.errorText.contains("[unknown-verb]"), "\(run.errorText)")
        #expect(run.errorText.contains("hint: ") && !run.errorText.contains("did you mean"), "\(run.errorText)")
        let hints = run.errorText.drop { $0 != "\n" }
        for named in hints.matches(of: /trireme ([a-z]+)(?: ([a-z]+))?/) {
            var words = [String(named.1)]
            if let second = named.2, ["image", "job"].contains(named.1) { words.append(String(second)) }
            let help = try runProgram([cli] + words + ["--help"])
            #expect(help.status == 0, "\(words): \(run.errorText)")
        }
    }
}
