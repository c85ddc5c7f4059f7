import CLinux
import Glibc
import LinuxSystem

/// One daemon of a node as the node's init last saw it.
package struct ServiceStatus: Equatable, Sendable {
    package var service: ClusterService
    /// Its pid in the node's pid namespace.
    package var pid: Int32
    /// Its wait status (wait(2)) once it ended.
    package var endStatus: Int32?

    package init(service: ClusterService, pid: Int32, endStatus: Int32?) {
        self.service = service
        self.pid = pid
        self.endStatus = endStatus
    }

    /// `slurmd 17` while it runs, `slurmd 17 256` with its wait status afterwards.
    package var line: String { "\(service.name) \(pid)" + (endStatus.map { " \($0)" } ?? "") }

    /// nil for a line that is not one.
    package init?(line: some StringProtocol) {
        let words = line.split(separator: " ")
        guard words.count >= 2, let service = ClusterService.allCases.first(where: { $0.name == words[0] }),
            let pid = Int32(words[1])
        else { return nil }
        self.init(service: service, pid: pid, endStatus: words.count > 2 ? Int32(words[2]) : nil)
    }

    /// `up`, `exited 1`, `killed by signal 9`.
    package var words: String { endStatus.map(Self.words(endStatus:)) ?? "up" }

    package static func words(endStatus: Int32) -> String {
        linux_status_signaled(endStatus) != 0
            ? "killed by signal \(linux_status_signal(endStatus))" : "exited \(linux_status_exit_code(endStatus))"
    }
}

/// Which TCP ports are listened on in this network namespace, from proc_net(5):
/// looking costs a read, where a trial connection would land in the daemon's log.
enum ListeningPorts {
    static func contains(_ port: UInt16) -> Bool {
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].contains { path in
            guard let file = try? OwnedDescriptor.open(path, O_RDONLY), let bytes = try? file.readAll() else {
                return false
            }
            return listens(table: String(decoding: bytes, as: UTF8.self), port: port)
        }
    }

    /// Column 2 is `address:port` in hexadecimal, column 4 the state; 0A is LISTEN.
    static func listens(table: String, port: UInt16) -> Bool {
        let digits = String(port, radix: 16, uppercase: true)
        let wanted = ":" + String(repeating: "0", count: 4 - digits.count) + digits
        return table.split(separator: "\n").dropFirst().contains { line in
            let words = line.split(separator: " ", maxSplits: 4)
            return words.count > 3 && words[3] == "0A" && words[1].hasSuffix(wanted)
        }
    }
}

/// Whether munged takes requests, by the same way of looking.
enum MungeSocket {
    private static let path = "/run/munge/munge.socket.2"

    static var accepts: Bool {
        guard let file = try? OwnedDescriptor.open("/proc/self/net/unix", O_RDONLY), let bytes = try? file.readAll()
        else { return false }
        return listens(table: String(decoding: bytes, as: UTF8.self), path: path)
    }

    /// Column 4 holds the flags, 00010000 is `__SO_ACCEPTCON`; the last is the path. unix(7)
    static func listens(table: String, path: String) -> Bool {
        table.split(separator: "\n").contains { line in
            let words = line.split(separator: " ")
            return words.count > 7 && words[3] == "00010000" && words[7] == path
        }
    }
}

/// An argument vector for execve(2), made before it is needed and leaked by the exec.
enum CommandVector {
    /// Returns only on failure, with errno set.
    /// - Parameter path: the program's file; nil is the first argument.
    static func execute(_ arguments: [String], at path: String? = nil, environment: [String]) {
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
        execve(path ?? arguments[0], &argv, &envp)
    }
}
