import Glibc
import LaunchPlan

/// `trireme run|exec|shell [OPTIONS] IMAGE [ARG…]`, read where argv lies.
///
/// What this parser does not know is not an error: the whole command line goes to
/// `trireme-cli`, which knows every option and says what is wrong.
struct LaunchCommandLine {
    enum Verb { case run, exec, shell }
    enum Outcome { case launch, handOver }

    private(set) var verb = Verb.run
    private(set) var request: LaunchRequest
    private(set) var image: CString
    /// The words after IMAGE, NULL-terminated where the kernel put them.
    private(set) var words: CStringVector
    private(set) var wordCount = 0
    private(set) var agentKey: CString?
    private(set) var planDescriptor: Int32 = -1
    private(set) var outcome = Outcome.handOver

    private let arguments: CStringVector
    private let count: Int
    private var at = 2
    private var bindCount = 0
    /// `--read-only` was typed.
    private(set) var isReadOnly = false
    private(set) var isQuiet = false
    private var isInteractive = false
    private var wantsTerminal = false
    private var environmentCount = 0

    init(count: Int, arguments: CStringVector) throws(LaunchFailure) {
        self.arguments = arguments
        self.count = count
        request = LaunchRequest(capacity: count)
        image = c("")
        words = arguments
        guard count > 1, let verb = arguments[1].map({ CString($0) }) else { return }
        if isEqual(verb, "run") {
            self.verb = .run
        } else if isEqual(verb, "exec") {
            self.verb = .exec
        } else if isEqual(verb, "shell") {
            self.verb = .shell
        } else {
            return
        }
        while at < count, let word = arguments[at].map({ CString($0) }), word[0] == minus, word[1] != 0 {
            at += 1
            if isEqual(word, "--") { break }
            let isKnown = word[1] == minus ? try takeLong(word + 2) : try takeShort(word + 1)
            if !isKnown { return }
        }
        guard at < count, let image = arguments[at] else { return }
        self.image = CString(image)
        words = arguments + at + 1
        wordCount = count - at - 1
        if self.verb == .exec, wordCount == 0 { return }
        // -it without a terminal: trireme-cli says so.
        if isInteractive, wantsTerminal, isatty(0) == 0 { return }
        outcome = .launch
    }

    /// `-itq`, `-eK=V`, `-e K=V`.
    private mutating func takeShort(_ letters: CString) throws(LaunchFailure) -> Bool {
        var index = 0
        while letters[index] != 0 {
            switch UInt8(bitPattern: letters[index]) {
            case 0x69: isInteractive = true
            case 0x74: wantsTerminal = true
            case 0x71: isQuiet = true  // i, t: streams and terminal are the caller's
            case 0x42, 0x76, 0x65, 0x77:
                let rest = letters + index + 1
                let value: CString?
                if rest[0] != 0 { value = rest[0] == equals ? rest + 1 : rest } else { value = next() }
                guard let value else { return false }
                switch UInt8(bitPattern: letters[index]) {
                case 0x65: try addEnvironment(value)
                case 0x77:
                    // trireme-cli says what a path that is not absolute may have meant.
                    guard value[0] == slash else { return false }
                    request.workingDirectory = value
                default: addBind(value)
                }
                return true
            default: return false
            }
            index += 1
        }
        return true
    }

    private mutating func takeLong(_ word: CString) throws(LaunchFailure) -> Bool {
        if isEqual(word, "read-only") {
            isReadOnly = true
            return true
        }
        if isEqual(word, "writable-tmpfs") { return set(.writable) }
        if isEqual(word, "clean-env") { return set(.cleanEnvironment) }
        if isEqual(word, "no-home") { return set(.noHome) }
        if isEqual(word, "interactive") {
            isInteractive = true
            return true
        }
        if isEqual(word, "tty") {
            wantsTerminal = true
            return true
        }
        if isEqual(word, "quiet") {
            isQuiet = true
            return true
        }
        // docker's flag; with a word behind it that may be a batch system, ours: `--rm slurm`.
        if isEqual(word, "rm") { return !(at < count && arguments[at].map { isBatchSystem(CString($0)) } ?? false) }
        if let value = value(of: "bind", word) ?? value(of: "volume", word) {
            addBind(value)
        } else if let value = value(of: "env", word) {
            try addEnvironment(value)
        } else if let value = value(of: "workdir", word) {
            guard value[0] == slash else { return false }
            request.workingDirectory = value
        } else if let value = value(of: "entrypoint", word, mayBeEmpty: true) {
            request.entrypoint = value
        } else if let value = value(of: "user", word) {
            guard isEqual(value, "image") else { return false }
            return set(.imageUser)
        } else if let value = value(of: "home", word) {
            guard isEqual(value, "none") else { return false }
            return set(.noHome)
        } else if let value = value(of: "tmp", word) {
            guard isEqual(value, "private") else { return isEqual(value, "host") }
            return set(.privateTemporary)
        } else if let value = value(of: "seccomp", word) {
            if isEqual(value, "default") { return true }
            guard isEqual(value, "off") else { return false }
            return set(.withoutFilter)
        } else if let value = value(of: "join-agent", word) {
            agentKey = value
        } else if let value = value(of: "plan-fd", word) {
            planDescriptor = try descriptor(value)
        } else {
            return false
        }
        return true
    }

    /// The value of `--name VALUE` or `--name=VALUE`; nil when `word` is another option or the value is missing.
    private mutating func value(of name: StaticString, _ word: CString, mayBeEmpty: Bool = false) -> CString? {
        let length = name.utf8CodeUnitCount
        guard strncmp(word, c(name), length) == 0 else { return nil }
        // `--name=`: trireme-cli says what is missing. Only an entrypoint can be none.
        if word[length] == equals { return word[length + 1] == 0 && !mayBeEmpty ? nil : word + length + 1 }
        return word[length] == 0 ? next() : nil
    }

    private mutating func next() -> CString? {
        guard at < count, let word = arguments[at] else { return nil }
        at += 1
        return CString(word)
    }

    private mutating func set(_ option: LaunchPlan.Options) -> Bool {
        request.options = request.options.union(option)
        return true
    }

    private mutating func addBind(_ text: CString) {
        request.binds[bindCount] = UnsafeMutablePointer(mutating: text)
        bindCount += 1
        request.binds[bindCount] = nil
    }

    private mutating func addEnvironment(_ text: CString) throws(LaunchFailure) {
        guard text[0] != 0, text[0] != equals else {
            throw LaunchFailure(.parseCommandLine, text, detail: c("--env"), errno: EINVAL)
        }
        request.environment[environmentCount] = UnsafeMutablePointer(mutating: text)
        environmentCount += 1
        request.environment[environmentCount] = nil
    }

    private func descriptor(_ text: CString) throws(LaunchFailure) -> Int32 {
        var number: Int32 = 0
        var index = 0
        repeat {
            let digit = Int32(text[index]) - 0x30
            guard (0...9).contains(digit), index < 6 else {
                throw LaunchFailure(.parseCommandLine, text, detail: c("--plan-fd"), errno: EINVAL)
            }
            number = number * 10 + digit
            index += 1
        } while text[index] != 0
        return number
    }
}

private let minus = CChar(0x2D)

private func isBatchSystem(_ word: CString) -> Bool {
    isEqual(word, "auto") || isEqual(word, "slurm") || isEqual(word, "pbs") || isEqual(word, "lsf")
        || isEqual(word, "sge") || isEqual(word, "condor") || isEqual(word, "flux") || isEqual(word, "ssh")
        || isEqual(word, "local")
}
