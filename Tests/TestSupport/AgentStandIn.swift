import CLinux
import ContainerLaunch
import Foundation
import LinuxSystem

/// A container that launches of their own find as they find a node agent's (`--join-agent KEY`): a launch of
/// `probe listen`, and in the agent's place (`JoinDoor`) a thread that answers with its namespaces.
package final class AgentStandIn {
    private let container = Process()
    private let place: MeetingPlace
    private let name: CString
    private let listener: Int32
    private let lock: Int32

    package enum Failure: Error { case noPlace, notListening, nameTaken, notNoted }

    /// - Parameters:
    ///   - options: of the container's `trireme run`.
    ///   - image: in the store, with a `probe`.
    package init(_ key: String, options: [String], image: String, store: String, home: String) throws {
        guard let place = MeetingPlace(UnsafePointer(linux_environ())) else { throw Failure.noPlace }
        self.place = place
        name = AgentAddress.door(strdup(key))
        container.executableURL = URL(fileURLWithPath: try Programs.path("trireme"))
        container.arguments = ["run"] + options + [image, "probe", "listen", key]
        container.environment = ["TRIREME_STORE": store, "HOME": home]
        container.currentDirectoryURL = URL(fileURLWithPath: home)
        let output = Pipe()
        container.standardOutput = output
        lock = place.lock(name)
        listener = UnixSocket.make()
        guard lock >= 0, place.bind(listener, to: name), listen(listener, 16) == 0 else { throw Failure.nameTaken }
        try container.run()
        guard output.fileHandleForReading.availableData == Data("listening\n".utf8) else { throw Failure.notListening }
        let (raw, process) = (listener, pid)
        var status = stat()
        guard stat("/proc/\(process)/ns/mnt", &status) == 0,
            MeetingPlace.write(note: UInt64(status.st_ino), to: lock)
        else { throw Failure.notNoted }
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

    package var pid: pid_t { container.processIdentifier }

    /// What /proc/PID/ns/`kind` says of the container.
    package func namespace(_ kind: String) throws -> String {
        try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/\(kind)")
    }

    /// Nobody answers any more; the container stays.
    package func closeDoor() {
        shutdown(listener, Int32(SHUT_RDWR))
        place.remove(name)
    }

    deinit {
        closeDoor()
        close(listener)
        close(lock)
        if container.isRunning { kill(pid, SIGKILL) }
    }
}
