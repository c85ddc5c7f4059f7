import CLinux
import Glibc
import LinuxSystem

/// The one way to start a program.
package enum ChildProcess {
    /// What the child's standard streams become; -1 leaves this process's own.
    package struct Streams {
        package var input: Int32 = -1
        package var output: Int32 = -1
        package var error: Int32 = -1
        package init(input: Int32 = -1, output: Int32 = -1, error: Int32 = -1) {
            self.input = input
            self.output = output
            self.error = error
        }
    }

    /// Whose process group it joins: one of its own is signalled as a whole and never by the terminal; the caller's
    /// may read from the terminal and hears Ctrl-C.
    package enum Group { case own, callers }

    /// Forks and executes `arguments[0]`, looked up in the PATH of `environment` when it has no slash.
    ///
    /// The child has every signal at its default and unblocked. With a terminal as input and a group of its own it
    /// leads a session that the terminal controls. Descriptors that are not close-on-exec stay open in it (PMI_FD).
    /// Not posix_spawn(3): it can neither set the death signal nor take a controlling terminal.
    /// - Parameter deathSignal: What the child is sent when the thread that started it ends (prctl(2),
    ///   PR_SET_PDEATHSIG); 0 is nothing, for programs whose threads come and go.
    /// - Throws: the errno of the execve(2) that came nearest to success.
    package static func start(
        _ arguments: [[UInt8]], environment: [[UInt8]], streams: Streams = Streams(), group: Group = .own,
        deathSignal: Int32 = SIGKILL
    ) throws(SyscallError) -> pid_t {
        guard let program = arguments.first, !program.isEmpty else {
            throw SyscallError("execve", errno: ENOENT)
        }
        // Everything that allocates happens before the fork.
        let candidates = CStringArray(candidates(for: program, environment: environment))
        let argv = CStringArray(arguments)
        let envp = CStringArray(environment)
        let report = try PipeEnds()
        let reportRead = OwnedDescriptor(owning: report.read)
        let parent = getpid()
        let pid = linux_fork()
        if pid == 0 {
            becomeChild(candidates, argv, envp, streams, group, report: report.write, parent: parent, deathSignal)
        }
        let forkErrno = errno
        close(report.write)
        if pid < 0 { throw SyscallError("fork", errno: forkErrno) }
        var failure: Int32 = 0
        let n = try withUnsafeMutableBytes(of: &failure) { buffer throws(SyscallError) in
            try reportRead.read(into: buffer)
        }
        if n == 0 { return pid }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        throw SyscallError("execve", String(decoding: program, as: UTF8.self), errno: failure)
    }

    /// Only async-signal-safe calls from here to execve(2).
    private static func becomeChild(
        _ candidates: CStringArray, _ argv: CStringArray, _ envp: CStringArray, _ streams: Streams, _ group: Group,
        report: Int32, parent: pid_t, _ deathSignal: Int32
    ) -> Never {
        let takesTerminal = group == .own && streams.input >= 0 && isatty(streams.input) == 1
        if takesTerminal { setsid() } else if group == .own { setpgid(0, 0) }
        if deathSignal != 0 {
            _ = linux_prctl(ProcessControl.setParentDeathSignal, UInt(deathSignal), 0, 0, 0)
            if getppid() != parent { _exit(137) }
        }
        if streams.input >= 0 { dup2(streams.input, 0) }
        if streams.output >= 0 { dup2(streams.output, 1) }
        if streams.error >= 0 { dup2(streams.error, 2) }
        if takesTerminal { _ = linux_set_controlling_terminal(0) }
        for number in 1..<Int32(32) { signal(number, SIG_DFL) }
        _ = linux_sigprocmask(SIG_SETMASK, 0, nil)
        DescriptorLimit.restore()
        var failure = ENOENT
        var index = 0
        while let path = candidates.pointer[index] {
            execve(path, argv.pointer, envp.pointer)
            // A file that exists but may not run says more than one that is not there.
            if errno != ENOENT && errno != ENOTDIR || failure == ENOENT { failure = errno }
            if errno != ENOENT && errno != ENOTDIR && errno != EACCES { break }
            index += 1
        }
        _ = write(report, &failure, MemoryLayout<Int32>.size)
        _exit(127)
    }

    /// The paths to try for `program`: itself when it has a slash, else PATH in order (environ(7)).
    package static func candidates(for program: [UInt8], environment: [[UInt8]]) -> [[UInt8]] {
        if program.contains(UInt8(ascii: "/")) { return [program] }
        let prefix = Array("PATH=".utf8)
        let path =
            environment.last { $0.starts(with: prefix) }.map { Array($0.dropFirst(prefix.count)) }
            ?? Array("/usr/local/bin:/usr/bin:/bin".utf8)
        return path.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false).map {
            ($0.isEmpty ? [UInt8(ascii: ".")] : Array($0)) + [UInt8(ascii: "/")] + program
        }
    }
}
