import CLinux
import Glibc
import LinuxSystem

/// The process that gives the caller's terminal its modes back when the keeper was killed (SIGKILL)
/// while the terminal is raw.
///
/// It is made before the namespaces are: a later child would belong to the container's pid namespace and
/// end with it. In a session of its own it outlives a kill of the whole process group, and the kernel
/// lets it set a terminal that is not its session's (tty_ioctl(4), tcsetattr(3)). It holds nothing but
/// the terminal and one end of a pipe, and hears the keeper's end as the end of that pipe.
struct TerminalGuard {
    let process: pid_t
    /// Closed by the kernel when the keeper ends, however it ends.
    let life: Int32

    /// Forks it; nil where the caller has no terminal to lose, or no process is to be had.
    static func stand(_ terminal: CallerTerminal) -> TerminalGuard? {
        guard terminal.descriptor >= 0 else { return nil }
        let ends = UnsafeMutablePointer<Int32>.allocate(capacity: 2)
        guard linux_pipe2(ends, O_CLOEXEC) == 0 else { return nil }
        let (read, write) = (ends[0], ends[1])
        let child = linux_fork()
        if child == 0 { watch(read, terminal) }
        close(read)
        guard child > 0 else {
            close(write)
            return nil
        }
        return TerminalGuard(process: child, life: write)
    }

    /// The keeper restored the terminal itself: nothing may be written to it after that, another program
    /// may have it by then.
    func dismiss() {
        kill(process, SIGKILL)
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        close(life)
    }

    private static func watch(_ life: Int32, _ terminal: CallerTerminal) -> Never {
        setsid()
        _ = linux_sigprocmask(SIG_BLOCK, UInt64.max, nil)
        _ = linux_prctl(ProcessControl.setDumpable, 0, 0, 0, 0)
        let low = linux_fcntl_int(life, F_DUPFD, 20)
        dup2(low, 0)
        dup2(terminal.descriptor, 1)
        _ = linux_close_range(2, UInt32.max, 0)
        _ = chdir(c("/"))
        var byte: UInt8 = 0
        while read(0, &byte, 1) < 0, errno == EINTR {}
        terminal.restoreIfRaw(through: 1)
        _exit(0)
    }
}
