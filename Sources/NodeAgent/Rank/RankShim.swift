import CLinux
import Glibc
import JobModel
import LinuxSystem

/// Stands between a launcher and one rank: `mpirun -np N /.trireme/agent --rank -- CMD`.
///
/// It learns its rank from the launcher's variables, sets trireme's, starts the rank in a process
/// group of its own, tells the node's agent how it started and ended, labels its lines and passes
/// signals on. A rank that failed is reported before its launcher can notice: the shim then waits
/// for the agent's word, so that the first failure is known and the others get their grace, which
/// launchers would cut short. If the shim is killed its rank dies with it.
enum RankShim {
    static func run(_ command: [[UInt8]]) -> Int32 {
        let host = EnvironmentBlock.current()
        guard let place = RankPlace(environment: host) else {
            return complain("no rank in the environment: is this started by mpirun, mpiexec or srun?")
        }
        let connection: Connection
        do throws(SyscallError) { connection = try LocalClient.connect() } catch {
            return complain("rank \(place.rank): no agent of the job on this node: \(error.sentence)")
        }
        connection.send(.rankJoining(rank: place.rank))
        guard case .node(let variables, let size, let labels)? = LocalClient.wait(connection).first else {
            return complain("rank \(place.rank): the job has ended")
        }
        guard place.size == size else {
            connection.send(
                .rankRefused(rank: place.rank, errno: 0, reason: "was started as one of \(place.size), not of \(size)"))
            return waitForRelease(connection, 125)
        }
        let environment = EnvironmentBlock.merged(host, variables + place.variables)
        let handled = handledSignals.reduce(UInt64(0)) { $0 | 1 << UInt64($1 - 1) }
        _ = linux_sigprocmask(SIG_BLOCK, handled, nil)
        _ = linux_prctl(ProcessControl.setParentDeathSignal, UInt(SIGKILL), 0, 0, 0)
        var streams: RankStreams
        let pid: pid_t
        do throws(SyscallError) {
            streams = try RankStreams(labelsRank: labels ? place.rank : nil)
            pid = try Spawn.start(command, environment: environment, streams: streams.forChild)
        } catch {
            let subject = String(decoding: command.first ?? [], as: UTF8.self)
            connection.send(.rankRefused(rank: place.rank, errno: Int(error.errno), reason: subject))
            return waitForRelease(connection, error.errno == ENOENT || error.errno == ENOTDIR ? 127 : 126)
        }
        streams.closeChildSide()
        connection.send(.rankStarted(rank: place.rank, size: place.size, pid: Int(pid)))
        connection.flush()
        let status = attend(pid, connection, &streams, handled)
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

    private static func waitForRelease(_ connection: Connection, _ status: Int32) -> Int32 {
        _ = linux_sigprocmask(SIG_SETMASK, 0, nil)
        _ = LocalClient.wait(connection)
        return status
    }

    /// Passes signals and lines on until the rank has ended.
    private static func attend(
        _ pid: pid_t, _ connection: Connection, _ streams: inout RankStreams, _ handled: UInt64
    ) -> ExitStatus {
        let signals = linux_signalfd(handled, Int32(O_CLOEXEC) | Int32(O_NONBLOCK))
        var ended: ExitStatus?
        while true {
            if let ended {
                // What the rank wrote is in the pipes already; a background child of it may hold them open for ever.
                streams.forwardRest(to: connection)
                return ended
            }
            connection.flush()
            var slots = [
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                // A negative descriptor is passed over (poll(2)): nothing to write, nothing to wait for.
                pollfd(
                    fd: connection.wantsWrite ? connection.descriptor.raw : -1, events: Int16(POLLOUT), revents: 0),
            ]
            // A reader that is slow holds the rank back, not our memory.
            if !connection.isCongested {
                slots += streams.readEnds.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            }
            guard poll(&slots, nfds_t(slots.count), -1) > 0 else { continue }
            for slot in slots.dropFirst(2) where slot.revents != 0 { streams.forward(slot.fd, to: connection) }
            while let number = nextSignal(signals) {
                guard number == SIGCHLD else {
                    kill(-pid, number)
                    continue
                }
                var status: Int32 = 0
                if waitpid(pid, &status, WNOHANG) == pid {
                    ended =
                        linux_status_exited(status) != 0
                        ? .exited(linux_status_exit_code(status)) : .signaled(linux_status_signal(status))
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

/// A rank's number, from the variables of whoever started it.
struct RankPlace: Equatable {
    var rank: Int
    var size: Int
    var localRank: Int

    /// Rank, size and local rank: Open MPI's orted, Hydra (PMI-1), Slurm's pmi2 and pmix plugins.
    private static let names = [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    ]

    init?(environment: [[UInt8]]) {
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
            EnvironmentBlock.entry("TRIREME_SIZE", size),
        ]
    }
}

/// The rank's output streams: pipes that the shim empties into its connection to the agent.
///
/// They do not take the launcher's way, so what ranks say and what the launcher says stay apart.
private struct RankStreams {
    private struct Pipe {
        var ends: PipeEnds
        var stream: Int
        var labeler: LineLabeler?
    }
    private var pipes: [Pipe] = []

    init(labelsRank rank: Int?) throws(SyscallError) {
        for stream in [1, 2] {
            let ends = try PipeEnds.make()
            _ = linux_fcntl_int(ends.read, F_SETFL, Int(O_NONBLOCK))
            pipes.append(Pipe(ends: ends, stream: stream, labeler: rank.map { LineLabeler(rank: $0) }))
        }
    }

    var forChild: Spawn.Streams { Spawn.Streams(output: pipes[0].ends.write, error: pipes[1].ends.write) }
    mutating func closeChildSide() { for pipe in pipes { close(pipe.ends.write) } }
    var readEnds: [Int32] { pipes.map(\.ends.read) }

    /// Passes on what is there, at most once around; false at the end of the pipe or when nothing is there.
    @discardableResult
    mutating func forward(_ descriptor: Int32, to connection: Connection) -> Bool {
        guard let index = pipes.firstIndex(where: { $0.ends.read == descriptor }) else { return false }
        return withUnsafeTemporaryAllocation(byteCount: 32 << 10, alignment: 8) { buffer in
            let n = read(descriptor, buffer.baseAddress, buffer.count)
            if n < 0 { return false }
            let stream = pipes[index].stream
            if n == 0 {
                let rest = pipes[index].labeler?.finish() ?? []
                if !rest.isEmpty { connection.send(.output(channel: 0, stream: stream, bytes: rest)) }
                close(descriptor)
                pipes.remove(at: index)
                return false
            }
            let bytes = pipes[index].labeler == nil ? Array(buffer[..<n]) : pipes[index].labeler!.add(buffer[..<n])
            if !bytes.isEmpty { connection.send(.output(channel: 0, stream: stream, bytes: bytes)) }
            return true
        }
    }

    mutating func forwardRest(to connection: Connection) {
        for descriptor in readEnds {
            while forward(descriptor, to: connection) { if connection.isCongested { LocalClient.drain(connection) } }
        }
        for index in pipes.indices {
            let rest = pipes[index].labeler?.finish() ?? []
            if !rest.isEmpty { connection.send(.output(channel: 0, stream: pipes[index].stream, bytes: rest)) }
        }
    }
}
