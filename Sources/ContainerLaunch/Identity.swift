import CLinux
import Glibc
import LinuxSystem

/// The caller's uid and gid, and what they are shown as inside.
struct Identity {
    let callerUID = geteuid()
    let callerGID = getegid()

    /// New user and mount namespaces in one call: the mounts copied into a namespace of
    /// another user namespace become slaves of the host's (mount_namespaces(7)), so nothing
    /// done here reaches the host, and what the host mounts later (autofs homes) still
    /// arrives. That is why there is no `MS_PRIVATE` pass over `/`.
    func createNamespaces() throws(LaunchFailure) {
        guard linux_unshare(CloneFlags.newUser | CloneFlags.newMount) == 0 else {
            throw LaunchFailure(.createNamespaces, "unshare")
        }
    }

    /// Maps the caller onto `uid` and `gid` inside. setgroups must be denied before
    /// an unprivileged gid map (user_namespaces(7)).
    func map(toUID uid: UInt32, gid: UInt32) throws(LaunchFailure) {
        try write("/proc/self/setgroups", c("deny"), 4)
        var line = ByteBuffer(capacity: 64)
        Self.append(uid, callerUID, to: &line)
        try write("/proc/self/uid_map", line.cString, line.count)
        line.truncate(to: 0)
        Self.append(gid, callerGID, to: &line)
        try write("/proc/self/gid_map", line.cString, line.count)
    }

    private static func append(_ inside: UInt32, _ outside: UInt32, to line: inout ByteBuffer) {
        line.append(decimal: UInt64(inside))
        line.append(CChar(0x20))
        line.append(decimal: UInt64(outside))
        line.append(" 1")
    }

    private func write(_ path: StaticString, _ text: CString, _ length: Int) throws(LaunchFailure) {
        let descriptor = open(c(path), O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw LaunchFailure(.mapIdentity, path) }
        defer { close(descriptor) }
        guard Glibc.write(descriptor, text, length) == length else {
            throw LaunchFailure(.mapIdentity, path, detail: callerUID == 0 ? c("uid 0") : nil)
        }
    }
}

/// Gives up everything that could gain a privilege back. The order matters: the bounding
/// set can only be lowered while CAP_SETPCAP is still held (capabilities(7)), and
/// no_new_privs comes first so that no failure after it leaves a way up.
package func dropPrivileges() throws(LaunchFailure) {
    guard linux_prctl(ProcessControl.setNoNewPrivileges, 1, 0, 0, 0) == 0 else {
        throw LaunchFailure(.dropPrivileges, "no_new_privs")
    }
    var capability: UInt = 0
    // EINVAL marks the first number that the kernel does not know.
    while linux_prctl(ProcessControl.capabilityBoundingDrop, capability, 0, 0, 0) == 0 { capability += 1 }
    guard capability > 0 else { throw LaunchFailure(.dropPrivileges, "bounding set") }
    guard
        linux_prctl(ProcessControl.capabilityAmbient, ProcessControl.capabilityAmbientClearAll, 0, 0, 0) == 0
    else { throw LaunchFailure(.dropPrivileges, "ambient set") }
    guard linux_capset_none() == 0 else { throw LaunchFailure(.dropPrivileges, "capset") }
}
