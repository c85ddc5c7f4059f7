import Glibc
import LinuxSystem

/// This process's line in the container's passwd(5). Read here: the agent is a static program, and the C library's
/// own look-up would load modules of another one.
package struct ShellAccount: Equatable, Sendable {
    package var name: String
    package var shell: String

    package init?(uid: UInt32, passwd: [UInt8]) {
        for line in passwd.split(separator: UInt8(ascii: "\n")) {
            let fields = line.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false).map {
                String(decoding: $0, as: UTF8.self)
            }
            guard fields.count >= 7, fields[2] == "\(uid)" else { continue }
            name = fields[0]
            shell = fields[6]
            return
        }
        return nil
    }

    static func own() -> ShellAccount? {
        guard let file = try? OwnedDescriptor.open("/etc/passwd", O_RDONLY),
            let text = try? file.readAll(limit: 1 << 20)
        else { return nil }
        return ShellAccount(uid: geteuid(), passwd: text)
    }

    /// Its shell where the image has that, else /bin/sh.
    static func shell(of account: ShellAccount?) -> String {
        guard let shell = account?.shell, shell.hasPrefix("/"), access(shell, X_OK) == 0 else { return "/bin/sh" }
        return shell
    }
}
