import CLinux
import Glibc
import LinuxSystem

/// Enters the container that a node's agent keeps: its user and mount namespaces.
///
/// The agent listens on the abstract socket `trireme/KEY`; its side of the connection
/// names the process (SO_PEERCRED, unix(7)), so no file and no pid can be stale. Only a
/// process of the caller's own uid is followed.
func joinAgent(_ key: CString) throws(LaunchFailure) {
    let socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard socket >= 0 else { throw LaunchFailure(.connectToAgent, key) }
    defer { close(socket) }
    var name = ByteBuffer(capacity: 128)
    name.append("trireme/")
    name.append(key)
    guard linux_unix_abstract(socket, name.bytes, name.count, 1) == 0 else {
        throw LaunchFailure(.connectToAgent, key)
    }
    var process: pid_t = 0
    var user: uid_t = 0
    var group: gid_t = 0
    guard linux_peer_credentials(socket, &process, &user, &group) == 0 else {
        throw LaunchFailure(.connectToAgent, key)
    }
    guard user == geteuid() else { throw LaunchFailure(.connectToAgent, key, errno: EPERM) }
    // 0: the agent is outside this pid namespace and cannot be named.
    guard process > 0 else { throw LaunchFailure(.joinAgent, key, errno: ESRCH) }
    let descriptor = linux_pidfd_open(process, 0)
    guard descriptor >= 0 else { throw LaunchFailure(.joinAgent, key) }
    defer { close(descriptor) }
    if hasLimitsToJoin(process) { try joinLimits(of: process) }
    try joinContainer(of: descriptor)
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

/// Enters the user and mount namespaces of the process behind `pidfd`; its root becomes ours. setns(2)
package func joinContainer(of pidfd: Int32) throws(LaunchFailure) {
    // Until execve(2) this process is trireme in sight of the container's: /proc/PID/exe and
    // its descriptors must not be theirs. Executing the application sets it back.
    _ = linux_prctl(ProcessControl.setDumpable, 0, 0, 0, 0)
    guard linux_setns(pidfd, CloneFlags.newUser | CloneFlags.newMount) == 0 else {
        throw LaunchFailure(.joinAgent, "setns")
    }
}
