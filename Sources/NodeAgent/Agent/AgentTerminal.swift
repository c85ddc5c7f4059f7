import CLinux
import Glibc
import JobModel
import JobWire
import LinuxSystem

/// The terminal of rank 0 (`-t`), made in the container. The agent has its master side; what the user types
/// goes in there byte for byte, so that the line discipline makes signals of Ctrl-C and Ctrl-\\ and the end of
/// input of Ctrl-D, here as everywhere.
final class AgentTerminal {
    private let master: OwnedDescriptor

    /// - Throws: where the container has no devpts.
    init(_ size: TerminalSize) throws(SyscallError) {
        master = try OwnedDescriptor.open("/dev/ptmx", O_RDWR | O_NOCTTY)
        var unlocked: Int32 = 0
        try checked("ioctl", "/dev/ptmx") { linux_ioctl_pointer(master.raw, 0x4004_5431, &unlocked) }  // TIOCSPTLCK
        resize(size)
    }

    /// The kernel tells the foreground processes (SIGWINCH).
    func resize(_ size: TerminalSize) {
        var window = winsize()
        window.ws_row = UInt16(clamping: size.rows)
        window.ws_col = UInt16(clamping: size.columns)
        _ = linux_ioctl_pointer(master.raw, UInt(TIOCSWINSZ), &window)
    }

    /// The side that is the rank's: the caller closes it.
    func side() throws(SyscallError) -> Int32 {
        // TIOCGPTPEER: without a path (ioctl_tty(2)).
        try checked("ioctl", "/dev/pts") { linux_ioctl_int(master.raw, 0x5441, Int(O_RDWR | O_NOCTTY | O_CLOEXEC)) }
    }

    /// Our side once more, for one direction: the caller's to close.
    func copy() throws(SyscallError) -> Int32 {
        try checked("fcntl", "/dev/ptmx") { linux_fcntl_int(master.raw, F_DUPFD_CLOEXEC, 3) }
    }
}

extension Agent {
    func makeTerminal(_ job: JobAssignment) throws(AgentFailure) {
        guard job.nodeIndex == 0, let size = job.terminal else { return }
        do throws(SyscallError) { terminal = try AgentTerminal(size) } catch {
            throw AgentFailure(step: "terminal", errno: error.errno, subject: error.subject)
        }
    }
}
