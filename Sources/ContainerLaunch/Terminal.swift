import CLinux
import Glibc
import LinuxSystem

/// The terminal `trireme` was called from, as it was then.
package struct CallerTerminal {
    /// The controlling terminal, -1 when there is none or another job has it.
    package let descriptor: Int32
    private var modes = termios()
    /// Gives it back when this process cannot.
    private(set) var guardian: TerminalGuard?

    /// Notes the terminal's modes when this process group has the terminal.
    /// - Parameter isGuarded: it will be made raw. Call this before the namespaces are made.
    package init(isGuarded: Bool) {
        let terminal = open(c("/dev/tty"), O_RDWR | O_CLOEXEC | O_NOCTTY)
        guard terminal >= 0 else {
            descriptor = -1
            return
        }
        guard tcgetpgrp(terminal) == getpgrp(), tcgetattr(terminal, &modes) == 0 else {
            close(terminal)
            descriptor = -1
            return
        }
        descriptor = terminal
        if isGuarded { guardian = TerminalGuard.stand(self) }
    }

    /// Every byte goes to the container's terminal as it was typed (termios(3), cfmakeraw).
    package func makeRaw(_ passesInput: Bool) {
        guard descriptor >= 0, passesInput else { return }
        var raw = rawModes
        tcsetattr(descriptor, TCSADRAIN, &raw)
    }

    private var rawModes: termios {
        var raw = modes
        cfmakeraw(&raw)
        return raw
    }

    /// Gives the terminal back as it was found: modes, and the foreground to this process group
    /// (an application killed halfway restores neither).
    package func restore() {
        guard descriptor >= 0 else { return }
        var modes = self.modes
        // SIGTTOU is blocked here: without that a background process would stop.
        tcsetpgrp(descriptor, getpgrp())
        tcsetattr(descriptor, TCSADRAIN, &modes)
    }

    /// `restore`, and nobody is left who would.
    package func giveBack() {
        restore()
        guardian?.dismiss()
    }

    /// Restores the modes when they are still those of `makeRaw`: a shell that noticed the end first
    /// may have set its own. The foreground is the shell's to take back.
    func restoreIfRaw(through terminal: Int32) {
        var now = termios()
        let raw = rawModes
        guard tcgetattr(terminal, &now) == 0, now.c_lflag == raw.c_lflag, now.c_iflag == raw.c_iflag,
            now.c_oflag == raw.c_oflag, now.c_cflag == raw.c_cflag
        else { return }
        var modes = self.modes
        // Output of a container that is gone must not hold this up.
        tcsetattr(terminal, TCSANOW, &modes)
    }
}

/// A terminal of the container's own.
enum ContainerTerminal {
    /// Makes it in the container's devpts, hands its master side to the keeper and becomes the leader
    /// of a session that it controls; standard streams are that terminal then.
    ///
    /// The caller's terminal stays outside: nothing typed there can be faked from inside (TIOCSTI).
    static func make(_ channel: Int32) throws(LaunchFailure) {
        let master = open(c("/dev/ptmx"), O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard master >= 0 else { throw LaunchFailure(.makeTerminal, "/dev/ptmx") }
        var unlocked: Int32 = 0
        guard linux_ioctl_pointer(master, 0x4004_5431, &unlocked) == 0 else {  // TIOCSPTLCK
            throw LaunchFailure(.makeTerminal, "/dev/ptmx")
        }
        // TIOCGPTPEER: the other side without a path (ioctl_tty(2)).
        let side = linux_ioctl_int(master, 0x5441, Int(O_RDWR | O_NOCTTY))
        guard side >= 0 else { throw LaunchFailure(.makeTerminal, "/dev/pts") }
        var size = winsize()
        if linux_ioctl_pointer(0, UInt(TIOCGWINSZ), &size) == 0 || linux_ioctl_pointer(1, UInt(TIOCGWINSZ), &size) == 0
        {
            _ = linux_ioctl_pointer(master, UInt(TIOCSWINSZ), &size)
        }
        guard setsid() >= 0, linux_set_controlling_terminal(side) == 0 else {
            throw LaunchFailure(.makeTerminal, "/dev/pts")
        }
        var words: [Int32] = [KeeperMessage.terminal.rawValue, 0]
        var descriptor = master
        guard linux_send_descriptors(channel, &words, 8, &descriptor, 1) == 8 else {
            throw LaunchFailure(.makeTerminal, "/dev/ptmx")
        }
        for stream in [Int32(0), 1, 2] { dup2(side, stream) }
        if side > 2 { close(side) }
        close(master)
    }
}

/// Moves bytes between the caller's streams and the container's terminal.
struct TerminalRelay {
    private var isOpen = false
    private var typed = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 8)
    private var typedCount = 0
    private let shown = UnsafeMutableRawPointer.allocate(byteCount: 65536, alignment: 8)

    mutating func begin(input: Bool) { isOpen = input }

    /// No more is read than the terminal took: what is typed ahead waits in the caller's terminal.
    var wantsInput: Bool { isOpen && typedCount == 0 }
    var masterEvents: Int16 { Int16(POLLIN) | (typedCount > 0 ? Int16(POLLOUT) : 0) }

    mutating func move(_ master: Int32, _ input: Int16, _ events: Int16) {
        if input & Int16(POLLIN | POLLHUP) != 0, wantsInput {
            let count = read(0, typed, 4096)
            if count > 0 { typedCount = count }
            if count == 0 {
                isOpen = false
                typed.storeBytes(of: 4, as: UInt8.self)  // ^D
                typedCount = 1
            }
            if count < 0, errno != EINTR, errno != EAGAIN { isOpen = false }
        }
        if typedCount > 0, events & Int16(POLLOUT) != 0 {
            let count = write(master, typed, typedCount)
            if count > 0 {
                memmove(typed, typed + count, typedCount - count)
                typedCount -= count
            }
        }
        if events & Int16(POLLIN) != 0 { show(master) }
    }

    /// What the terminal still holds after the container's end.
    func drain(_ master: Int32) {
        while true {
            var state = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
            guard poll(&state, 1, 0) > 0, state.revents & Int16(POLLIN) != 0, show(master) else { return }
        }
    }

    @discardableResult
    private func show(_ master: Int32) -> Bool {
        let count = read(master, shown, 65536)
        guard count > 0 else { return false }
        var done = 0
        while done < count {
            let written = write(1, shown + done, count - done)
            if written < 0, errno == EINTR { continue }
            if written < 0, errno == EAGAIN {
                var state = pollfd(fd: 1, events: Int16(POLLOUT), revents: 0)
                _ = poll(&state, 1, 1000)
                continue
            }
            if written <= 0 { return false }
            done += written
        }
        return true
    }

    static func copySize(_ master: Int32) {
        var size = winsize()
        guard
            linux_ioctl_pointer(0, UInt(TIOCGWINSZ), &size) == 0
                || linux_ioctl_pointer(1, UInt(TIOCGWINSZ), &size) == 0
        else { return }
        _ = linux_ioctl_pointer(master, UInt(TIOCSWINSZ), &size)
    }
}
