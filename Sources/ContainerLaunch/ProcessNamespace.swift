import CLinux
import Glibc
import LinuxSystem

// A pid namespace needs three processes: one outside that waits (a process cannot move into a new
// pid namespace itself), the namespace's first, which reaps, and the application.

/// Whose turn it is after a fork.
private enum Keeper { case outside, first }

/// Forks the namespace's first process; returns only there. The caller stays outside, passes signals
/// on and ends with the container's status.
func enterProcessNamespace(filters: Bool) throws(LaunchFailure) {
    try fork(keeping: .outside, filters)
}

/// Forks the application; returns only there. The caller stays the namespace's first process.
///
/// The application is not the first process itself: the kernel withholds from that one every signal
/// it has no handler for, SIGTERM included, and nobody would reap (pid_namespaces(7)).
func startFirstProcess() throws(LaunchFailure) { try fork(keeping: .first, true) }

private func fork(keeping keeper: Keeper, _ filters: Bool) throws(LaunchFailure) {
    var before: UInt64 = 0
    var ends: [Int32] = [-1, -1]
    guard linux_pipe2(&ends, O_CLOEXEC | O_NONBLOCK) == 0 else { throw LaunchFailure(.createNamespaces, "pipe") }
    _ = linux_sigprocmask(SIG_BLOCK, passedSignals | bit(SIGCHLD), &before)
    let child = linux_fork()
    guard child >= 0 else { throw LaunchFailure(.createNamespaces, "fork") }
    if child > 0 {
        close(ends[0])
        try keep(child, keeper, filters, holding: ends[1])
    }
    close(ends[1])
    _ = linux_sigprocmask(SIG_SETMASK, before, nil)
    if keeper == .outside {
        _ = linux_prctl(ProcessControl.setParentDeathSignal, UInt(SIGKILL), 0, 0, 0)
        // The parent may have died before that: then its end of the pipe is closed.
        var byte: UInt8 = 0
        if read(ends[0], &byte, 1) == 0 { _exit(128 + SIGKILL) }
    }
    close(ends[0])
}

/// Everything that can be caught but what stops a process: a stopped container stops its keeper too.
private let passedSignals: UInt64 = {
    var mask = UInt64.max
    for signal in [SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGCHLD] {
        mask &= ~bit(signal)
    }
    return mask
}()

private func bit(_ signal: Int32) -> UInt64 { 1 << UInt64(signal - 1) }

/// Waits for `child`, passing signals on, and ends with its status. Never returns.
private func keep(_ child: pid_t, _ keeper: Keeper, _ filters: Bool, holding end: Int32) throws(LaunchFailure) {
    // Its memory and /proc/PID/exe are nobody's business: the program on the host could be overwritten there.
    _ = linux_prctl(ProcessControl.setDumpable, 0, 0, 0, 0)
    signal(SIGCHLD, SIG_DFL)
    let signals = linux_signalfd(passedSignals | bit(SIGCHLD), O_CLOEXEC)
    guard signals >= 0 else { _exit(125) }
    if keeper == .outside { try dropPrivileges(filters: filters) }
    // Whoever waits for the end of the application's output must not wait for this process. The
    // death pipe stays, with the descriptor of the signals.
    let low = min(signals, end)
    let high = max(signals, end)
    if low > 0 { _ = linux_close_range(0, UInt32(low - 1), 0) }
    if high > low + 1 { _ = linux_close_range(UInt32(low + 1), UInt32(high - 1), 0) }
    _ = linux_close_range(UInt32(high + 1), UInt32.max, 0)
    _ = chdir(c("/"))
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)
    while true {
        var status: Int32 = 0
        var reaped = waitpid(-1, &status, WNOHANG)
        while reaped > 0 {
            if reaped == child {
                _exit(
                    linux_status_signaled(status) != 0
                        ? 128 + linux_status_signal(status) : linux_status_exit_code(status))
            }
            reaped = waitpid(-1, &status, WNOHANG)
        }
        if reaped < 0, errno == ECHILD { _exit(125) }
        guard read(signals, buffer, 128) == 128 else { continue }
        // struct signalfd_siginfo: number at 0, code at 8 (signalfd(2)).
        let number = buffer.load(as: Int32.self)
        let code = buffer.load(fromByteOffset: 8, as: Int32.self)
        // The kernel's own (a terminal's ^C) reach the whole process group already.
        if number != SIGCHLD, code <= 0 { kill(child, number) }
    }
}
