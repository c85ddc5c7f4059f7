import CLinux
import Glibc
import LinuxSystem

/// A connection to the agent of this node, for the shim and the remote shell.
enum LocalClient {
    static func connect() throws(SyscallError) -> Connection {
        guard let key = getenv("TRIREME_AGENT").map({ String(cString: $0) }) ?? ShellPlace.key() else {
            throw SyscallError("connect", "TRIREME_AGENT", errno: ENOENT)
        }
        let name = Array("trireme/\(key)".utf8)
        let raw = try checked("socket") {
            Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        }
        let socket = OwnedDescriptor(owning: raw)
        try checked("connect", String(decoding: name, as: UTF8.self)) {
            linux_unix_abstract(raw, name.map { CChar(bitPattern: $0) }, name.count, 1)
        }
        _ = linux_fcntl_int(raw, F_SETFL, Int(O_NONBLOCK))
        return Connection(socket)
    }

    /// Writes everything, or gives up when the agent is gone.
    static func drain(_ connection: Connection) {
        connection.flush()
        while connection.wantsWrite {
            var slot = pollfd(fd: connection.descriptor.raw, events: Int16(POLLOUT), revents: 0)
            poll(&slot, 1, -1)
            connection.flush()
        }
    }

    /// Waits for the next messages; empty when the agent is gone.
    static func wait(_ connection: Connection) -> [WireMessage] {
        while !connection.isClosed {
            connection.flush()
            var slot = pollfd(fd: connection.descriptor.raw, events: Int16(POLLIN), revents: 0)
            if connection.wantsWrite { slot.events |= Int16(POLLOUT) }
            guard poll(&slot, 1, -1) > 0 else { continue }
            do throws(WireFailure) {
                let messages = try connection.receive()
                if !messages.isEmpty { return messages }
            } catch { return [] }
        }
        return []
    }
}
