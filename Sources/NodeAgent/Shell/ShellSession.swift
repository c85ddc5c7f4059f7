import CLinux
import Glibc
import JobModel
import JobWire
import LinuxSystem

/// A command that runs elsewhere, between its asker's standard streams and the agent of this node.
///
/// The three streams stay apart and nothing waits for another: a program that writes before it reads, on either
/// side, gets its bytes. Both directions have a window, so a slow side costs no memory in between.
final class ShellSession {
    enum Outcome {
        case ended(Int32)
        /// It did not run; a sentence.
        case refused(String)
    }

    private let connection: Connection
    private let arguments: ShellArguments
    private let terminal: ShellTerminal
    private var inputIsOpen: Bool
    /// Sent, and not yet taken by the command.
    private var inFlight = 0
    /// Of standard output and error, what was not written yet.
    private var pending: [[UInt8]] = [[], []]
    /// Written, and not yet told the other side.
    private var taken = 0
    private var outcome: Outcome?
    private var chunk = [UInt8](repeating: 0, count: 64 << 10)

    static let windowBytes = 512 << 10
    /// What a pipe takes without waiting once poll(2) says that it takes any (pipe(7), PIPE_BUF). The descriptors are shared
    /// with other processes, so they are not made non-blocking.
    private static let pipeBytes = 4096

    init(_ connection: Connection, _ arguments: ShellArguments, _ terminal: ShellTerminal) {
        self.connection = connection
        self.arguments = arguments
        self.terminal = terminal
        inputIsOpen = arguments.takesInput
    }

    func run() -> Outcome {
        defer { terminal.giveBack() }
        while true {
            connection.flush()
            if let outcome, pending.allSatisfy(\.isEmpty) { return outcome }
            if connection.isClosed, outcome == nil {
                let host = String(decoding: arguments.host, as: UTF8.self)
                outcome = .refused("connection to \(host) closed: the job has ended")
                continue
            }
            // A negative descriptor is passed over (poll(2)).
            var slots = [
                pollfd(
                    fd: connection.isClosed ? -1 : connection.descriptor.raw,
                    events: Int16(POLLIN | (connection.wantsWrite ? POLLOUT : 0)), revents: 0),
                pollfd(fd: readsInput ? 0 : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: pending[0].isEmpty ? -1 : 1, events: Int16(POLLOUT), revents: 0),
                pollfd(fd: pending[1].isEmpty ? -1 : 2, events: Int16(POLLOUT), revents: 0),
            ]
            guard poll(&slots, 4, -1) > 0 else { continue }
            if slots[0].revents != 0 { receive() }
            if slots[1].revents != 0 { readInput() }
            for stream in [0, 1] where slots[2 + stream].revents != 0 {
                // Nobody reads what the command writes: it hears of that by our end.
                guard write(stream) else { return .ended(255) }
            }
        }
    }

    private var readsInput: Bool { inputIsOpen && outcome == nil && inFlight < Self.windowBytes }

    private func receive() {
        do throws(WireFailure) {
            for message in try connection.receive() { take(message) }
        } catch { connection.close() }
    }

    private func take(_ message: WireMessage) {
        switch message {
        case .launched:
            terminal.take()
            if arguments.goesToBackground { goToBackground() }
        case .output(_, let stream, let bytes): if stream == 1 || stream == 2 { pending[stream - 1] += bytes }
        case .consumed(_, let count): inFlight -= count
        case .exited(_, let status): outcome = .ended(status.code)
        case .refused(_, let errno, let subject):
            let host = String(decoding: arguments.host, as: UTF8.self)
            let reason = errno == Int(EHOSTUNREACH) ? "" : ": \(String(cString: strerror(Int32(errno))))"
            outcome = .refused(
                errno == Int(EHOSTUNREACH)
                    ? "Could not resolve hostname \(host): \(subject)" : "connect to host \(host): \(subject)\(reason)")
        default: break
        }
    }

    private func readInput() {
        let n = read(0, &chunk, chunk.count)
        if n < 0, errno == EINTR || errno == EAGAIN { return }
        if n <= 0 { inputIsOpen = false }
        inFlight += max(0, n)
        connection.send(.input(channel: 0, bytes: Array(chunk[..<max(0, n)])))
    }

    /// False when the reader is gone.
    private func write(_ stream: Int) -> Bool {
        var head = 0
        defer {
            pending[stream].removeFirst(head)
            taken += head
            if taken > Self.windowBytes / 4 || pending[stream].isEmpty {
                connection.send(.taken(channel: 0, count: taken))
                taken = 0
            }
        }
        while head < pending[stream].count {
            let n = pending[stream].withUnsafeBytes {
                Glibc.write(Int32(stream + 1), $0.baseAddress! + head, min(Self.pipeBytes, $0.count - head))
            }
            if n < 0, errno == EINTR || errno == EAGAIN { return true }
            guard n > 0 else { return false }
            head += n
            var slot = pollfd(fd: Int32(stream + 1), events: Int16(POLLOUT), revents: 0)
            guard poll(&slot, 1, 0) > 0 else { return true }
        }
        return true
    }

    /// `-f`: who called us goes on, the command is known to run.
    private func goToBackground() {
        let child = linux_fork()
        if child > 0 { _exit(0) }
        if child == 0 { setsid() }
    }
}
