import Glibc
import JobModel
import JobWire
import LinuxSystem
import Processes

/// What an MPI launcher calls instead of ssh: runs a command on another node of the job, in that
/// node's container, through the agents.
///
/// Like ssh(1) it skips leading options (Hydra passes `-x`), joins the words with blanks (they
/// carry shell quotes on purpose) and leaves the rest to the shell on the other side.
package enum RemoteShell {
    static func run(_ words: [[UInt8]]) -> Int32 {
        var words = words
        while let first = words.first, first.first == UInt8(ascii: "-") { words.removeFirst() }
        guard words.count >= 2 else { return complain("usage: HOST COMMAND…", 125) }
        let host = String(decoding: words[0], as: UTF8.self)
        let connection: Connection
        do throws(SyscallError) { connection = try LocalClient.connect() } catch {
            return complain("no agent of a job on this node: \(error.sentence)", 125)
        }
        let line = LauncherEnvironment.daemon(
            commandLine(Array(words.dropFirst())), own: EnvironmentBlock.current())
        let command = RemoteCommand(host: host, line: line)
        connection.send(.remote(channel: 0, command))
        return relay(connection, host)
    }

    /// The words joined; a simple command is `exec`ed so that no shell stays in between and signals reach it.
    package static func commandLine(_ words: [[UInt8]]) -> [UInt8] {
        var line = Array(words.joined(separator: [UInt8(ascii: " ")]))
        while line.first == UInt8(ascii: " ") { line.removeFirst() }
        let compound = Set("|&;<>()$`\n{}".utf8)
        let first = line.prefix { $0 != UInt8(ascii: " ") }
        // An assignment or a builtin in front cannot follow `exec`.
        let isSimple =
            !line.contains(where: compound.contains) && !first.contains(UInt8(ascii: "="))
            && !["cd", "exec", "export", "set", "if", "for", "while", "umask", "ulimit", "test", "[", "!", "."]
                .contains(String(decoding: first, as: UTF8.self))
        return isSimple ? Array("exec ".utf8) + line : line
    }

    private static func complain(_ text: String, _ status: Int32) -> Int32 {
        let line = Array("trireme-agent: \(text)\n".utf8)
        _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
        return status
    }

    /// Passes output on until the command has ended. Nothing is read from standard input (as `ssh -n`):
    /// Hydra leaves its own there, which belongs to rank 0.
    private static func relay(_ connection: Connection, _ host: String) -> Int32 {
        while true {
            let messages = LocalClient.wait(connection)
            if messages.isEmpty { return complain("\(host): the job has ended", 125) }
            for message in messages {
                switch message {
                case .output(_, let stream, let bytes):
                    writeAll(Int32(stream), bytes)
                    connection.send(.taken(channel: 0, count: bytes.count))
                case .exited(_, let status): return status.code
                case .refused(_, let errno, let subject):
                    return complain("\(host): \(subject): \(String(cString: strerror(Int32(errno))))", 125)
                default: break
                }
            }
        }
    }

    static func writeAll(_ descriptor: Int32, _ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let n = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if n > 0 {
                rest = rest.dropFirst(n)
            } else if errno == EAGAIN {
                var slot = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&slot, 1, 1000)
            } else if errno != EINTR {
                return
            }
        }
    }
}
