import CLinux
import ContainerLaunch
import Glibc
import LinuxSystem

/// Where launches of their own (`--model rank`) ask for the container that this agent keeps: each is answered
/// with its namespaces.
///
/// The socket lies in a directory of the user's on the host (`MeetingPlace`), out of the reach of what runs in
/// the container: nobody there can answer in the agent's place once it has ended.
final class JoinDoor {
    private let socket: OwnedDescriptor
    private(set) var listener: RestingListener
    private let place: MeetingPlace
    private let name: CString
    private let lock: OwnedDescriptor
    private var namespaces: ContainerNamespaces?

    /// Takes the name; outside of the container.
    init(key: String) throws(AgentFailure) {
        name = AgentAddress.door(key)
        guard let place = MeetingPlace(UnsafePointer(linux_environ())) else { throw .noPlaceForSockets }
        let lock = place.lock(name)
        guard lock >= 0 else { throw AgentFailure(step: "lock", subject: String(cString: name)) }
        self.place = place
        self.lock = OwnedDescriptor(owning: lock)
        let socket = UnixSocket.make(isBlocking: false)
        guard socket >= 0 else { throw AgentFailure(step: "socket", subject: String(cString: name)) }
        self.socket = OwnedDescriptor(owning: socket)
        listener = RestingListener(socket)
        guard place.bind(socket, to: name) else { throw AgentFailure(step: "bind", subject: String(cString: name)) }
    }

    /// Inside: who comes from now on is let in.
    func open() throws(AgentFailure) {
        namespaces = ContainerNamespaces.own()
        guard let number = namespaces?.mountNumber, MeetingPlace.write(note: number, to: lock.raw),
            listen(socket.raw, 1024) == 0
        else {
            throw AgentFailure(step: "listen", subject: String(cString: name))
        }
    }

    func answer() {
        while true {
            let client = listener.accept()
            if client < 0 { return }
            _ = namespaces?.send(to: client)
            close(client)
        }
    }

    deinit { place.remove(name) }
}
