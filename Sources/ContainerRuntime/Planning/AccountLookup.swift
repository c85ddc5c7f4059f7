import Glibc
import LinuxSystem

/// The system's account databases, asked by getent(1): a directory service (LDAP, SSSD) is reached by
/// modules that a static program cannot load, and a wrong one would crash it.
enum AccountLookup {
    /// The fields of the line with `number` in `database` (`passwd` or `group`); nil when there is none.
    static func fields(_ database: String, _ number: UInt32) -> [String]? {
        let text = asked(database, number) ?? fileLine("/etc/" + database, number)
        return text?.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    }

    private static func fileLine(_ path: String, _ number: UInt32) -> String? {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY), let bytes = try? file.readAll(limit: 16 << 20)
        else {
            return nil
        }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            if fields.count > 2, fields[2] == "\(number)" { return String(line) }
        }
        return nil
    }

    private static func asked(_ database: String, _ number: UInt32) -> String? {
        guard let command = try? HostCommand(["getent", database, "\(number)"]),
            let bytes = try? command.output.readAll(limit: 1 << 16), command.finish(),
            let line = bytes.split(separator: 10).first
        else { return nil }
        return String(decoding: line, as: UTF8.self)
    }
}
