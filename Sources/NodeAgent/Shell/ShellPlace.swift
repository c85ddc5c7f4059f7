import Glibc
import LinuxSystem
import Processes

/// Where `ssh` and `rsh` are in a job's container: links to the agent's own program, found first.
package enum ShellPlace {
    static let directory = ContainerPreparation.directory + "/bin"
    /// The agent's key, for those who have lost their environment (`env -i`).
    static let keyFile = ContainerPreparation.directory + "/key"

    /// Call inside the container.
    static func make(key: String) throws(AgentFailure) {
        guard mkdir(directory, 0o755) == 0 || errno == EEXIST else {
            throw AgentFailure(step: "mkdir", subject: directory)
        }
        for program in [ShellArguments.Program.ssh, .rsh] {
            let link = directory + "/" + program.rawValue
            guard symlink("../agent", link) == 0 || errno == EEXIST else {
                throw AgentFailure(step: "symlink", subject: link)
            }
        }
        let file = open(keyFile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw AgentFailure(step: "open", subject: keyFile) }
        RemoteShell.writeAll(file, Array(key.utf8))
        close(file)
    }

    static func key() -> String? {
        guard let file = try? OwnedDescriptor.open(keyFile, O_RDONLY), let text = try? file.readAll(limit: 256) else {
            return nil
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Whether this job's containers have them.
    static var isThere: Bool { access(directory, X_OK) == 0 }

    /// `block` with our directory in front of its PATH, once.
    package static func environment(_ block: [[UInt8]]) -> [[UInt8]] {
        let name = Array("PATH=".utf8)
        let ours = Array(directory.utf8)
        let found = block.last { $0.starts(with: name) }.map { $0.dropFirst(name.count) }
        let path = found ?? Array("/usr/local/bin:/usr/bin:/bin".utf8)[...]
        if path.split(separator: UInt8(ascii: ":")).first.map(Array.init) == ours { return block }
        return EnvironmentBlock.merged(block, [name + ours + [UInt8(ascii: ":")] + path])
    }
}
