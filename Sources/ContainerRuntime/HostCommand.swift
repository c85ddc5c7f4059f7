import CLinux
import Glibc
import LinuxSystem

/// A command of the host whose output is read: what only a dynamic program of the host can answer.
final class HostCommand {
    let output: OwnedDescriptor
    private let child: pid_t
    private var isFinished = false

    /// Starts `words[0]`, found in the usual directories, with no input and with its messages thrown away.
    init(_ words: [String]) throws(SyscallError) {
        var ends: [Int32] = [-1, -1]
        try checked("pipe2") { linux_pipe2(&ends, O_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        let arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { arguments.forEach { free($0) } }
        let nothing: [UnsafeMutablePointer<CChar>?] = [nil]
        var started: pid_t = 0
        var code = ENOENT
        for directory in ["/usr/bin/", "/bin/", "/usr/local/bin/"] where code == ENOENT {
            code = posix_spawn(&started, directory + words[0], &actions, nil, arguments, nothing)
        }
        close(ends[1])
        guard code == 0 else {
            close(ends[0])
            throw SyscallError("posix_spawn", words[0], errno: code)
        }
        child = started
        output = OwnedDescriptor(owning: ends[0])
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
