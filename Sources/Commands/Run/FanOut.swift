import Glibc
import LinuxSystem
import NodeAgent
import Processes
import ResourceManagers

/// The commands that start the job's agents, one or one per node, as long as they run.
final class FanOut {
    private(set) var helpers: [HelperProcess] = []
    /// Holds the secret for systems that carry neither environment nor input to the node.
    private var file: String?

    /// - Parameters:
    ///   - secret: of the job, in hexadecimal.
    ///   - secretFile: a path all nodes see, for commands that need one; made here with mode 0600.
    init(_ commands: [FanOutCommand], secret: String, secretFile: String) throws(SyscallError) {
        if commands.contains(where: { $0.secret == .file }) {
            // O_EXCL: nobody may have laid a file of theirs there.
            let made = try OwnedDescriptor.open(secretFile, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
            file = secretFile
            let line = Array((secret + "\n").utf8)
            let written = line.withUnsafeBytes { write(made.raw, $0.baseAddress, $0.count) }
            guard written == line.count else { throw SyscallError("write", secretFile) }
        }
        let plain = EnvironmentBlock.forCommands()
        let withSecret = EnvironmentBlock.merged(
            plain, [EnvironmentBlock.entry(AgentProgram.secretVariable, secret)])
        for command in commands {
            helpers.append(
                try HelperProcess(
                    command.words, environment: command.secret == .environment ? withSecret : plain,
                    input: command.secret == .input ? Array((secret + "\n" + (command.note ?? "")).utf8) : [],
                    isMessage: command.note != nil))
        }
    }

    deinit { removeSecretFile() }

    /// Makes `path` and what is missing above it, for nobody but the user.
    static func makeDirectory(_ path: String) throws(SyscallError) {
        var made = ""
        for part in path.split(separator: "/") {
            made += "/" + part
            if mkdir(made, 0o700) != 0, errno != EEXIST, access(made, F_OK) != 0 { throw SyscallError("mkdir", made) }
        }
    }

    /// Every agent has it.
    func removeSecretFile() {
        if let file { unlink(file) }
        file = nil
    }

    func helper(_ pid: pid_t) -> HelperProcess? { helpers.first { $0.pid == pid } }

    func end(_ number: Int32) { for helper in helpers { helper.end(number) } }

    /// Waits until all have ended, at most `milliseconds`; then sends `signal` to the rest.
    func awaitEnd(milliseconds: Int, signal: Int32 = SIGKILL) {
        let deadline = MonotonicTime.now() + milliseconds
        for helper in helpers {
            while !helper.hasEnded {
                var status: Int32 = 0
                let pid = waitpid(helper.pid, &status, WNOHANG)
                if pid == helper.pid || pid < 0 && errno == ECHILD {
                    helper.hasEnded = true
                } else if MonotonicTime.now() >= deadline {
                    helper.end(signal)
                    break
                } else {
                    usleep(2000)
                }
            }
        }
    }
}
