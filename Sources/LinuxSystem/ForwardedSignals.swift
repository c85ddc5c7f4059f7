import CLinux
import Glibc

/// Passes the signals a terminal or another process sends this program on to the
/// command, once each.
package struct ForwardedSignals {
    /// The mask before, for the command and for afterwards.
    package let previous: UInt64
    private let descriptor: Int32

    private static let forwarded = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH]
    /// `si_code` of a signal the terminal sent: it went to the whole foreground group,
    /// so the command has it already (sigaction(2), SI_KERNEL).
    private static let fromKernel: Int32 = 0x80

    /// `signals` without a hang-up that this program was told not to hear, as nohup(1) and shells do for what they
    /// leave behind. A signalfd would hear it all the same: a blocked signal is never ignored. An interrupt is heard
    /// in any case: shells ignore it for every command behind `&`, and who sends one to a job means it.
    package static func heard(_ signals: [Int32]) -> [Int32] {
        signals.filter { $0 != SIGHUP || !isIgnored($0) }
    }

    private static func isIgnored(_ number: Int32) -> Bool {
        // SIG_IGN, a macro that not every C library's module has.
        let before = signal(number, unsafeBitCast(1, to: (@convention(c) (Int32) -> Void)?.self))
        signal(number, before)
        return unsafeBitCast(before, to: Int.self) == 1
    }

    package init() throws(SyscallError) {
        let heard = Self.heard(Self.forwarded)
        let mask = (heard + [SIGCHLD]).reduce(UInt64(0)) { $0 | 1 << UInt64($1 - 1) }
        var old: UInt64 = 0
        _ = linux_sigprocmask(SIG_BLOCK, mask, &old)
        previous = old
        descriptor = try checked("signalfd") { linux_signalfd(mask, Int32(O_CLOEXEC)) }
    }

    package func restore() {
        close(descriptor)
        _ = linux_sigprocmask(SIG_SETMASK, previous, nil)
    }

    /// Waits for `child` to end and returns its wait status.
    package func wait(for child: pid_t) -> Int32 {
        while true { if let status = wait(for: child, unless: { false }) { return status } }
    }

    /// The same; nil when `isOver` says that it need not be waited for any more. It is asked after each signal, and
    /// every `milliseconds` where that is not negative.
    package func wait(for child: pid_t, every milliseconds: Int32 = -1, unless isOver: () -> Bool) -> Int32? {
        while true {
            var status: Int32 = 0
            if waitpid(child, &status, WNOHANG) == child { return status }
            if isOver() { return nil }
            var slot = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            if milliseconds >= 0, poll(&slot, 1, milliseconds) <= 0 { continue }
            var info = [UInt8](repeating: 0, count: 128)
            if read(descriptor, &info, info.count) != info.count { continue }
            let (signal, code) = info.withUnsafeBytes {
                (Int32($0.load(as: UInt32.self)), $0.load(fromByteOffset: 8, as: Int32.self))
            }
            if signal != SIGCHLD && code != Self.fromKernel { kill(child, signal) }
        }
    }
}
