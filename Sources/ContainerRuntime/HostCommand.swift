import Glibc
import LinuxSystem
import Processes

/// A command of the host whose output is read: what only a dynamic program of the host can answer.
final class HostCommand {
    let output: OwnedDescriptor
    private let child: pid_t
    private var isFinished = false

    /// Starts `words[0]`, found in the usual directories, with no input and with its messages thrown away.
    init(_ words: [String]) throws(SyscallError) {
        let ends = try PipeEnds()
        let source = OwnedDescriptor(owning: ends.read)
        let sink = OwnedDescriptor(owning: ends.write)
        let null = try OwnedDescriptor.open("/dev/null", O_RDWR)
        child = try ChildProcess.start(
            words.map { Array($0.utf8) }, environment: [Array("PATH=/usr/bin:/bin:/usr/local/bin".utf8)],
            streams: .init(input: null.raw, output: sink.raw, error: null.raw), group: .callers, deathSignal: 0)
        output = source
    }

    deinit { _ = finish() }

    /// Waits for its end; whether it succeeded.
    func finish() -> Bool {
        guard !isFinished else { return true }
        isFinished = true
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 { if errno != EINTR { return false } }
        return status == 0
    }
}
