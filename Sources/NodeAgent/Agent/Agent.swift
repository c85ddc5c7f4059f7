import CLinux
import ContainerLaunch
import Glibc
import JobModel
import JobWire
import LinuxSystem
import ProcessManagement
import Processes

/// What one node does for a job: one thread, one loop, one connection to the leader.
///
/// It makes the node's container around itself, starts processes in it on the leader's
/// word, serves the small clients of its node (`LocalService`) and, whatever ends the job,
/// leaves nothing running.
package final class Agent {
    let leader: Connection
    private let identity: NodeIdentity
    var job: JobAssignment?
    /// What processes get; the job's environment in the container.
    var environment: [[UInt8]] = []
    var processes: [UInt32: AgentProcess] = [:]
    var service: LocalService?
    /// Lets launches of their own into the container.
    private var door: JoinDoor?
    /// Pids of ranks that run, by rank: what TERM goes to first.
    var ranks: [Int: pid_t] = [:]
    /// Output of ranks that launchers started, read here and not by their shims.
    var rankOutputs: [RankOutput] = []
    /// Rank 0's standard input where a launcher starts it; bytes may come before the rank does.
    let rankInput = InputPipe()
    /// Rank 0's, when it has one.
    var terminal: AgentTerminal?
    /// Serves PMI to ranks this agent starts itself.
    var management: RankManagement?
    /// Serves them PMIx.
    var pmix: PMIxManagement?
    /// Where every rank has one of its own.
    var containers: RankContainers?
    /// The leader knows that a rank here found its PMI or PMIx.
    private var hasWired = false
    /// Brings the image where the node's store lacks it.
    var fetch: ImageFetch?
    var isFetchReaped = false
    private var ending: Ending?
    /// The container's own, when it has limits that need one, and the kills that were reported.
    private var controlGroup: ControlGroup?
    var heldGroup: HeldControlGroup?
    /// As it was changed while the job runs.
    var memoryLimit: UInt64?
    private var memoryKills: UInt64 = 0
    private var lastHeard = MonotonicTime.now()
    /// The leader closed the connection without a word: it never took us for one of the job's.
    package private(set) var wasTurnedAway = false
    private var hasHeardLeader = false
    private var isFinished = false
    /// The ranks are stopped on the leader's word.
    var isSuspended = false
    private let signals: Int32
    private let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)

    struct RankOutput {
        var rank: Int
        var pipe: OutputPipe
    }

    private struct Ending {
        var killAt: Int
        var hasTermedLaunchers = false
    }

    /// Silence of the leader after which the agent ends the job on its node. The leader pings
    /// every 5 s: three may be lost.
    package static let leaderSilenceMilliseconds = 15_000
    /// The channel of `rankInput`; processes are counted from 1.
    package static let rankInputChannel: UInt32 = 0
    /// What launchers and leftovers get between TERM and KILL once no rank is left.
    private static let launcherGraceMilliseconds = 1_000

    package init(leader: Connection, identity: NodeIdentity, signals: Int32) {
        self.identity = identity
        self.leader = leader
        self.signals = signals
    }

    deinit { chunk.deallocate() }

    // MARK: The loop

    /// What one poll(2) slot stands for.
    private enum Source {
        case signals
        case leader
        case listener
        case door
        case client(UInt32)
        case input(UInt32)
        case output(UInt32, OutputPipe)
        case rankOutput(RankOutput)
        case management(rank: Int)
        case pmix, pmixComplaints
        case fetch
    }

    /// Runs until nothing of the job is left here.
    package func run() {
        while !isFinished {
            var (slots, sources) = watched()
            let ready = poll(&slots, nfds_t(slots.count), nextTimeout())
            if ready > 0 {
                for (slot, source) in zip(slots, sources) where slot.revents != 0 { handle(source) }
            }
            advanceEnding(hasChildren: reap())
            management?.considerRelease()
            leader.flush()
            if leader.isClosed, ending == nil {
                wasTurnedAway = !hasHeardLeader
                stop(graceMilliseconds: job?.graceMilliseconds ?? 0)
            }
            if MonotonicTime.now() - lastHeard > Self.leaderSilenceMilliseconds { leader.close() }
        }
    }

    private func watched() -> ([pollfd], [Source]) {
        var slots: [pollfd] = []
        var sources: [Source] = []
        func watch(_ descriptor: Int32, _ events: Int32, _ source: Source) {
            slots.append(pollfd(fd: descriptor, events: Int16(events), revents: 0))
            sources.append(source)
        }
        watch(signals, POLLIN, .signals)
        if !leader.isClosed { watch(leader.descriptor.raw, POLLIN | (leader.wantsWrite ? POLLOUT : 0), .leader) }
        if let service {
            watch(service.listener.watched, POLLIN, .listener)
            if let door { watch(door.listener.watched, POLLIN, .door) }
            for (id, client) in service.clients {
                watch(
                    client.connection.descriptor.raw,
                    (leader.isCongested ? 0 : POLLIN) | (client.connection.wantsWrite ? POLLOUT : 0), .client(id))
            }
        }
        for (channel, process) in processes {
            if let input = process.input.waiting { watch(input, POLLOUT, .input(channel)) }
            if leader.isCongested { continue }
            if process.isHeld { continue }
            for pipe in process.output { watch(pipe.raw, POLLIN, .output(channel, pipe)) }
        }
        if let input = rankInput.waiting { watch(input, POLLOUT, .input(Self.rankInputChannel)) }
        for (rank, line) in management?.lines ?? [:] where line.descriptor >= 0 {
            watch(line.descriptor, POLLIN, .management(rank: rank))
        }
        if let pmix, pmix.socket >= 0 { watch(pmix.socket, POLLIN, .pmix) }
        if let pmix, pmix.complaints >= 0 { watch(pmix.complaints, POLLIN, .pmixComplaints) }
        if let fetch, fetch.output >= 0 { watch(fetch.output, POLLIN, .fetch) }
        if !leader.isCongested { for output in rankOutputs { watch(output.pipe.raw, POLLIN, .rankOutput(output)) } }
        return (slots, sources)
    }

    private func nextTimeout() -> Int32 {
        // While ending, children are adopted and end without a signal for each.
        var milliseconds: Int32 = ending != nil ? 20 : 1000
        if ending == nil, management?.isWaiting ?? false { milliseconds = RankManagement.intervalMilliseconds }
        milliseconds = service?.listener.timeout(milliseconds) ?? milliseconds
        return door?.listener.timeout(milliseconds) ?? milliseconds
    }

    private func handle(_ source: Source) {
        switch source {
        case .signals: takeSignals()
        case .leader: receiveFromLeader()
        case .listener: service?.accept()
        case .door: door?.answer()
        case .client(let id): receiveFromClient(id)
        case .input(let channel): flushInput(channel)
        case .output(let channel, let pipe): if let process = processes[channel] { forward(pipe, of: process) }
        case .rankOutput(let output): forward(output)
        case .management(let rank):
            fence(management?.read(rank))
            if management?.hasHeard == true { tellWired() }
            endAborted()
        case .pmix: hearPMIx()
        case .pmixComplaints: pmix?.readComplaints()
        case .fetch: hearFetch()
        }
    }

    /// False when there was nothing.
    @discardableResult
    private func forward(_ pipe: OutputPipe, of process: AgentProcess) -> Bool {
        let bytes = pipe.read(into: chunk)
        if let bytes, !bytes.isEmpty {
            process.sent(bytes.count)
            leader.send(.output(channel: process.channel, stream: pipe.stream, bytes: bytes))
        }
        if pipe.isAtEnd { process.output.removeAll { $0 === pipe } }
        return bytes != nil && !pipe.isAtEnd
    }

    @discardableResult
    private func forward(_ output: RankOutput) -> Bool {
        let bytes = output.pipe.read(into: chunk)
        if let bytes, !bytes.isEmpty {
            leader.send(.rankOutput(rank: output.rank, stream: output.pipe.stream, bytes: bytes))
        }
        if output.pipe.isAtEnd { rankOutputs.removeAll { $0.pipe === output.pipe } }
        return bytes != nil && !output.pipe.isAtEnd
    }

    /// What the rank wrote before it ended comes before its end.
    func drainRankOutputs(of rank: Int) {
        for output in rankOutputs where output.rank == rank { while forward(output) {} }
    }

    func drainOutputs(of process: AgentProcess) {
        for pipe in process.output { while !leader.isCongested, !process.isHeld, forward(pipe, of: process) {} }
    }

    private func input(of channel: UInt32) -> InputPipe? {
        if channel == Self.rankInputChannel { return rankInput }
        return processes[channel]?.input ?? pmix?.pending.first { $0.channel == channel }?.input
    }

    func flushInput(_ channel: UInt32) {
        let count = input(of: channel)?.flush() ?? 0
        if count > 0 { leader.send(.consumed(channel: channel, count: count)) }
    }

    private func takeSignals() {
        // struct signalfd_siginfo is 128 bytes, its first word the number (signalfd(2)).
        while true {
            let n = Glibc.read(signals, chunk.baseAddress, 128)
            guard n == 128 else { return }
            let number = chunk.loadUnaligned(as: Int32.self)
            if number == SIGTERM || number == SIGINT || number == SIGHUP || number == SIGQUIT {
                stop(graceMilliseconds: job?.graceMilliseconds ?? 0)
            }
        }
    }

    // MARK: The leader

    private func receiveFromLeader() {
        do throws(WireFailure) {
            for message in try leader.receive() {
                lastHeard = MonotonicTime.now()
                hasHeardLeader = true
                handle(message)
            }
        } catch { leader.close() }
    }

    private func handle(_ message: WireMessage) {
        switch message {
        case .job(let job): prepare(job)
        case .launch(let channel, let launch): start(channel, launch)
        case .input(let channel, let bytes):
            input(of: channel)?.add(bytes)
            flushInput(channel)
        case .hangUp(let channel): hangUp(channel)
        case .taken(let channel, let count): processes[channel]?.taken(count)
        case .launched(let request, _):
            service?.client(ofRequest: request)?.connection.send(.launched(channel: 0, pid: 0))
        case .consumed(let request, let count):
            service?.client(ofRequest: request)?.connection.send(.consumed(channel: 0, count: count))
        case .output(let request, let stream, let bytes):
            service?.client(ofRequest: request)?.connection.send(.output(channel: 0, stream: stream, bytes: bytes))
        case .exited(let request, let status):
            service?.client(ofRequest: request)?.connection.send(.exited(channel: 0, status))
        case .refused(let request, let errno, let subject):
            service?.client(ofRequest: request)?.connection.send(
                .refused(channel: 0, errno: errno, subject: subject))
        case .signal(let number): for pid in ranks.values { kill(-pid, Int32(number)) }
        case .stop(let grace): stop(graceMilliseconds: grace)
        case .fenceDone(let entries):
            if let pmix {
                pmix.fenceDone(entries)
            } else {
                fence(management?.fenceDone(KeySpace.Entry.paired(entries)))
            }
        case .modexWanted(let ticket, let rank): pmix?.wanted(ticket: ticket, rank: rank)
        case .modex(let ticket, let status, let bytes): pmix?.modex(ticket: ticket, status: status, bytes: bytes)
        case .suspend(let isOn): suspend(isOn)
        case .update(let limits): update(limits)
        case .window(let size): terminal?.resize(size)
        case .fetchImage(let command, let environment, let plan): fetchImage(command, environment, plan)
        case .imageSettled: endFetch()
        case .ping:
            leader.send(.pong)
            sampleUsage()
        default: break
        }
        service?.flushAll()
    }

    private func prepare(_ job: JobAssignment) {
        guard self.job == nil else { return }
        self.job = job
        if let path = ImageFetch.missing(job) { return leader.send(.imageWanted(path: path)) }
        enter(job)
    }

    func enter(_ job: JobAssignment) {
        do throws(AgentFailure) {
            if job.isPerSocket, RankBinding.socketCount() > 1 {
                throw AgentFailure(
                    step: "--model socket:", errno: 0,
                    subject: "the node has \(RankBinding.socketCount()) sockets, and its ranks share one container "
                        + "(--model node --bind-to socket keeps each rank on its socket)")
            }
            let names = job.offersShell ? ShellNames.own() : []
            // Outside, where the directory is; why it cannot be matters only once the container is there.
            let door = Result { () throws(AgentFailure) in try job.hasNodeContainer ? JoinDoor(key: job.key) : nil }
            environment = try ContainerPreparation.enter(job) { group in
                Guard.keep(group)
                controlGroup = group
                heldGroup = HeldControlGroup(group)
            }
            self.door = try door.get()
            try self.door?.open()
            service = try LocalService(key: job.key, hasContainer: job.hasNodeContainer)
            if job.isPerProcess { containers = try RankContainers(job) }
            try offerShell(job, names)
            try makeTerminal(job)
            let statement = NodeIdentity.readiness(key: job.key, node: job.nodeIndex)
            leader.send(.ready(signature: identity.signature(of: statement)))
        } catch { refuse(error) }
    }

    func refuse(_ failure: AgentFailure) {
        leader.send(.failed(step: failure.step, errno: Int(failure.errno), subject: failure.subject))
        leader.flush()
        isFinished = true
    }

    func tellWired() {
        if !hasWired { leader.send(.wired) }
        hasWired = true
    }

    private func fence(_ entries: [KeySpace.Entry]?) {
        if let entries { leader.send(.fence(KeySpace.Entry.flattened(entries))) }
    }

    // MARK: Processes

    /// - Parameter input: what came for it before it could be started.
    func start(_ channel: UInt32, _ launch: Launch, input: InputPipe = InputPipe()) {
        guard ending == nil else {
            leader.send(.refused(channel: channel, errno: Int(ECANCELED), subject: "the job is ending"))
            return
        }
        guard prepareWireUp(channel, launch) else { return }
        var launch = launch
        var managementEnd: Int32 = -1
        if let pmix, launch.rank >= 0 { launch.environment += pmix.environment(of: launch.rank) }
        if launch.wireUp == .pmi, launch.rank >= 0, let job {
            if management == nil { management = RankManagement(job) }
            if let opened = management?.open(launch.rank, job) {
                managementEnd = opened.end
                launch.environment += opened.environment
            }
        }
        defer { if managementEnd >= 0 { close(managementEnd) } }
        do throws(SyscallError) {
            let process = try AgentProcess(
                channel: channel, launch, environment: environment, container: containers?.plan, input: input,
                labels: job?.labelsOutput ?? false, terminal: terminal)
            processes[channel] = process
            management?.started(launch.rank, process.pid)
            leader.send(.launched(channel: channel, pid: Int(process.pid)))
            if launch.rank >= 0 {
                ranks[launch.rank] = process.pid
                leader.send(.rankStarted(rank: launch.rank, size: job?.size ?? 1, pid: Int(process.pid)))
            }
            flushInput(channel)
        } catch {
            let subject = String(decoding: launch.arguments.first ?? [], as: UTF8.self)
            leader.send(.refused(channel: channel, errno: Int(error.errno), subject: subject))
        }
    }

    /// Says what the kernel killed for the memory limit since the last time.
    ///
    /// - Parameter rank: the one that has just ended so; -1 for a process that is none.
    func reportMemoryKills(rank: Int, _ status: ExitStatus) {
        guard let controlGroup, let limit = memoryLimit ?? controlGroup.memoryLimit else { return }
        let kills = heldGroup?.outOfMemoryKills() ?? 0
        guard kills > memoryKills else { return }
        leader.send(
            .memoryKills(
                MemoryKills(
                    rank: rank, isRank: rank >= 0 && status == .signaled(SIGKILL), count: Int(kills - memoryKills),
                    limit: limit, peak: heldGroup?.peakMemory() ?? 0)))
        memoryKills = kills
    }

    /// False when this process has no children at all.
    private func reap() -> Bool {
        func process(_ pid: pid_t) -> AgentProcess? { processes.values.first { $0.pid == pid } }
        let hasChildren = ProcessTree.reap(transfers: { process($0)?.transfers?.read() ?? ResourceUsage() }) {
            pid, status, usage in
            if pid == fetch?.pid { isFetchReaped = true }
            guard let process = process(pid) else { return }
            if process.rank >= 0 { leader.send(.rankUsage(rank: process.rank, usage)) }
            process.status =
                linux_status_exited(status) != 0
                ? .exited(linux_status_exit_code(status)) : .signaled(linux_status_signal(status))
            if let code = process.abortCode { process.status = .exited(code) }
        }
        for (channel, process) in processes {
            guard let status = process.status else { continue }
            if leader.isCongested { continue }
            if !process.exitIsReported {
                // What it wrote before it ended comes before its end.
                drainOutputs(of: process)
                if leader.isCongested || process.isHeld { continue }
                process.exitIsReported = true
                reportMemoryKills(rank: process.rank, status)
                if process.rank >= 0 {
                    ranks[process.rank] = nil
                    management?.ended(process.rank)
                    if process.abortCode == nil { leader.send(.rankExited(rank: process.rank, status)) }
                }
                leader.send(.exited(channel: channel, status))
            }
            // A descendant may still hold the pipes; its output is passed on until they close.
            if process.output.isEmpty { processes[channel] = nil }
        }
        return hasChildren
    }

    // MARK: The end

    /// TERM to the ranks (or, when there are none, to everything), then as `advanceEnding`.
    func stop(graceMilliseconds: Int) {
        guard ending == nil else {
            // A second stop may only shorten the grace.
            ending!.killAt = min(ending!.killAt, MonotonicTime.now() + graceMilliseconds)
            return
        }
        ending = Ending(killAt: MonotonicTime.now() + graceMilliseconds)
        // Of those that will be killed nobody hears more.
        sampleUsage()
        for pid in ranks.values { kill(-pid, SIGTERM) }
        endFetch()
        // Who is stopped would not hear it.
        if isSuspended { suspend(false) }
    }

    private func advanceEnding(hasChildren: Bool) {
        guard let ending else { return }
        let now = MonotonicTime.now()
        // Ranks that the batch system started are not our children; their shims tell us of their end.
        if !hasChildren, ranks.isEmpty { return finish(unkillable: 0) }
        if ranks.isEmpty, !ending.hasTermedLaunchers {
            // Launchers last: told earlier they would kill ranks that still use their grace.
            self.ending!.hasTermedLaunchers = true
            self.ending!.killAt = now + Self.launcherGraceMilliseconds
            service?.releaseAll()
            ProcessTree.signal(SIGTERM, below: getpid())
        }
        if now >= self.ending!.killAt {
            sampleUsage()
            for pid in ranks.values { kill(-pid, SIGKILL) }
            finish(unkillable: Guard.killRemaining(below: getpid(), milliseconds: 5000))
        }
    }

    private func finish(unkillable: Int) {
        isFinished = true
        hearClientsOut()
        for process in processes.values { drainOutputs(of: process) }
        for output in rankOutputs { while !leader.isCongested, forward(output) {} }
        reportNodeUsage()
        containers = nil
        leader.send(.empty(unkillable: unkillable))
        // The last word may wait for a slow leader, but not for ever.
        let deadline = MonotonicTime.now() + 2000
        while leader.wantsWrite, MonotonicTime.now() < deadline {
            var slot = pollfd(fd: leader.descriptor.raw, events: Int16(POLLOUT), revents: 0)
            poll(&slot, 1, 100)
            leader.flush()
        }
    }
}
