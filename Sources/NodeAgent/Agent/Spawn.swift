import CLinux
import Glibc
import LinuxSystem

/// Starts processes from the single-threaded agent.
package enum Spawn {
    /// What the child's standard streams become; -1 leaves the agent's own.
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

    /// Forks and executes `arguments[0]`, looked up in the PATH of `environment` when it has no slash.
    ///
    /// The child leads a process group of its own, has every signal at its default and unblocked, and is
    /// given `deathSignal` when this process dies. With a terminal as input it leads a session that the terminal
    /// controls. Descriptors that are not close-on-exec stay open in it (PMI_FD).
    /// - Throws: the errno of the execve(2) that came nearest to success.
    package static func start(
        _ arguments: [[UInt8]], environment: [[UInt8]], streams: Streams = Streams(), deathSignal: Int32 = SIGKILL
    ) throws(SyscallError) -> pid_t {
        guard let program = arguments.first, !program.isEmpty else {
            throw SyscallError("execve", errno: ENOENT)
        }
        // Everything that allocates happens before the fork.
        let candidates = CStringArray(candidates(for: program, environment: environment))
        let argv = CStringArray(arguments)
        let envp = CStringArray(environment)
        let report = try PipeEnds.make()
        let reportRead = OwnedDescriptor(owning: report.read)
        let parent = getpid()
        let pid = linux_fork()
        if pid == 0 {
            becomeChild(candidates, argv, envp, streams, report: report.write, parent: parent, deathSignal)
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
        _ candidates: CStringArray, _ argv: CStringArray, _ envp: CStringArray, _ streams: Streams, report: Int32,
        parent: pid_t, _ deathSignal: Int32
    ) -> Never {
        let hasTerminal = streams.input >= 0 && isatty(streams.input) == 1
        if hasTerminal { setsid() } else { setpgid(0, 0) }
        _ = linux_prctl(ProcessControl.setParentDeathSignal, UInt(deathSignal), 0, 0, 0)
        if getppid() != parent { _exit(137) }
        if streams.input >= 0 { dup2(streams.input, 0) }
        if streams.output >= 0 { dup2(streams.output, 1) }
        if streams.error >= 0 { dup2(streams.error, 2) }
        if hasTerminal { _ = linux_set_controlling_terminal(0) }
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

/// A NULL-terminated array of C strings, alive as long as this object.
package final class CStringArray {
    package let pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

    package init(_ strings: [[UInt8]]) {
        count = strings.count
        pointer = .allocate(capacity: strings.count + 1)
        for (index, string) in strings.enumerated() {
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: string.count + 1)
            for (offset, byte) in string.enumerated() { copy[offset] = CChar(bitPattern: byte) }
            copy[string.count] = 0
            pointer[index] = copy
        }
        pointer[strings.count] = nil
    }

    deinit {
        for index in 0..<count { pointer[index]?.deallocate() }
        pointer.deallocate()
    }
}
