import Diagnostics

/// The words between `run` and IMAGE as they were typed, before they are parsed.
///
/// ArgumentParser takes `--cpus= IMAGE` for `--cpus IMAGE` and would run the command as an image.
enum RunOptionWords {
    /// Options that take no value.
    private static let flags: Set<String> = [
        "--nv", "--rocm", "--clean-env", "--dry-run", "--no-home", "--writable-tmpfs", "--read-only", "--fakeroot",
        "--fakeroot-single", "--keep-going", "--pipe-fail", "--no-ssh", "--label-io", "--quiet", "--interactive",
        "--tty", "--init",
        "--detach",
        "--help", "--version",
    ]
    private static let shortFlags: Set<Character> = ["l", "q", "i", "t", "d", "h"]
    /// Options whose empty value means something.
    private static let mayBeEmpty: Set<String> = ["--entrypoint"]

    /// `arguments` with `--name=` as two words where an empty value means something.
    ///
    /// - Throws: `option-value` where it does not.
    static func withValues(_ arguments: [String]) throws(Diagnostic) -> [String] {
        guard let verb = arguments.first, ["run", "exec", "shell"].contains(verb) else { return arguments }
        var result = [verb]
        var at = 1
        while at < arguments.count, arguments[at].hasPrefix("-"), arguments[at] != "--" {
            let word = arguments[at]
            at += 1
            if word.hasPrefix("--"), word.hasSuffix("="), word.count > 3, word.count(where: { $0 == "=" }) == 1 {
                let name = String(word.dropLast())
                guard mayBeEmpty.contains(name) else { throw nothing(behind: word, verb) }
                result += [name, ""]
                continue
            }
            result.append(word)
            if takesNext(word), at < arguments.count {
                result.append(arguments[at])
                at += 1
            }
        }
        return result + arguments[at...]
    }

    /// Whether the word after `word` is its value.
    private static func takesNext(_ word: String) -> Bool {
        if word.hasPrefix("--") { return !word.contains("=") && !flags.contains(word) }
        guard let first = word.dropFirst().drop(while: { shortFlags.contains($0) }).first else { return false }
        return word.last == first && !word.hasSuffix("=")
    }

    private static func nothing(behind word: String, _ verb: String) -> Diagnostic {
        let name = String(word.dropLast())
        guard RunOptions.longNames.contains(name) else {
            return Diagnostic(
                DiagnosticCode("option-unknown"), name, reasons: ["is not an option of 'trireme \(verb)'"],
                remedies: NearMiss.nearest(to: name, among: RunOptions.longNames).map { "did you mean \($0)?" }
                    + ["trireme \(verb) --help"])
        }
        let isFlag = flags.contains(name)
        return Diagnostic(
            DiagnosticCode("option-value"), word,
            reasons: [isFlag ? "takes no value" : "its value is missing: nothing follows the '='"],
            remedies: [isFlag ? name : "\(name)=VALUE, or leave it out", "trireme \(verb) --help"])
    }
}
