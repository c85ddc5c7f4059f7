import CLinux
import ContainerLaunch
import Foundation
import LinuxSystem
import Testing

/// Answers as an agent does (`JoinDoor`), with the namespaces of another process, for as long as it is there.
final class AgentStandIn {
    private let place: MeetingPlace
    private let name: CString
    private let listener: Int32
    private let lock: Int32

    init(_ key: String, process: pid_t) throws {
        place = try #require(MeetingPlace(UnsafePointer(environ)))
        name = AgentAddress.door(strdup(key))
        lock = place.lock(name)
        listener = UnixSocket.make()
        try #require(lock >= 0 && place.bind(listener, to: name) && listen(listener, 16) == 0)
        let raw = listener
        Thread.detachNewThread {
            while true {
                let client = accept(raw, nil, nil)
                if client < 0 { return }
                let both = ["user", "mnt"].map { open("/proc/\(process)/ns/\($0)", O_RDONLY | O_CLOEXEC) }
                _ = linux_send_descriptors(client, "+", 1, both, 2)
                for descriptor in both + [client] { close(descriptor) }
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        place.remove(name)
        close(lock)
    }
}
