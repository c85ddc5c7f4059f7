import CLinux
import ContainerLaunch
import Glibc
import JobModel
import JobWire
import LinuxSystem
import Processes

/// One process the agent started, and the pipes to it.
final class AgentProcess {
    let channel: UInt32
    let pid: pid_t
    /// -1 when the process is no rank itself.
    let rank: Int
    /// Those still open.
    var output: [OutputPipe]
    let input: InputPipe
    var status: ExitStatus?
    var exitIsReported = false
    /// What it asked to end with, when it is killed for having called MPI_Abort.
    var abortCode: Int32?
    /// Of a rank.
    private(set) var transfers: TransferMeter?
    /// How much more output it may send before some is taken; nil where nobody counts.
    private var credit: Int?

    /// Starts `launch`. Its outputs become pipes, its input a pipe or /dev/null.
    ///
    /// - Parameters:
    ///   - input: what is for its standard input already.
    ///   - container: what a rank is started in; nil where the agent itself is in the container.
    ///   - terminal: what rank 0 has instead.
    init(
        channel: UInt32, _ launch: Launch, environment: [[UInt8]], container: RankContainer?, input: InputPipe,
        labels: Bool, terminal: AgentTerminal?
    ) throws(SyscallError) {
        let own = try launch.terminal.map { size throws(SyscallError) in try AgentTerminal(size) }
        let streams = try RankStreams(
            takesInput: launch.takesInput, terminal: own ?? (launch.rank == 0 ? terminal : nil))
        var complete = EnvironmentBlock.merged(environment, launch.environment)
        // A rank begins as the image's author meant it, here or in its own container; what starts ranks, and what is
        // sent in by name, does not.
        let arguments =
            launch.rank < 0 || container != nil
            ? launch.arguments
            : behindEnvironmentScripts(launch.arguments, environment: &complete, overrides: launch.environment)
        let before = launch.rank >= 0 ? RankBinding.bind(complete) : nil
        defer { RankBinding.restore(before) }
        let started: Result<pid_t, SyscallError>
        do throws(SyscallError) {
            started = .success(
                try ChildProcess.start(
                    arguments, in: container, own: launch.environment, environment: complete,
                    streams: .init(input: streams.theirs[0], output: streams.theirs[1], error: streams.theirs[2])))
        } catch { started = .failure(error) }
        streams.closeTheirs()
        self.channel = channel
        if launch.hasWindow { credit = ShellSession.windowBytes }
        rank = launch.rank
        self.input = input
        if streams.input >= 0 { input.attach(streams.input) }
        output = streams.outputs(labels && launch.rank >= 0 ? LineLabeler(rank: launch.rank) : nil)
        switch started {
        case .success(let pid):
            self.pid = pid
            if rank >= 0 { transfers = TransferMeter(pid) }
        case .failure(let error):
            pid = -1
            throw error
        }
    }

    /// There may be output that waits for its reader.
    var isHeld: Bool { !output.isEmpty && (credit ?? 1) <= 0 }

    func sent(_ count: Int) { credit = credit.map { $0 - count } }
    func taken(_ count: Int) { credit = credit.map { min(ShellSession.windowBytes, $0 + max(0, count)) } }
}

/// The agent's end of a process's standard input, and what did not fit in yet. The sender's window
/// bounds it.
final class InputPipe {
    /// -1 while the process is not there yet, and when it reads no more.
    private var descriptor: Int32 = -1
    private var pending: [UInt8] = []
    private var hasEnded = false
    private var isBroken = false

    deinit { closeDescriptor() }

    /// The process is there, and `raw`, owned from now on, is what it reads.
    func attach(_ raw: Int32) {
        _ = linux_fcntl_int(raw, F_SETFL, Int(O_NONBLOCK))
        descriptor = raw
    }

    private func closeDescriptor() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    /// What to poll for writing.
    var waiting: Int32? { descriptor >= 0 && !pending.isEmpty ? descriptor : nil }

    /// Takes bytes for the process; empty means end of file.
    func add(_ bytes: [UInt8]) {
        if bytes.isEmpty { hasEnded = true }
        pending += bytes
    }

    /// Writes what the pipe takes; returns how many bytes left us, read or not.
    func flush() -> Int {
        var taken = 0
        while descriptor >= 0, !pending.isEmpty {
            let n = pending.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if n > 0 {
                taken += n
                pending.removeFirst(n)
            } else if n < 0, errno == EINTR {
                continue
            } else if n < 0, errno == EAGAIN {
                return taken
            } else {
                isBroken = true  // nobody reads any more
                closeDescriptor()
            }
        }
        if isBroken {
            taken += pending.count
            pending = []
        } else if hasEnded, descriptor >= 0 {
            closeDescriptor()
            isBroken = true
        }
        return taken
    }
}

/// The agent's end of a process's standard output or error.
final class OutputPipe {
    let stream: Int
    private let descriptor: OwnedDescriptor
    private var labeler: LineLabeler?
    private(set) var isAtEnd = false

    init(owning raw: Int32, stream: Int, labeler: LineLabeler?) {
        _ = linux_fcntl_int(raw, F_SETFL, Int(O_NONBLOCK))
        descriptor = OwnedDescriptor(owning: raw)
        self.stream = stream
        self.labeler = labeler
    }

    var raw: Int32 { descriptor.raw }

    /// What is there, labelled; nil when there is nothing now. At the end of the pipe `isAtEnd` is set.
    func read(into chunk: UnsafeMutableRawBufferPointer) -> [UInt8]? {
        while true {
            let n = Glibc.read(descriptor.raw, chunk.baseAddress, chunk.count)
            if n < 0, errno == EINTR { continue }
            if n < 0, errno == EAGAIN { return nil }
            if n <= 0 {
                isAtEnd = true
                return labeler?.finish()
            }
            let bytes = UnsafeRawBufferPointer(rebasing: chunk[..<n])
            return labeler == nil ? Array(bytes) : labeler!.add(bytes)
        }
    }
}

/// The standard streams of a process to be started: pipes, or for all three a terminal.
struct RankStreams {
    /// Input, output and error as the process gets them.
    let theirs: [Int32]
    /// What is written here is its input; -1 when it has none.
    let input: Int32
    private let sources: [(descriptor: Int32, stream: Int)]
    private let isTerminal: Bool

    init(takesInput: Bool, terminal: AgentTerminal?) throws(SyscallError) {
        isTerminal = terminal != nil
        if let terminal {
            let side = try terminal.side()
            theirs = [side, side, side]
            input = try terminal.copy()
            sources = [(try terminal.copy(), 1)]
            return
        }
        let out = try PipeEnds()
        let err = try PipeEnds()
        let into = try takesInput ? PipeEnds() : PipeEnds(read: open("/dev/null", O_RDONLY | O_CLOEXEC), write: -1)
        theirs = [into.read, out.write, err.write]
        input = into.write
        sources = [(out.read, 1), (err.read, 2)]
    }

    func closeTheirs() { for descriptor in Set(theirs) { close(descriptor) } }

    /// Our ends of what it writes. A terminal's lines are not whole and get no labels.
    func outputs(_ labeler: LineLabeler?) -> [OutputPipe] {
        sources.map { OutputPipe(owning: $0.descriptor, stream: $0.stream, labeler: isTerminal ? nil : labeler) }
    }
}
