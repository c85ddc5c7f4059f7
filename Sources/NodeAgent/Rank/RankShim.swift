import CLinux
import ContainerLaunch
import Glibc
import JobModel
import JobWire
import LinuxSystem
import Processes

/// Stands between a launcher and one rank: `mpirun -np N /.trireme/agent --rank -- CMD`.
///
/// It learns its rank from the launcher's variables, sets trireme's, starts the rank in a process
/// group of its own, tells the node's agent how it started and ended and passes signals on. A rank that failed is reported before its launcher can notice: the shim then waits
/// for the agent's word, so that the first failure is known and the others get their grace, which
/// launchers would cut short. If the shim is killed its rank dies with it.
enum RankShim {
    /// - Parameters:
    ///   - words: as `RankCommand` has them.
    ///   - isOutside: the rank gets a container of its own, and this process is not in it.
    static func run(_ words: [[UInt8]], isOutside: Bool = false) -> Int32 {
        let host = LauncherEnvironment.rank(EnvironmentBlock.current())
        guard let place = RankPlace(environment: host) else {
            return complain("no rank in the environment: is this started by mpirun, mpiexec or srun?")
        }
        guard let part = RankCommand.part(of: place.rank, in: words) else {
            return complain("rank \(place.rank): has no command")
        }
        let connection: Connection
        do throws(SyscallError) { connection = try LocalClient.connect(isOutside: isOutside) } catch {
            return complain("rank \(place.rank): no agent of the job on this node: \(error.sentence)")
        }
        connection.send(.rankJoining(rank: place.rank))
        connection.flush()
        guard let node = NodeAnswer.receive(connection) else {
            return complain("rank \(place.rank): the job has ended")
        }
        let size = node.size
        let container: RankContainer?
        do throws(SyscallError) { container = isOutside ? try node.container() : nil } catch {
            return complain("rank \(place.rank): no plan of its container: \(error.sentence)")
        }
        guard place.size == size else {
            connection.send(
                .rankRefused(rank: place.rank, errno: 0, reason: "was started as one of \(place.size), not of \(size)"))
            return waitForRelease(connection, 125)
        }
        let own = node.environment + part.environment + place.variables
        var environment = EnvironmentBlock.merged(host, (container?.variables ?? []) + own)
        // Slurm's tasks come with the image's PATH, not with the agent's.
        if !isOutside, ShellPlace.isThere { environment = ShellPlace.environment(environment) }
        let relay = PMIRelay(environment: &environment)
        let command =
            isOutside
            ? part.command
            : behindEnvironmentScripts(part.command, environment: &environment, overrides: part.environment)
        let handled = handledSignals.reduce(UInt64(0)) { $0 | 1 << UInt64($1 - 1) }
        _ = linux_sigprocmask(SIG_BLOCK, handled, nil)
        _ = linux_prctl(ProcessControl.setParentDeathSignal, UInt(SIGKILL), 0, 0, 0)
        if isOutside { _ = linux_prctl(ProcessControl.setChildSubreaper, 1, 0, 0, 0) }
        let pid: pid_t
        _ = RankBinding.bind(environment)
        do throws(SyscallError) {
            pid = try ChildProcess.start(
                command, in: container, own: RankContainer.wireUp(environment) + own, environment: environment,
                streams: node.streams)
        } catch {
            let subject = String(decoding: part.command.first ?? [], as: UTF8.self)
            connection.send(.rankRefused(rank: place.rank, errno: Int(error.errno), reason: subject))
            return waitForRelease(connection, error.errno == ENOENT || error.errno == ENOTDIR ? 127 : 126)
        }
        node.close()
        relay?.closeRankSide()
        connection.send(.rankStarted(rank: place.rank, size: place.size, pid: Int(pid)))
        connection.flush()
        let status = attend(pid, place.rank, connection, relay, handled)
        // A container ends with its command.
        if isOutside { Guard.killRemaining(below: getpid(), milliseconds: 5000) }
        if connection.isClosed { return endOrphaned(host, status.code) }
        connection.send(.rankExited(rank: place.rank, status))
        if status.isSuccess {
            LocalClient.drain(connection)
            return 0
        }
        return waitForRelease(connection, status.code)
    }

    /// What srun and mpirun pass on to their tasks.
    private static let handledSignals: [Int32] = [
        SIGCHLD, SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP,
    ]

    private static func complain(_ text: String) -> Int32 {
        RemoteShell.writeAll(2, Array("trireme-agent: \(text)\n".utf8))
        return 125
    }

    /// The agent was killed: nobody else on this node knows of the launcher's daemon above us, which
    /// would notice only when its own connections time out.
    private static func endOrphaned(_ environment: [[UInt8]], _ status: Int32) -> Int32 {
        let launchers = ["OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID"]
        if launchers.contains(where: { EnvironmentBlock.value($0, in: environment) != nil }), getppid() > 1 {
            kill(getppid(), SIGTERM)
        }
        return status
    }

    private static func waitForRelease(_ connection: Connection, _ status: Int32) -> Int32 {
        _ = linux_sigprocmask(SIG_SETMASK, 0, nil)
        _ = LocalClient.wait(connection)
        return status
    }

    /// Passes signals on until the rank has ended.
    private static func attend(
        _ pid: pid_t, _ rank: Int, _ connection: Connection, _ relay: PMIRelay?, _ handled: UInt64
    ) -> ExitStatus {
        let transfers = TransferMeter(pid)
        let signals = linux_signalfd(handled, Int32(O_CLOEXEC) | Int32(O_NONBLOCK))
        while true {
            connection.flush()
            // Nothing but its end is expected from the agent while the rank runs.
            if connection.isClosed { kill(-pid, SIGKILL) }
            // A negative descriptor is passed over (poll(2)).
            var slots = [
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(
                    fd: connection.isClosed ? -1 : connection.descriptor.raw,
                    events: Int16(POLLIN | (connection.wantsWrite ? POLLOUT : 0)), revents: 0),
                pollfd(fd: relay?.rankSide ?? -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: relay?.launcherSide ?? -1, events: Int16(POLLIN), revents: 0),
            ]
            let ready = poll(&slots, 4, relay?.timeoutMilliseconds ?? -1)
            if ready > 0, slots[1].revents != 0 { _ = try? connection.receive() }
            if let relay {
                if ready > 0, slots[2].revents != 0 { relay.readRank() }
                if ready > 0, slots[3].revents != 0 { relay.readLauncher() }
                relay.considerRelease(of: pid)
            }
            while let number = nextSignal(signals) {
                guard number == SIGCHLD else {
                    kill(-pid, number)
                    continue
                }
                if let ended = UsageMeter.collect(pid, transfers: { _ in transfers.read() }) {
                    connection.send(.rankUsage(rank: rank, ended.usage))
                    return linux_status_exited(ended.status) != 0
                        ? .exited(linux_status_exit_code(ended.status))
                        : .signaled(linux_status_signal(ended.status))
                }
            }
        }
    }

    private static func nextSignal(_ descriptor: Int32) -> Int32? {
        withUnsafeTemporaryAllocation(byteCount: 128, alignment: 8) { buffer in
            read(descriptor, buffer.baseAddress, 128) == 128 ? buffer.load(as: Int32.self) : nil
        }
    }
}

/// What the agent tells a shim: the node's variables, and what the rank reads and writes.
private struct NodeAnswer {
    var environment: [[UInt8]]
    var size: Int
    var streams: ChildProcess.Streams
    /// Where each rank has a container of its own, that one's plan; else -1.
    private var plan: Int32
    private var store: String

    func container() throws(SyscallError) -> RankContainer {
        guard plan >= 0 else { throw SyscallError("recvmsg", errno: EPROTO) }
        return try RankContainer(RankContainer.content(of: plan), store: store)
    }

    static func receive(_ connection: Connection) -> NodeAnswer? {
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        var descriptors: [Int32] = [-1, -1, -1, -1]
        var count: Int32 = 0
        var slot = pollfd(fd: connection.descriptor.raw, events: Int16(POLLIN), revents: 0)
        while poll(&slot, 1, -1) < 0, errno == EINTR {}
        let n = linux_receive_descriptors(connection.descriptor.raw, &bytes, bytes.count, &descriptors, &count)
        var decoder = FrameDecoder()
        bytes.withUnsafeBytes { decoder.add(UnsafeRawBufferPointer(rebasing: $0[..<max(0, n)])) }
        guard count == 3 || count == 4, let frame = try? decoder.next(), let message = try? WireMessage(frame),
            case .node(let environment, let size, let store) = message
        else { return nil }
        return NodeAnswer(
            environment: environment, size: size,
            streams: ChildProcess.Streams(input: descriptors[0], output: descriptors[1], error: descriptors[2]),
            plan: descriptors[3], store: store)
    }

    func close() {
        for descriptor in [streams.input, streams.output, streams.error, plan] where descriptor >= 0 {
            Glibc.close(descriptor)
        }
    }
}

/// A rank's number, from the variables of whoever started it.
package struct RankPlace: Equatable {
    package var rank: Int
    package var size: Int
    package var localRank: Int

    /// Rank, size and local rank: Open MPI's orted, Hydra (PMI-1), Slurm's pmi2 and pmix plugins.
    private static let names = [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    ]

    package init?(environment: [[UInt8]]) {
        func number(_ name: String) -> Int? { EnvironmentBlock.value(name, in: environment).flatMap(Int.init) }
        for (rankName, sizeName, localName) in Self.names {
            guard let rank = number(rankName), let size = number(sizeName) else { continue }
            self.rank = rank
            self.size = size
            localRank = number(localName) ?? number("SLURM_LOCALID") ?? 0
            return
        }
        return nil
    }

    var variables: [[UInt8]] {
        [
            EnvironmentBlock.entry("TRIREME_RANK", rank), EnvironmentBlock.entry("TRIREME_LOCAL_RANK", localRank),
            EnvironmentBlock.entry("TRIREME_SIZE", size), EnvironmentBlock.entry("RANK", rank),
            EnvironmentBlock.entry("LOCAL_RANK", localRank), EnvironmentBlock.entry("WORLD_SIZE", size),
        ]
    }
}
