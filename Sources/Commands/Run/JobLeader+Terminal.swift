import ContainerLaunch
import Glibc
import JobModel
import JobWire

/// `-it`: our terminal is rank 0's while the ranks run.
extension JobLeader {
    /// The size of our terminal, when `-t` was given and there is one.
    static func terminalSize() -> TerminalSize? {
        var size = winsize()
        guard ioctl(0, UInt(TIOCGWINSZ), &size) == 0 else { return nil }
        return TerminalSize(rows: Int(size.ws_row), columns: Int(size.ws_col))
    }

    /// Until now Ctrl-C meant us; from here on what is typed is rank 0's, byte for byte.
    func takeTerminal() {
        guard job.ranks.terminal != nil, terminal == nil else { return }
        // To set the modes of a terminal that another job has by then must not stop us.
        signal(SIGTTOU, SIG_IGN)
        let taken = CallerTerminal(isGuarded: true)
        guard taken.descriptor >= 0 else { return }
        taken.makeRaw(true)
        terminal = taken
        streams.isRaw = true
    }

    func giveTerminalBack() {
        terminal?.giveBack()
        terminal = nil
        streams.isRaw = false
    }

    func terminalResized() {
        guard job.ranks.terminal != nil else { return sendToAll(.signal(Int(SIGWINCH))) }
        if let size = Self.terminalSize() { agents[0]?.connection.send(.window(size)) }
    }
}
