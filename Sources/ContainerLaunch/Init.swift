import CLinux
import Glibc
import LinuxSystem

// A pid namespace needs three processes: the keeper outside, which the caller waits for (a process
// cannot move into a new pid namespace itself); the namespace's first, which reaps; the application.
// The application is not the first process itself: the kernel withholds from that one every signal
// it has no handler for, SIGTERM included, and nobody would reap (pid_namespaces(7)).
//
// The two that stay are forks of this program without exec: a Swift program cannot start in a root
// without /proc. They end together: the first dies with the keeper (PR_SET_PDEATHSIG), and its end
// is the end of every process in the namespace.

/// What the keeper has to do besides waiting.
struct KeeperOrders {
    /// Milliseconds until the container is stopped; nil: never.
    var timeout: UInt32?
    /// Milliseconds between the stop signal and SIGKILL.
    var grace: UInt32 = 10_000
    var stopSignal: Int32 = SIGTERM
    /// The application gets a terminal of its own.
    var ownsTerminal = false
    /// Standard input is passed to that terminal.
    var passesInput = false
    var filters = true
    /// The application's id is higher by this: ranks that have a namespace each tell each other apart by it
    /// (Open MPI takes shared memory of a process with its own id for its own).
    var skippedIDs: UInt32 = 0
    var image = c("")

    /// Above any sensible number of ranks on one node.
    static let mostSkippedIDs: UInt32 = 4096
}

/// The namespace's first process, between its fork and that of the application.
struct ContainerInit {
    /// To the keeper: `KeeperMessage` there, signal numbers back.
    private let channel: Int32
    private let orders: KeeperOrders

    /// Forks it; returns only there. The caller stays outside as the keeper and ends with the
    /// container's status.
    static func enterProcessNamespace(
        _ orders: KeeperOrders, _ caller: CallerTerminal
    ) throws(LaunchFailure) -> ContainerInit {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw LaunchFailure(.createNamespaces, "socketpair")
        }
        let before = blockSignals()
        let child = linux_fork()
        guard child >= 0 else { throw LaunchFailure(.createNamespaces, "fork") }
        if child > 0 {
            close(ends[1])
            var keeper = Keeper(child: child, channel: ends[0], orders: orders, terminal: caller)
            try keeper.keep()
        }
        close(ends[0])
        if let guardian = caller.guardian { close(guardian.life) }
        return begun(ends[1], orders, before)
    }

    /// With a control group the keeper stays outside of it, and in the host's root, where the group's directories
    /// are. So it is made before the namespaces are: forks, and returns, inside the group, the channel to it for
    /// `enterProcessNamespace(_:below:)`.
    static func standOutside(
        _ orders: KeeperOrders, _ caller: CallerTerminal, _ group: ControlGroup
    ) throws(LaunchFailure) -> Int32 {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw KeptGroup.failed(group, "socketpair")
        }
        let before = blockSignals()
        let kept = try KeptGroup(group, image: orders.image)
        let child = linux_fork()
        guard child >= 0 else { throw KeptGroup.failed(group, "fork") }
        if child > 0 {
            close(ends[1])
            var keeper = Keeper(child: child, channel: ends[0], orders: orders, terminal: caller, group: kept)
            try keeper.keep()
        }
        close(ends[0])
        kept.letGo()
        if let guardian = caller.guardian { close(guardian.life) }
        _ = linux_sigprocmask(SIG_SETMASK, before, nil)
        try kept.enter()
        return ends[1]
    }

    /// Makes the namespace's first process a child of the keeper behind `channel`; returns only there. The
    /// caller made the namespace and ends with that.
    static func enterProcessNamespace(_ orders: KeeperOrders, below channel: Int32) throws(LaunchFailure)
        -> ContainerInit
    {
        let before = blockSignals()
        let child = linux_clone(UInt64(CloneFlags.parent), nil)
        guard child >= 0 else { throw LaunchFailure(.createNamespaces, "clone") }
        if child > 0 {
            var words: [Int32] = [KeeperMessage.born.rawValue, child]
            _ = linux_send_descriptors(channel, &words, 8, nil, 0)
            _exit(0)
        }
        return begun(channel, orders, before)
    }

    /// In the first process: bound to its keeper's life.
    private static func begun(_ channel: Int32, _ orders: KeeperOrders, _ before: UInt64) -> ContainerInit {
        _ = linux_prctl(ProcessControl.setParentDeathSignal, UInt(SIGKILL), 0, 0, 0)
        // The parent may have died before that: then its end of the channel is closed.
        var state = pollfd(fd: channel, events: Int16(POLLIN), revents: 0)
        if poll(&state, 1, 0) > 0, state.revents & Int16(POLLHUP) != 0 { _exit(128 + SIGKILL) }
        _ = linux_sigprocmask(SIG_SETMASK, before, nil)
        return ContainerInit(channel: channel, orders: orders)
    }

    /// Forks the application; returns only there. The caller stays the namespace's first process.
    func startApplication() throws(LaunchFailure) {
        let before = blockSignals()
        for _ in 0..<orders.skippedIDs { try passOverID() }
        let child = linux_fork()
        guard child >= 0 else { throw LaunchFailure(.createNamespaces, "fork") }
        if child > 0 {
            var reaper = Reaper(application: child, channel: channel)
            reaper.run()
        }
        if orders.ownsTerminal { try ContainerTerminal.make(channel) }
        close(channel)
        _ = linux_sigprocmask(SIG_SETMASK, before, nil)
    }
}

/// The kernel counts ids up, and who has none to spare tells it so by using them.
private func passOverID() throws(LaunchFailure) {
    let child = linux_fork()
    guard child >= 0 else { throw LaunchFailure(.createNamespaces, "fork") }
    if child == 0 { _exit(0) }
    waitpid(child, nil, 0)
}

/// What the first process tells the keeper; a value of `number` goes with it.
enum KeeperMessage: Int32 {
    /// The application ended with this wait status.
    case ended = 1
    case stopped = 2
    case continued = 3
    /// The master side of the application's terminal is attached.
    case terminal = 4
    /// The first process is this one; who was the keeper's child only made the namespaces.
    case born = 5
}

/// Everything that can be caught but the faults of a program.
private func blockSignals() -> UInt64 {
    var mask = UInt64.max
    for signal in [SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP] { mask &= ~signalBit(signal) }
    var before: UInt64 = 0
    _ = linux_sigprocmask(SIG_BLOCK, mask, &before)
    return before
}

func signalBit(_ signal: Int32) -> UInt64 { 1 << UInt64(signal - 1) }

/// A descriptor that reads as the signals blocked by `blockSignals`.
private func signalDescriptor() -> Int32 {
    signal(SIGCHLD, SIG_DFL)
    let descriptor = linux_signalfd(UInt64.max, O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { _exit(125) }
    return descriptor
}

/// One signal as signalfd(2) tells it: number at 0, code at 8, sender's pid at 12.
private struct ReceivedSignal {
    let number: Int32
    let code: Int32
    let sender: Int32

    init?(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer) {
        guard read(descriptor, buffer, 128) == 128 else { return nil }
        number = buffer.load(as: Int32.self)
        code = buffer.load(fromByteOffset: 8, as: Int32.self)
        sender = buffer.load(fromByteOffset: 12, as: Int32.self)
    }

    /// Sent by a process, not by a terminal or a timer.
    var isSent: Bool { code <= 0 }
}

// MARK: Outside

/// Stands for the container outside of it: what the caller of `trireme` sees and signals.
private struct Keeper {
    private var child: pid_t
    let channel: Int32
    let orders: KeeperOrders
    let terminal: CallerTerminal
    /// Kept, and taken away at the end.
    private let group: KeptGroup?
    /// The master side of the application's terminal, -1 before it came.
    private var master: Int32 = -1
    private var applicationStatus: Int32?
    private var isTimedOut = false
    private var deadline = -1
    private var mustStop = false
    private var relay = TerminalRelay()
    private let buffer = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)

    init(
        child: pid_t, channel: Int32, orders: KeeperOrders, terminal: CallerTerminal, group: KeptGroup? = nil
    ) {
        self.child = child
        self.group = group
        self.channel = channel
        self.orders = orders
        self.terminal = terminal
        if let timeout = orders.timeout { deadline = MonotonicTime.now() + Int(timeout) }
    }

    /// Waits for the container and ends as the application did. Never returns.
    mutating func keep() throws(LaunchFailure) {
        // Its memory and /proc/PID/exe are nobody's business: the program on the host could be overwritten there.
        _ = linux_prctl(ProcessControl.setDumpable, 0, 0, 0, 0)
        let signals = signalDescriptor()
        // With a group it is outside of the user namespace, and has no more than the caller.
        if group == nil { try dropPrivileges(filters: orders.filters) }
        closeOthers(signals)
        _ = chdir(c("/"))
        while true {
            var states = [
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(fd: channel, events: Int16(POLLIN), revents: 0),
                pollfd(fd: relay.wantsInput ? 0 : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: master, events: relay.masterEvents, revents: 0),
            ]
            _ = poll(&states, 4, timeToWait())
            while let signal = ReceivedSignal(signals, buffer) { take(signal) }
            takeMessages()
            if master >= 0 { relay.move(master, states[2].revents, states[3].revents) }
            var status: Int32 = 0
            let awaited = child
            if waitpid(awaited, &status, WNOHANG) == awaited {
                takeMessages()
                if child == awaited { end(status) }
            }
            if mustStop { stop() }
            checkDeadline()
        }
    }

    /// Whoever waits for the end of the application's output must not wait for this process:
    /// only standard error stays, when there may be something to say, and a terminal that is relayed.
    private func closeOthers(_ signals: Int32) {
        let life = terminal.guardian?.life ?? -1
        let hold = group?.hold ?? -1
        let last = max(max(signals, life), max(channel, max(terminal.descriptor, hold)))
        var descriptor: Int32 = orders.ownsTerminal ? 3 : 0
        while descriptor <= last {
            let isKept =
                descriptor == signals || descriptor == channel || descriptor == terminal.descriptor
                || descriptor == life || descriptor == hold
                || descriptor == 2 && (orders.timeout != nil || group != nil)
            if !isKept { close(descriptor) }
            descriptor += 1
        }
        _ = linux_close_range(UInt32(last + 1), UInt32.max, 0)
    }

    private func timeToWait() -> Int32 {
        if deadline < 0 { return -1 }
        return Int32(min(max(deadline - MonotonicTime.now(), 0), 3_600_000))
    }

    /// A terminal's own signals reach the application by themselves, unless it has another terminal.
    private func take(_ signal: ReceivedSignal) {
        if signal.number == SIGCHLD { return }
        if signal.number == SIGWINCH, master >= 0 { return TerminalRelay.copySize(master) }
        if signal.isSent || orders.ownsTerminal || signal.number == SIGHUP { pass(signal.number) }
    }

    private func pass(_ number: Int32) {
        var message = number
        _ = linux_send_descriptors(channel, &message, 4, nil, 0)
    }

    private mutating func takeMessages() {
        while true {
            var state = pollfd(fd: channel, events: Int16(POLLIN), revents: 0)
            guard poll(&state, 1, 0) > 0, state.revents & Int16(POLLIN) != 0 else { return }
            var words: [Int32] = [0, 0]
            var descriptors: [Int32] = [-1, -1, -1, -1]
            var count: Int32 = 0
            guard linux_receive_descriptors(channel, &words, 8, &descriptors, &count) == 8 else { return }
            switch KeeperMessage(rawValue: words[0]) {
            case .ended: applicationStatus = words[1]
            case .born:
                let maker = child
                child = words[1]
                waitpid(maker, nil, 0)
            case .stopped: mustStop = true
            case .continued: mustStop = false
            case .terminal:
                guard count == 1 else { continue }
                master = descriptors[0]
                terminal.makeRaw(orders.passesInput)
                relay.begin(input: orders.passesInput)
                TerminalRelay.copySize(master)
            case nil: break
            }
        }
    }

    /// Stops like the application did, so that the shell takes its terminal back.
    private mutating func stop() {
        mustStop = false
        terminal.restore()
        kill(getpid(), SIGSTOP)
        if master >= 0 {
            terminal.makeRaw(orders.passesInput)
            TerminalRelay.copySize(master)
        }
    }

    private mutating func checkDeadline() {
        guard deadline >= 0, MonotonicTime.now() >= deadline else { return }
        if isTimedOut {
            kill(child, SIGKILL)
            deadline = -1
            return
        }
        isTimedOut = true
        deadline = MonotonicTime.now() + Int(orders.grace)
        pass(orders.stopSignal)
        // A stopped application hears nothing before it goes on.
        pass(SIGCONT)
    }

    private mutating func end(_ status: Int32) -> Never {
        if master >= 0 { relay.drain(master) }
        terminal.restore()
        terminal.guardian?.dismiss()
        group?.end(applicationStatus ?? status)
        if isTimedOut {
            LaunchDiagnosis.sayTimedOut(orders.image, milliseconds: orders.timeout ?? 0)
            _exit(124)
        }
        let final = applicationStatus ?? status
        guard linux_status_signaled(final) != 0 else { _exit(linux_status_exit_code(final)) }
        // As without a keeper: the caller sees the signal itself (128+N in a shell). The core is the application's.
        var none = rlimit(rlim_cur: 0, rlim_max: 0)
        setrlimit(__rlimit_resource_t(4), &none)  // RLIMIT_CORE
        let number = linux_status_signal(final)
        signal(number, SIG_DFL)
        _ = linux_sigprocmask(SIG_UNBLOCK, UInt64.max, nil)
        kill(getpid(), number)
        _exit(128 + number)
    }
}

// MARK: Inside

/// The namespace's first process once the application runs: reaps, and passes signals on once.
private struct Reaper {
    let application: pid_t
    let channel: Int32
    private let buffer = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)
    /// When a signal to the whole process group was last seen here, by number.
    private let seen = UnsafeMutablePointer<Int>.allocate(capacity: 65)

    init(application: pid_t, channel: Int32) {
        self.application = application
        self.channel = channel
        seen.initialize(repeating: -1_000_000, count: 65)
    }

    mutating func run() -> Never {
        _ = linux_prctl(ProcessControl.setDumpable, 0, 0, 0, 0)
        let signals = signalDescriptor()
        let low = min(signals, channel)
        let high = max(signals, channel)
        if low > 0 { _ = linux_close_range(0, UInt32(low - 1), 0) }
        if high > low + 1 { _ = linux_close_range(UInt32(low + 1), UInt32(high - 1), 0) }
        _ = linux_close_range(UInt32(high + 1), UInt32.max, 0)
        _ = chdir(c("/"))
        while true {
            reap()
            var states = [
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(fd: channel, events: Int16(POLLIN), revents: 0),
            ]
            _ = poll(&states, 2, -1)
            drain(signals)
            guard states[1].revents & Int16(POLLIN) != 0 else { continue }
            var number: Int32 = 0
            guard read(channel, &number, 4) == 4 else { continue }
            // A signal to the process group came here too, and to the application.
            drain(signals)
            guard (1...64).contains(number), MonotonicTime.now() - seen[Int(number)] > 500 else {
                seen[Int(number)] = -1_000_000
                continue
            }
            kill(application, number)
        }
    }

    private func drain(_ signals: Int32) {
        while let signal = ReceivedSignal(signals, buffer) {
            guard signal.number != SIGCHLD, signal.isSent, (1...64).contains(signal.number) else { continue }
            if signal.sender == 0 {
                seen[Int(signal.number)] = MonotonicTime.now()
            } else if signal.sender != application {
                kill(application, signal.number)  // `kill -TERM 1` of a process inside
            }
        }
    }

    private func reap() {
        while true {
            var status: Int32 = 0
            let process = waitpid(-1, &status, WNOHANG | WUNTRACED | Int32(8))  // 8: WCONTINUED
            if process <= 0 { return }
            guard process == application else { continue }
            if linux_status_stopped(status) != 0 {
                tell(.stopped, 0)
            } else if linux_status_exited(status) != 0 || linux_status_signaled(status) != 0 {
                tell(.ended, status)
                _exit(
                    linux_status_signaled(status) != 0
                        ? 128 + linux_status_signal(status) : linux_status_exit_code(status))
            } else {
                tell(.continued, 0)
            }
        }
    }

    private func tell(_ message: KeeperMessage, _ value: Int32) {
        var words: [Int32] = [message.rawValue, value]
        _ = linux_send_descriptors(channel, &words, 8, nil, 0)
    }
}
