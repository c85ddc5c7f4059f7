import CLinux
import Diagnostics
import Glibc
import LinuxSystem
import Processes

/// One command in the namespaces of another process, as a child of this one.
///
/// This process joins nothing itself: a short-lived middle process joins, because
/// a pid namespace takes effect only at the next fork (setns(2)), and makes the
/// command its sibling (CLONE_PARENT), so that the command is waited for, signalled
/// and bound to the life of this process directly.
struct EnteredProcess {
    /// A pidfd of the process whose namespaces are joined.
    var target: Int32
    var command: [String]
    var environment: [String]
    var directory: String
    var home: String
    var parentDeathSignal: Int32
    /// Looks after the command, told its pid, twice a second; why it shall end, nil while it may run.
    var watch: ((pid_t) -> Diagnostic?)?
    /// What such a command has after SIGTERM.
    private static let endMilliseconds: Int32 = 3000
    private static let watchMilliseconds: Int32 = 500

    private static let namespaces =
        CloneFlags.newUser | CloneFlags.newMount | CloneFlags.newPID | CloneFlags.newNetwork | CloneFlags.newIPC
        | CloneFlags.newUTS
    private static let searchPath = [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
    ]

    /// What the middle process and the command say before the command runs.
    private enum Word {
        static let started: Int32 = 1
        static let joinFailed: Int32 = 2
        static let executeFailed: Int32 = 3
    }

    /// The exit status, 128+N for a signal; throws when the namespaces cannot be joined.
    /// Why it was ended is in `reason`.
    func run(endedFor reason: inout Diagnostic?) throws(SyscallError) -> Int32 {
        let words = try PipeEnds()
        let lifeline = try PipeEnds()
        defer {
            close(words.read)
            close(lifeline.read)
            close(lifeline.write)
        }
        let signals = try ForwardedSignals()
        defer { signals.restore() }
        let middle = try checked("clone3") { linux_clone(0, nil) }
        if middle == 0 { join(words: words.write, lifeline: lifeline, mask: signals.previous) }
        close(words.write)
        var child: pid_t = 0
        var failure: (word: Int32, errno: Int32)?
        while true {
            var word: [Int32] = [0, 0]
            let n = read(words.read, &word, 8)
            if n < 0 && errno == EINTR { continue }
            if n != 8 { break }
            if word[0] == Word.started { child = word[1] } else { failure = (word[0], word[1]) }
        }
        var status: Int32 = 0
        waitpid(middle, &status, 0)
        if child == 0 { throw SyscallError("setns", errno: failure?.errno ?? ECHILD) }
        if let watch {
            var found: Diagnostic?
            let ended = signals.wait(for: child, every: Self.watchMilliseconds) {
                found = watch(child)
                return found != nil
            }
            reason = found
            status = ended ?? end(child, signals)
        } else {
            status = signals.wait(for: child)
        }
        if let failure, failure.word == Word.executeFailed {
            return failure.errno == ENOENT || failure.errno == ENOTDIR ? ExitCode.notFound : ExitCode.notExecutable
        }
        return linux_status_signaled(status) != 0
            ? ExitCode.signal(linux_status_signal(status)) : linux_status_exit_code(status)
    }

    private func end(_ child: pid_t, _ signals: ForwardedSignals) -> Int32 {
        kill(child, SIGTERM)
        var isLate = false
        return signals.wait(for: child, every: Self.endMilliseconds) {
            defer { isLate = true }
            return isLate
        }
            ?? {
                kill(child, SIGKILL)
                return signals.wait(for: child)
            }()
    }

    private func say(_ output: Int32, _ word: Int32, _ value: Int32) {
        let message = [word, value]
        _ = write(output, message, 8)
    }

    /// The middle process: joins, starts the command, ends.
    private func join(words: Int32, lifeline: PipeEnds, mask: UInt64) -> Never {
        if linux_setns(target, Self.namespaces) != 0 {
            say(words, Word.joinFailed, errno)
            _exit(1)
        }
        let child = linux_clone(UInt64(UInt32(bitPattern: CloneFlags.parent)), nil)
        if child < 0 {
            say(words, Word.joinFailed, errno)
            _exit(1)
        }
        if child > 0 {
            say(words, Word.started, child)
            _exit(0)
        }
        bindToParent(lifeline)
        _ = linux_sigprocmask(SIG_SETMASK, mask, nil)
        if chdir(directory) != 0 && chdir(home) != 0 { _ = chdir("/") }
        execute()
        let code = errno
        say(words, Word.executeFailed, code)
        let cause = SyscallError("execve", errno: code).sentence
        let text = Diagnostic(
            code == ENOENT ? .commandNotFound : .commandNotExecutable, "command '\(command[0])'",
            reasons: [cause], remedies: ["the command runs in the node: its image must have it"]
        ).rendered()
        _ = text.withCString { write(2, $0, strlen($0)) }
        _exit(code == ENOENT ? ExitCode.notFound : ExitCode.notExecutable)
    }

    /// The command ends with this program. Capabilities of the joined namespace are
    /// lost by the exec (an ordinary uid), which keeps the parent death signal: only
    /// gaining some would clear it (prctl(2)).
    private func bindToParent(_ lifeline: PipeEnds) {
        _ = linux_prctl(ProcessControl.setParentDeathSignal, UInt(parentDeathSignal), 0, 0, 0)
        // The parent may have died before that line. getppid(2) is 0 either way from this
        // pid namespace; the pipe it held is not.
        close(lifeline.write)
        var polled = pollfd(fd: lifeline.read, events: Int16(POLLIN), revents: 0)
        if poll(&polled, 1, 0) > 0 { _exit(ExitCode.signal(SIGKILL)) }
    }

    private func execute() {
        var entries = environment
        // A host directory that is not here would break every program that wants a temporary file.
        entries.removeAll { entry in
            guard entry.hasPrefix("TMPDIR=") else { return false }
            return access(String(entry.dropFirst(7)), W_OK) != 0
        }
        if command[0].contains("/") {
            CommandVector.execute(command, environment: entries)
            return
        }
        var code = ENOENT
        for directory in Self.searchPath {
            CommandVector.execute(command, at: "\(directory)/\(command[0])", environment: entries)
            if errno != ENOENT && errno != ENOTDIR { code = errno }
        }
        errno = code
    }
}
