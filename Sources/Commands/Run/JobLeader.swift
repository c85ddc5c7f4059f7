import CLinux
import ContainerLaunch
import CoordinationStore
import Diagnostics
import EtcdStore
import Glibc
import JobModel
import JobWire
import LaunchPlan
import LinuxSystem
import NodeAgent
import Orchestrator
import Processes
import ResourceManagers
import SiteConfiguration
import Telemetry

/// The job's leader: this process. One thread, one loop over the agents, the signals and the
/// standard streams; what to do is decided by `JobStateMachine`, here it is done.
final class JobLeader {
    let job: JobSpecification
    let container: JobContainer
    let allocation: Allocation
    let rankStart: RankStart
    let key: String
    private let secret = RandomBytes.make(32)
    private let port: UInt16
    private let signals: Int32
    let isQuiet: Bool

    var machine: JobStateMachine
    /// Connections that have not said which node they are.
    private let strangers: UnprovenPeers
    var agents: [Int: AgentLink] = [:]
    var streams = LeaderStreams()
    /// Whose process a channel is, for remote commands; nil origin: the job's own.
    var channels: [UInt32: Channel] = [:]
    var nextChannel: UInt32 = 1
    var launcherVoice = LauncherVoice()
    /// Where our standard input goes: the process of rank 0.
    var inputTarget: (node: Int, channel: UInt32)?
    var outputFiles: OutputFiles?
    private(set) var fanOut: FanOut?
    /// Nil when it could not be made.
    var record: JobRecord?
    /// The site's, when one was named.
    var etcd: EtcdSettings?
    /// With `--network job`.
    var subnet: SubnetLease?
    var store: JobStore?
    let image = JobImageSpread()
    /// When a store that does not answer is mentioned.
    var storePatience = MonotonicTime.now() + 3_000
    /// `trireme job …` of the same user.
    var controllers: [Controller] = []
    var isSuspended = false
    /// A reader of our output that goes away ends the job.
    var failsOnBrokenPipe = false
    private var lostOutput: SyscallError?
    /// Says at the end what came of it, whoever reads.
    var isVerbose = false
    /// The most memory that one rank was seen to use.
    var peakMemory: (rank: Int, bytes: Int64)?
    /// Who asked for other limits, and the nodes whose answers are awaited.
    var updates: [LimitUpdate] = []
    var step: HelperProcess?
    /// Ours, while rank 0 has it.
    var terminal: CallerTerminal?
    /// Whom the shell waits for, until the job is detached.
    var foreground: ForegroundProcess?
    /// The nodes whose ranks wait in the present PMI barrier, and the keys they bring.
    var fences: [Int: [[UInt8]]] = [:]
    /// A rank has spoken PMI or PMIx with its agent.
    var hasWired = false
    /// Questions of PMIx servers to others, by the ticket given here: who asked, and under what ticket.
    var modexes: [Int: (node: Int, ticket: Int)] = [:]
    var lastModex = 0
    let began = MonotonicTime.now()
    private var nextPing = 0
    /// When the user is next told which nodes are awaited.
    private var nextWaitNote = MonotonicTime.now() + 3_000
    private var exitCode: Int32?
    /// The batch system shows that nodes are awaited.
    var hasToldSystem = false
    /// Its commands, while they run.
    private var commentators: [HelperProcess] = []

    final class AgentLink {
        let connection: Connection
        let address: String
        var lastHeard = MonotonicTime.now()
        /// What its node is called besides.
        var names: [String] = []
        /// Of the agent's `NodeIdentity`.
        let publicKey: [UInt8]
        init(_ connection: Connection, address: String, publicKey: [UInt8]) {
            self.publicKey = publicKey
            self.connection = connection
            self.address = address
        }
    }

    /// A process an agent runs.
    struct Channel {
        var node: Int
        /// The client on another node that asked for it (remote shell), by its agent's number for it.
        var origin: (node: Int, request: UInt32)?
        var isLauncher: Bool
        var rank: Int
    }

    private static let pingMilliseconds = 5_000

    init(
        _ job: JobSpecification, container: JobContainer, allocation: Allocation, port: UInt16, isQuiet: Bool,
        foreground: ForegroundProcess? = nil
    ) throws(Diagnostic) {
        self.foreground = foreground
        self.job = job
        self.container = container
        self.allocation = allocation
        self.isQuiet = isQuiet
        key = RandomBytes.hex(RandomBytes.make(12))
        rankStart = try MPILaunch(job: job, container: container, allocation: allocation, key: key).start()
        machine = JobStateMachine(
            .init(
                map: job.map, hasLauncher: rankStart.hasLauncher, graceMilliseconds: job.graceMilliseconds,
                joinTimeoutMilliseconds: job.joinTimeoutMilliseconds,
                advice: Detection.manager(named: allocation.system)?.advice(for: allocation) ?? SystemAdvice()),
            now: MonotonicTime.now())
        machine.setup.keepsGoing = job.ranks.keepsGoing
        outputFiles = OutputFiles(
            output: job.ranks.outputPattern, error: job.ranks.errorPattern, map: job.map,
            // Outside a batch system's job every job of ours is one by itself: its files get its own id.
            jobID: allocation.hasJobID ? allocation.jobID : job.id)
        do throws(SyscallError) {
            let bound = try TCPSocket.listen(port: port)
            self.port = bound.port
            strangers = UnprovenPeers(listener: bound.takeDescriptor(), secret: secret)
            let handled = Self.handledSignals(atTerminal: foreground != nil)
            _ = linux_sigprocmask(SIG_BLOCK, handled, nil)
            signals = try checked("signalfd") { linux_signalfd(handled, Int32(O_CLOEXEC) | Int32(O_NONBLOCK)) }
        } catch {
            throw Diagnostic(
                DiagnosticCode("port-unusable"), port == 0 ? "a TCP port" : "--port \(port)",
                reasons: ["the job's nodes could not report there", error.sentence],
                remedies: port == 0 ? [] : ["leave --port out: a free one is taken", "ss -ltnp 'sport = :\(port)'"])
        }
    }

    private static func handledSignals(atTerminal: Bool) -> UInt64 {
        let ending = ForwardedSignals.heard([SIGTERM, SIGINT, SIGHUP, SIGQUIT])
        return (ending + [SIGCHLD, SIGUSR1, SIGUSR2, SIGWINCH] + (atTerminal ? [SIGTSTP] : []))
            .reduce(0) { $0 | 1 << UInt64($1 - 1) }
    }

    /// The user's limit, or the allocation's end so long before it that our own ending comes first.
    private func timeLimit() -> (Int, String)? {
        let own = job.ranks.timeLimitMilliseconds.map { ($0, "the time limit of \(Double($0) / 1000) s is over") }
        guard let end = Detection.endTime(of: allocation, in: .current) else { return own }
        let left = (end - time(nil)) * 1000 - job.graceMilliseconds - 5_000
        guard left > 0, left < own?.0 ?? .max else { return own }
        return (left, "job \(allocation.jobID) of \(allocation.system) is about to end")
    }

    // MARK: The loop

    private enum Source {
        case listener, signals, store
        case stranger(UnprovenPeers.ID)
        case agent(Int)
        case helper(HelperProcess)
        case controller(Controller)
        case step, input
        case stream(Int)
    }

    func run() throws(Diagnostic) -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        DescriptorLimit.raise()
        try openStore()
        beginRecord(secret: secret, port: port)
        defer { endRecord() }
        defer { giveTerminalBack() }
        try startAgents()
        // The agents are on their way meanwhile.
        machine.setup.timeLimit = timeLimit()
        while exitCode == nil || streams.isWaiting {
            var slots: [pollfd] = []
            var sources: [Source] = []
            watch { descriptor, events, source in
                slots.append(pollfd(fd: descriptor, events: Int16(events), revents: 0))
                sources.append(source)
            }
            if poll(&slots, nfds_t(slots.count), strangers.timeout(machine.phase == .ended ? 100 : 500)) > 0 {
                for (slot, source) in zip(slots, sources) where slot.revents != 0 { handle(source) }
            }
            collectHelpers()
            keepInTouch()
            tendStore()
            act(machine.handle(.timePassed, now: MonotonicTime.now()))
            for link in agents.values { link.connection.flush() }
            flushControllers()
            record?.flush()
        }
        endHelpers()
        return exitCode ?? ExitCode.ownFailure
    }

    private func watch(_ add: (Int32, Int32, Source) -> Void) {
        add(signals, POLLIN, .signals)
        if let session = store?.etcd { add(session.descriptor, POLLIN, .store) }
        add(strangers.watched, POLLIN, .listener)
        for (id, stranger) in strangers.peers {
            add(
                stranger.connection.descriptor.raw, POLLIN | (stranger.connection.wantsWrite ? POLLOUT : 0),
                .stranger(id))
        }
        for (node, link) in agents where !link.connection.isClosed {
            add(
                link.connection.descriptor.raw,
                (streams.isCongested ? 0 : POLLIN) | (link.connection.wantsWrite ? POLLOUT : 0), .agent(node))
        }
        for helper in fanOut?.helpers ?? [] where helper.output >= 0 { add(helper.output, POLLIN, .helper(helper)) }
        for controller in controllers {
            let connection = controller.connection
            add(connection.descriptor.raw, POLLIN | (connection.wantsWrite ? POLLOUT : 0), .controller(controller))
        }
        if let step, step.output >= 0 { add(step.output, POLLIN, .step) }
        if inputTarget != nil, streams.readsInput { add(0, POLLIN, .input) }
        for stream in [1, 2] where streams.isWaiting(stream) { add(Int32(stream), POLLOUT, .stream(stream)) }
    }

    private func handle(_ source: Source) {
        switch source {
        case .listener: strangers.accept()
        case .signals: takeSignals()
        case .store: break  // `tendStore` looks every turn
        case .stranger(let id): hear(id)
        case .agent(let node): hearAgent(node)
        case .helper(let helper): _ = helper.readOutput()
        case .controller(let controller): hear(controller)
        case .step: if let said = step?.readOutput() { heardFromLauncher(2, said) }
        case .input: forwardInput()
        case .stream(let stream):
            streams.flush(stream)
            if let failure = streams.takeFailure() { outputIsLost(failure) }
            if streams.isBroken, failsOnBrokenPipe, machine.phase == .running {
                note("nobody reads the job's output any more (--pipe-fail)")
                act(machine.handle(.terminated(signal: SIGPIPE), now: MonotonicTime.now()))
            }
        }
    }

    /// Nobody will ever see what the job has written: it fails, as it does when a file of `-o` cannot be written.
    private func outputIsLost(_ failure: SyscallError) {
        let diagnostic = Output.lost("what the job wrote is lost", failure)
        if exitCode == 0 {
            exitCode = ExitCode.ownFailure
            streams.add(2, Array(diagnostic.rendered().utf8))
        } else if machine.phase == .running {
            act(machine.handle(.refused(code: ExitCode.ownFailure, diagnostic), now: MonotonicTime.now()))
        } else {
            // The ranks have ended well, and the job is about to: see `finish`.
            lostOutput = failure
        }
    }

    private func takeSignals() {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 128, alignment: 8)
        defer { buffer.deallocate() }
        while read(signals, buffer.baseAddress, 128) == 128 {
            let number = buffer.load(as: Int32.self)
            let now = MonotonicTime.now()
            switch number {
            case SIGINT: act(machine.handle(.interrupted, now: now))
            case SIGTSTP: stopOrDetach()
            case SIGTERM, SIGHUP: act(machine.handle(.terminated(signal: number), now: now))
            case SIGWINCH: terminalResized()
            case SIGQUIT, SIGUSR1, SIGUSR2: sendToAll(.signal(Int(number)))
            default: break
            }
        }
    }

    // MARK: Agents

    private func hear(_ id: UnprovenPeers.ID) {
        guard let stranger = strangers.peers[id] else { return }
        do throws(WireFailure) {
            let messages = try strangers.hear(id)
            switch messages.first {
            case .control?: admit(Controller(stranger.connection), messages)
            case .hello(let name, let place, let key)?:
                // A number was given where one command starts one agent; else names tell, which systems
                // write with or without the domain.
                admit(stranger, as: place >= 0 ? place : machine.node(named: name) ?? -1, key: key)
            default: return
            }
        } catch {}
        strangers.remove(id)
    }

    private func admit(_ stranger: UnprovenPeers.Peer, as node: Int, key: [UInt8]) {
        guard job.map.nodes.indices.contains(node), agents[node] == nil else {
            // Told so, it does not come again.
            stranger.connection.send(.stop(graceMilliseconds: 0))
            return stranger.connection.flush()
        }
        agents[node] = AgentLink(stranger.connection, address: stranger.address, publicKey: key)
        act(machine.handle(.agentJoined(node: node), now: MonotonicTime.now()))
    }

    private func hearAgent(_ node: Int) {
        guard let link = agents[node] else { return }
        do throws(WireFailure) {
            for message in try link.connection.receive() {
                link.lastHeard = MonotonicTime.now()
                take(message, from: node)
            }
        } catch { link.connection.close() }
        if link.connection.isClosed { act(machine.handle(.agentLost(node: node), now: MonotonicTime.now())) }
    }

    /// Pings, and gives up those who were silent too long. While our own readers are slow we do
    /// not listen, so silence proves nothing then.
    private func keepInTouch() {
        let now = MonotonicTime.now()
        strangers.removeOverdue(now: now)
        if now >= nextPing {
            nextPing = now + Self.pingMilliseconds
            sendToAll(.ping)
        }
        if machine.phase == .joining, now >= nextWaitNote {
            nextWaitNote = now + 10_000
            if !isQuiet { noteMissing() }
            tellSystem("rendezvous \(job.map.nodes.count - machine.missingNodes.count)/\(job.map.nodes.count)")
        }
        for (node, link) in agents where !link.connection.isClosed {
            if streams.isCongested {
                link.lastHeard = now
            } else if now - link.lastHeard > Agent.leaderSilenceMilliseconds {
                link.connection.close()
                act(machine.handle(.agentLost(node: node), now: now))
            }
        }
    }

    func sendToAll(_ message: WireMessage) { for link in agents.values { link.connection.send(message) } }

    func assignment(for node: Int) -> JobAssignment? {
        guard let directory = getcwd(nil, 0) else { return nil }
        defer { free(directory) }
        guard let plan = try? container.plan.encoded() else { return nil }
        var assignment = JobAssignment(
            jobID: job.id, key: key, nodeIndex: node, nodeNames: job.map.nodes.map(\.name),
            nodeAddresses: job.map.nodes.indices.map(address(of:)), size: job.map.size,
            ranksPerNode: job.map.nodes.map(\.tasks), plan: plan,
            store: container.store, directory: Array(String(cString: directory).utf8),
            environment: JobEnvironment.passed(EnvironmentBlock.current()), overrides: container.overrides,
            labelsOutput: job.labelsOutput, graceMilliseconds: job.graceMilliseconds)
        assignment.terminal = job.ranks.terminal
        assignment.isPerSocket = job.model == .socket
        assignment.isPerProcess = job.model == .process
        assignment.offersShell = job.ranks.offersShell
        assignment.network = network
        return assignment
    }

    // MARK: Helpers: the fan-out and the step

    private func startAgents() throws(Diagnostic) {
        do throws(SyscallError) {
            let program = try SiteProgram.path("trireme-agent")
            let addresses = TCPSocket.ownAddresses().map { "\($0):\(port)" }.joined(separator: ",")
            let nodes = job.map.nodes.map(\.name)
            let surroundings = Surroundings.current
            let directory = Locations.current().state
            let manager = Detection.manager(named: allocation.system)
            func agent(_ secret: String) -> AgentStart {
                AgentStart(
                    nodes: nodes, jobID: allocation.jobID, command: [program, "--serve", secret],
                    addresses: addresses, here: HostName.current)
            }
            let secretFile = "\(directory)/job-\(job.id).secret"
            var commands = manager?.fanOut(agent("-"), in: surroundings) ?? []
            if commands.contains(where: { $0.secret == .file }) {
                try FanOut.makeDirectory(directory)
                commands = manager?.fanOut(agent(secretFile), in: surroundings) ?? []
            }
            if manager == nil {
                let words = [program, "--serve", "-", "0", "127.0.0.1:\(port)"]
                commands = [FanOutCommand(words: words, secret: .environment)]
            }
            fanOut = try FanOut(commands, secret: RandomBytes.hex(secret), secretFile: secretFile)
            recordEvent(.agentsStarted, text: commands.first?.words.first)
        } catch {
            throw Diagnostic(
                DiagnosticCode("agents-not-started"), error.subject.isEmpty ? allocation.system : error.subject,
                reasons: [error.sentence], remedies: machine.setup.advice.whenUnreached)
        }
    }

    private func collectHelpers() {
        while true {
            var status: Int32 = 0
            let pid = waitpid(-1, &status, WNOHANG)
            if pid <= 0 { return }
            let ended: ExitStatus =
                linux_status_exited(status) != 0
                ? .exited(linux_status_exit_code(status)) : .signaled(linux_status_signal(status))
            let now = MonotonicTime.now()
            if let helper = fanOut?.helper(pid) {
                _ = helper.readOutput()
                helper.hasEnded = true
                if helper.isMessage, ended == .exited(0) { continue }
                act(machine.handle(.fanOutExited(ended, said: helper.tail), now: now))
            } else if let index = commentators.firstIndex(where: { $0.pid == pid }) {
                commentators.remove(at: index)
            } else if let step, step.pid == pid {
                step.hasEnded = true
                heardFromLauncher(2, step.readOutput())
                if machine.phase == .running { streams.add(2, launcherVoice.finish()) }
                act(machine.handle(.launcherExited(ended), now: now))
            }
        }
    }

    func endFanOut() { fanOut?.end(SIGTERM) }

    /// At the end every agent has gone, so srun goes by itself; it is not waited for longer than 2 s.
    private func endHelpers() {
        step?.end(SIGTERM)
        for commentator in commentators { commentator.end(SIGTERM) }
        fanOut?.awaitEnd(milliseconds: 2000)
    }

    func finish(_ end: Int32) {
        var code = end
        // What the last rank wrote came just before its end.
        streams.drain(milliseconds: 0)
        if code == 0, let failure = lostOutput ?? streams.takeFailure() {
            streams.add(2, Array(Output.lost("what the job wrote is lost", failure).rendered().utf8))
            code = ExitCode.ownFailure
        }
        store?.finish(code)
        if code == 0, case .direct(_, isMPI: true) = rankStart, !hasWired, job.map.size > 1 {
            note(
                "none of the \(job.map.size) ranks called MPI_Init, or each that did ran as a job of its own "
                    + "(trireme explain mpi-mismatch)")
        }
        // The record has all of it anyway.
        if isTold { streams.add(2, Array("trireme: \(endSummary(code))\n".utf8)) }
        exitCode = code
    }
    func noteMissing() {
        let missing = machine.missingNodes
        note("waiting for \(missing.count) of \(job.map.nodes.count) nodes: \(HostList(missing))")
    }

    /// What becomes of a job that is slow to start, for those who look at it in the batch system. Jobs that start at
    /// once spare its server the question.
    func tellSystem(_ text: String) {
        hasToldSystem = true
        guard let words = Detection.manager(named: allocation.system)?.comment("trireme: \(text)", on: allocation),
            let told = try? HelperProcess(words, environment: EnvironmentBlock.forCommands())
        else { return }
        commentators.append(told)
    }

    func note(_ text: String) {
        recordEvent(.message, text: text)
        streams.add(2, Array("trireme: \(text)\n".utf8))
    }
}
