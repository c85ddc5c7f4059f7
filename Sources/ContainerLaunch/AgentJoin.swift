import CLinux
import Glibc
import LinuxSystem

/// What the agent of a job listens on below the user's `MeetingPlace`.
package enum AgentAddress {
    /// For launches of their own that want into the agent's container.
    /// - Parameter key: the job's, letters and digits.
    package static func door(_ key: CString) -> CString { name("agent-", key) }

    /// For ranks' shims where the job has no container.
    package static func service(_ key: CString) -> CString { name("ranks-", key) }

    private static func name(_ start: StaticString, _ key: CString) -> CString {
        var name = ByteBuffer(capacity: MeetingPlace.nameBytes)
        name.append(start)
        var index = 0
        while key[index] != 0, name.count < MeetingPlace.nameBytes {
            name.append(key[index] == slash ? CChar(0x2D) : key[index])
            index += 1
        }
        return name.cString
    }
}

/// Enters the container that a node's agent keeps: its user and mount namespaces, and its control group.
///
/// The agent sends them over its socket, so no file and no pid can be stale. Only a process of the
/// caller's own uid is followed, into the container that the note beside the socket names.
func joinAgent(_ key: CString, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) throws(LaunchFailure) {
    guard let place = MeetingPlace(host) else { throw LaunchFailure(.connectToAgent, key) }
    defer { place.leave() }
    let socket = UnixSocket.make()
    guard socket >= 0 else { throw LaunchFailure(.connectToAgent, key) }
    defer { close(socket) }
    guard place.connect(socket, to: AgentAddress.door(key)) else { throw LaunchFailure(.connectToAgent, key) }
    guard let peer = PeerProcess(behind: socket), let namespaces = ContainerNamespaces.receive(from: socket) else {
        throw LaunchFailure(.joinAgent, key)
    }
    defer { peer.leave() }
    defer { namespaces.closeBoth() }
    // Who is in a container, this one or another, cannot write the note.
    guard namespaces.belongTogether, namespaces.mountNumber == place.note(AgentAddress.door(key)) else {
        throw LaunchFailure(
            .joinAgent, key, detail: c("what its agent's socket answers is not the agent's"), errno: EPERM)
    }
    if peer.number > 0, hasLimitsToJoin(peer.number) { try joinLimits(of: peer.number) }
    guard namespaces.enter() else { throw LaunchFailure(.joinAgent, "setns") }
}

/// Whether the container that `process` made has limits that this process is not under: most have none,
/// and that is seen without `String`.
private func hasLimitsToJoin(_ process: pid_t) -> Bool {
    var path = ByteBuffer(capacity: 64)
    path.append("/proc/")
    path.append(decimal: UInt64(process))
    path.append("/cgroup")
    guard let theirs = smallFile(path.cString), strstr(theirs, c("/trireme-")) != nil else { return false }
    // Where both are in the same groups already, the name is somebody else's.
    if let own = smallFile(c("/proc/self/cgroup")), strcmp(own, theirs) == 0 { return false }
    return true
}

private func joinLimits(of process: pid_t) throws(LaunchFailure) {
    do throws(SyscallError) { try ControlGroup.join(of: process) } catch {
        throw LaunchFailure(
            .applyLimits, "the job's limits", detail: c("this rank cannot enter the container's control group"),
            errno: error.errno)
    }
}
