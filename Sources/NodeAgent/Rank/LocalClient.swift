import CLinux
import ContainerLaunch
import Glibc
import JobWire
import LinuxSystem

/// A connection to the agent of this node, for the shim and the remote shell.
enum LocalClient {
    /// - Parameter isOutside: this process is in no container of the job, though perhaps in another one.
    static func connect(isOutside: Bool = false) throws(SyscallError) -> Connection {
        guard let key = getenv("TRIREME_AGENT").map({ String(cString: $0) }) ?? ShellPlace.key() else {
            throw SyscallError("connect", "TRIREME_AGENT", errno: ENOENT)
        }
        let raw = try checked("socket") { UnixSocket.make() }
        let socket = OwnedDescriptor(owning: raw)
        if isOutside {
            try connectOutside(raw, key, errno: ENOENT)
        } else if !UnixSocket.connect(raw, to: LocalService.path) {
            try connectOutside(raw, key, errno: errno)
        }
        _ = linux_fcntl_int(raw, F_SETFL, Int(O_NONBLOCK))
        return Connection(socket)
    }

    /// The agent of a job without a container.
    private static func connectOutside(_ socket: Int32, _ key: String, errno code: Int32) throws(SyscallError) {
        guard code == ENOENT, let place = MeetingPlace(UnsafePointer(linux_environ())) else {
            throw SyscallError("connect", LocalService.path, errno: code)
        }
        try checked("connect", "the job's agent on this node") {
            place.connect(socket, to: AgentAddress.service(key)) ? 0 : -1
        }
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
