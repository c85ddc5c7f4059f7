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
    /// - Parameter more: CLONE_NEW* of further namespaces.
    func createNamespaces(_ more: Int32 = 0) throws(LaunchFailure) {
        guard linux_unshare(CloneFlags.newUser | CloneFlags.newMount | more) == 0 else {
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
///
/// It also closes this process to its neighbours in the container: with no capability left it is one of them,
/// and what runs here is a program of the host (/proc/PID/exe), with the host's files open. Executing the
/// application opens it again.
///
/// - Parameters:
///   - kept: capabilities over this user namespace that uid 0 keeps (`--fakeroot`).
///   - filters: the filter of system calls is installed (`SeccompProfile`).
package func dropPrivileges(keeping kept: UInt64 = 0, filters: Bool = true) throws(LaunchFailure) {
    _ = linux_prctl(ProcessControl.setDumpable, 0, 0, 0, 0)
    guard linux_prctl(ProcessControl.setNoNewPrivileges, 1, 0, 0, 0) == 0 else {
        throw LaunchFailure(.dropPrivileges, "no_new_privs")
    }
    // uid 0 is no way up: everything of securebits(7) set and locked, but keep_caps, which is locked off.
    if kept == 0, linux_prctl(ProcessControl.setSecureBits, 0xEF, 0, 0, 0) != 0 {
        throw LaunchFailure(.dropPrivileges, "securebits")
    }
    var capability: UInt = 0
    // EINVAL marks the first number that the kernel does not know.
    while kept & (1 << UInt64(capability)) != 0
        || linux_prctl(ProcessControl.capabilityBoundingDrop, capability, 0, 0, 0) == 0
    {
        capability += 1
    }
    guard capability > 0 else { throw LaunchFailure(.dropPrivileges, "bounding set") }
    guard
        linux_prctl(ProcessControl.capabilityAmbient, ProcessControl.capabilityAmbientClearAll, 0, 0, 0) == 0
    else { throw LaunchFailure(.dropPrivileges, "ambient set") }
    guard linux_capset(kept) == 0 else { throw LaunchFailure(.dropPrivileges, "capset") }
    if filters {
        let code = SeccompProfile.install()
        guard code == 0 else { throw LaunchFailure(.filterCalls, "seccomp", errno: code) }
    }
}

/// Numbers of capabilities(7) as a set.
enum Capabilities {
    /// chown, dac_override, fowner, fsetid, kill, setgid, setuid, sys_chroot, setfcap: docker's defaults
    /// less those that concern devices, networks and the audit log.
    static let packageManagement: UInt64 =
        1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 18 | 1 << 31
}

/// Maps ranges of ids by newuidmap(1) and newgidmap(1), which may do what the caller may not.
///
/// They must act on this process from outside its new user namespace, so a child is left there before.
struct IdentityHelper {
    private let child: pid_t
    private let trigger: Int32

    /// - Parameters: program and its arguments after the pid, between blanks.
    init(_ uidMap: CString, _ gidMap: CString) throws(LaunchFailure) {
        var ends: [Int32] = [-1, -1]
        guard linux_pipe2(&ends, O_CLOEXEC) == 0 else { throw LaunchFailure(.mapIdentity, "pipe") }
        let target = getpid()
        let pid = linux_fork()
        guard pid >= 0 else { throw LaunchFailure(.mapIdentity, "fork") }
        if pid == 0 {
            close(ends[1])
            var byte: UInt8 = 0
            guard read(ends[0], &byte, 1) == 1 else { _exit(1) }
            let second = linux_fork()
            if second == 0 { Self.become(uidMap, target) }
            var status: Int32 = 0
            guard second > 0, waitpid(second, &status, 0) == second, status == 0 else { _exit(1) }
            Self.become(gidMap, target)
        }
        close(ends[0])
        child = pid
        trigger = ends[1]
    }

    /// Call it inside the new namespace.
    func map() throws(LaunchFailure) {
        var byte: UInt8 = 1
        guard write(trigger, &byte, 1) == 1 else { throw LaunchFailure(.mapIdentity, "newuidmap") }
        close(trigger)
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 {
            if errno != EINTR { throw LaunchFailure(.mapIdentity, "newuidmap") }
        }
        guard status == 0 else {
            throw LaunchFailure(.mapIdentity, "newuidmap", detail: c("subordinate"), errno: EPERM)
        }
    }

    private static func become(_ words: CString, _ target: pid_t) -> Never {
        let vector = CStringVector.allocate(capacity: strlen(words) / 2 + 4)
        var number = ByteBuffer(capacity: 16)
        number.append(decimal: UInt64(target))
        let text = UnsafeMutablePointer(mutating: copied(UnsafeRawBufferPointer(start: words, count: strlen(words))))
        var count = 0
        var at = 0
        while text[at] != 0 {
            vector[count] = text + at
            count += 1
            if count == 1 {
                vector[1] = UnsafeMutablePointer(mutating: number.cString)
                count = 2
            }
            while text[at] != 0, text[at] != 0x20 { at += 1 }
            if text[at] == 0x20 {
                text[at] = 0
                at += 1
            }
        }
        vector[count] = nil
        execve(text, vector, linux_environ())
        _exit(127)
    }
}
