import CLinux
import Glibc
import JobModel
import LinuxSystem

/// One process the agent started, and the pipes to it.
final class AgentProcess {
    let channel: UInt32
    let pid: pid_t
    /// -1 when the process is no rank itself.
    let rank: Int
    /// Those still open.
    var output: [OutputPipe]
    private var input: Int32
    private var pendingInput: [UInt8] = []
    private var inputEnded: Bool
    var status: ExitStatus?
    var exitIsReported = false

    /// Starts `launch`. Its outputs become pipes, its input a pipe or /dev/null.
    init(channel: UInt32, _ launch: Launch, environment: [[UInt8]], labels: Bool) throws(SyscallError) {
        let out = try PipeEnds.make()
        let err = try PipeEnds.make()
        var input = PipeEnds(read: Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC), write: -1)
        if launch.takesInput {
            close(input.read)
            input = try PipeEnds.make()
        }
        let started: Result<pid_t, SyscallError>
        do throws(SyscallError) {
            started = .success(
                try Spawn.start(
                    launch.arguments, environment: EnvironmentBlock.merged(environment, launch.environment),
                    streams: .init(input: input.read, output: out.write, error: err.write)))
        } catch { started = .failure(error) }
        close(out.write)
        close(err.write)
        close(input.read)
        self.channel = channel
        rank = launch.rank
        self.input = input.write
        inputEnded = input.write < 0
        let labeler = labels && launch.rank >= 0 ? LineLabeler(rank: launch.rank) : nil
        output = [
            OutputPipe(owning: out.read, stream: 1, labeler: labeler),
            OutputPipe(owning: err.read, stream: 2, labeler: labeler),
        ]
        if input.write >= 0 { _ = linux_fcntl_int(input.write, F_SETFL, Int(O_NONBLOCK)) }
        switch started {
        case .success(let pid): self.pid = pid
        case .failure(let error):
            pid = -1
            closeAll()
            throw error
        }
    }

    deinit { closeAll() }

    private func closeAll() {
        output = []
        closeInput()
    }
    private func closeInput() {
        if input >= 0 { close(input) }
        input = -1
    }

    var wantsInput: Int32? { input >= 0 && !pendingInput.isEmpty ? input : nil }

    /// Takes bytes for the process; empty means end of file.
    func addInput(_ bytes: [UInt8]) {
        if bytes.isEmpty { inputEnded = true }
        pendingInput += bytes
    }

    /// Writes what the pipe takes; returns how many bytes left us, read or not.
    func flushInput() -> Int {
        var taken = 0
        while input >= 0, !pendingInput.isEmpty {
            let n = pendingInput.withUnsafeBytes { Glibc.write(input, $0.baseAddress, $0.count) }
            if n > 0 {
                taken += n
                pendingInput.removeFirst(n)
            } else if n < 0, errno == EINTR {
                continue
            } else if n < 0, errno == EAGAIN {
                return taken
            } else {
                closeInput()  // nobody reads any more
            }
        }
        if input < 0 {
            taken += pendingInput.count
            pendingInput = []
        } else if inputEnded {
            closeInput()
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

/// Both ends of a pipe as plain numbers: the child inherits one, the agent keeps the other.
struct PipeEnds {
    var read: Int32
    var write: Int32
    static func make() throws(SyscallError) -> PipeEnds {
        var ends: [Int32] = [-1, -1]
        try checked("pipe2") { linux_pipe2(&ends, O_CLOEXEC) }
        return PipeEnds(read: ends[0], write: ends[1])
    }
}
