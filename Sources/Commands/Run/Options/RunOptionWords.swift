import Diagnostics

/// The words between `run` and IMAGE as they were typed, before they are parsed.
///
/// ArgumentParser takes `--cpus= IMAGE` for `--cpus IMAGE` and would run the command as an image.
enum RunOptionWords {
    /// Options that take no value.
    private static let flags: Set<String> = [
        "--nv", "--rocm", "--clean-env", "--dry-run", "--no-home", "--writable-tmpfs", "--read-only", "--fakeroot",
        "--fakeroot-single", "--keep-going", "--pipe-fail", "--verbose", "--no-ssh", "--label-io", "--quiet",
        "--interactive",
        "--tty", "--init",
        "--detach",
        "--help", "--version",
    ]
    private static let shortFlags: Set<Character> = ["l", "q", "i", "t", "d", "h"]
    /// Options whose empty value means something.
    private static let mayBeEmpty: Set<String> = ["--entrypoint"]

    /// Short options with a value, which may be attached: `-N4`, `-eA=1`, `-itm512m`.
    private static let shortValues: Set<Character> = ["n", "N", "c", "o", "m", "e", "B", "v", "w"]

    /// What is parsed: up to IMAGE. And what is not: the application's own words, in whose number ArgumentParser's
    /// time is quadratic (8,000 files of a directory took four seconds).
    typealias Line = (parsed: [String], passed: [String])

    /// `arguments` in our own words, values apart, and `--name=` as two words where an empty value means something.
    ///
    /// - Throws: `option-value` where it does not.
    static func withValues(_ arguments: [String]) throws(Diagnostic) -> Line {
        guard let verb = arguments.first, ["run", "exec", "shell"].contains(verb) else { return (arguments, []) }
        var result = [verb]
        var at = 1
        let context = context(arguments)
        while at < arguments.count, arguments[at].hasPrefix("-"), arguments[at] != "--", arguments[at] != "-" {
            if let (words, taken) = try PeerOptions.translate(arguments[at...], in: context) {
                result += words
                at += taken
                continue
            }
            let word = arguments[at]
            at += 1
            try refuseSlurms(word, at < arguments.count ? arguments[at] : nil)
            if let apart = attached(word) {
                result += apart
                continue
            }
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
        // Behind `--`, and where an option stands in IMAGE's place, the parser finds what is wrong.
        guard at < arguments.count, !arguments[at].hasPrefix("-") else { return (result + arguments[at...], []) }
        return (result + [arguments[at]], Array(arguments[(at + 1)...]))
    }

    /// What the words before IMAGE say that others depend on.
    private static func context(_ arguments: [String]) -> PeerOptions.Context {
        var context = PeerOptions.Context(isRootInside: false, isIsolated: false)
        var at = 1
        while at < arguments.count, arguments[at].hasPrefix("-"), arguments[at] != "--", arguments[at] != "-" {
            let word = arguments[at]
            at += 1
            let following = at < arguments.count ? arguments[at] : nil
            context.isRootInside = context.isRootInside || ["--fakeroot", "--fakeroot-single"].contains(word)
            context.isIsolated =
                context.isIsolated || ["--profile=isolated", "--containall", "-C", "--compat"].contains(word)
                || word == "--profile" && following == "isolated"
            if PeerOptions.isTheirs(word) ? PeerOptions.takesNext(word, following) : takesNext(word) { at += 1 }
        }
        return context
    }

    /// Slurm's `-w NODES` and `-t TIME` would mean docker's directory and terminal.
    private static func refuseSlurms(_ word: String, _ following: String?) throws(Diagnostic) {
        guard let following else { return }
        if ["-w", "--workdir"].contains(word), !following.hasPrefix("/"), !following.hasPrefix(".") {
            throw Diagnostic(
                DiagnosticCode("option-value"), "\(word) \(following)",
                reasons: ["a directory in the container is an absolute path"],
                remedies: ["nodes are chosen with the allocation: salloc -w \(following)"])
        }
        if word == "-t", !following.isEmpty, following.allSatisfy({ $0.isNumber || $0 == ":" || $0 == "-" }) {
            throw Diagnostic(
                DiagnosticCode("option-value"), "-t \(following)",
                reasons: ["-t is docker's: a terminal for the command"],
                remedies: ["--time \(following) limits the job"])
        }
    }

    /// A short option and its attached value as words of their own, after the flags that join it.
    private static func attached(_ word: String) -> [String]? {
        guard !word.hasPrefix("--") else { return nil }
        let rest = word.dropFirst().drop { shortFlags.contains($0) }
        guard let letter = rest.first, shortValues.contains(letter) else { return nil }
        let value = rest.dropFirst().first == "=" ? rest.dropFirst(2) : rest.dropFirst()
        guard !value.isEmpty else { return nil }
        let joined = word.prefix(word.count - rest.count)
        return (joined.count > 1 ? [String(joined)] : []) + ["-\(letter)", String(value)]
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
