import CLinux
import Glibc
import LinuxSystem

/// A command that is run to its end for what it prints.
package struct CommandOutput {
    /// What a shell would say: the exit code, or 128 and the signal.
    package var status: Int32
    package var bytes: [UInt8]

    /// How long a command may take, and how much it may say; who oversteps is killed.
    package struct Limit {
        package var milliseconds: Int
        package var bytes: Int
        package init(milliseconds: Int, bytes: Int) {
            self.milliseconds = milliseconds
            self.bytes = bytes
        }
    }

    /// Runs `words` with `input` to read, and this process's standard error.
    ///
    /// - Parameter isQuiet: its messages are thrown away.
    /// - Throws: why it did not start; ETIMEDOUT and EMSGSIZE for a limit.
    package static func of(
        _ words: [String], environment: [[UInt8]] = EnvironmentBlock.current(), input: String = "",
        isQuiet: Bool = false, group: ChildProcess.Group = .callers, limit: Limit
    ) throws(SyscallError) -> CommandOutput {
        // In a file: a command that ends without reading breaks no pipe of ours.
        let source = OwnedDescriptor(owning: try checked("memfd_create") { linux_memfd_create("input", 1) })
        try source.writeAll(input)
        lseek(source.raw, 0, SEEK_SET)
        let null = try OwnedDescriptor.open("/dev/null", O_RDWR)
        var pipe = try OwnedDescriptor.pipe()
        let pid = try ChildProcess.start(
            words.map { Array($0.utf8) }, environment: environment,
            streams: .init(input: source.raw, output: pipe.write.raw, error: isQuiet ? null.raw : -1), group: group,
            deathSignal: 0)
        pipe.write = OwnedDescriptor(owning: -1)
        do throws(SyscallError) {
            // Its end is enough: what it left behind in the background may hold the pipe for ever.
            let ending = OwnedDescriptor(owning: linux_pidfd_open(pid, 0))
            let bytes = try drain(pipe.read, ending, words[0], limit)
            return CommandOutput(status: status(of: pid), bytes: bytes)
        } catch {
            kill(pid, SIGKILL)
            _ = status(of: pid)
            throw error
        }
    }

    private static func drain(
        _ pipe: borrowing OwnedDescriptor, _ ending: borrowing OwnedDescriptor, _ program: String, _ limit: Limit
    ) throws(SyscallError) -> [UInt8] {
        let deadline = MonotonicTime.now() + limit.milliseconds
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while bytes.count <= limit.bytes {
            let left = deadline - MonotonicTime.now()
            guard left > 0 else { throw SyscallError("read", program, errno: ETIMEDOUT) }
            var polled = [pipe.raw, ending.raw].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            guard poll(&polled, 2, Int32(clamping: left)) > 0 else { continue }
            // Both are ready: what it said at last is read first.
            if polled[0].revents == 0 { return bytes }
            let n = read(pipe.raw, &chunk, chunk.count)
            if n < 0, errno == EINTR { continue }
            guard n > 0 else { return bytes }
            bytes += chunk[..<n]
        }
        throw SyscallError("read", program, errno: EMSGSIZE)
    }

    private static func status(of pid: pid_t) -> Int32 {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
    }
}
