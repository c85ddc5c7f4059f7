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
/// caller's own uid is followed.
func joinAgent(_ key: CString, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) throws(LaunchFailure) {
    guard let place = MeetingPlace(host) else { throw LaunchFailure(.connectToAgent, key) }
    defer { place.leave() }
    let socket = UnixSocket.make()
    guard socket >= 0 else { throw LaunchFailure(.connectToAgent, key) }
    defer { close(socket) }
    guard place.connect(socket, to: AgentAddress.door(key)) else { throw LaunchFailure(.connectToAgent, key) }
    var process: pid_t = 0
    var user: uid_t = 0
    var group: gid_t = 0
    guard linux_peer_credentials(socket, &process, &user, &group) == 0,
        let namespaces = ContainerNamespaces.receive(from: socket)
    else { throw LaunchFailure(.joinAgent, key) }
    defer { namespaces.closeBoth() }
    if process > 0, hasLimitsToJoin(process) { try joinLimits(of: process) }
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

/// The beginning of a file of the proc file system, nil when it cannot be read.
private func smallFile(_ path: CString) -> CString? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    let text = UnsafeMutablePointer<CChar>.allocate(capacity: 16384)
    let length = read(file, text, 16383)
    guard length > 0 else { return nil }
    text[length] = 0
    return CString(text)
}
