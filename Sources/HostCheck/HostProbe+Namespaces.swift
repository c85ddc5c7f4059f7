import CLinux
import Glibc
import LinuxSystem

extension HostProbe {
    func measureNamespaces(_ facts: inout HostFacts) {
        facts.userNamespace = .inChild { () throws(SyscallError) in
            try Self.enterUserNamespace()
            try Self.mount("tmpfs", on: "/tmp", type: "tmpfs")
            try checked("mount_setattr", "/tmp") {
                linux_mount_setattr(AT_FDCWD, "/tmp", 0x8000 /* AT_RECURSIVE */, MountAttribute.readOnly, 0, 0)
            }
        }
        facts.pidNamespace = .inChild { () throws(SyscallError) in
            try Self.enterUserNamespace()
            try checked("unshare", "pid namespace") { linux_unshare(CloneFlags.newPID) }
            try Self.afterFork("mount", "proc on /proc") { () throws(SyscallError) in
                try Self.mount("proc", on: "/proc", type: "proc")
            }
        }
        facts.virtualNetwork = .inChild { () throws(SyscallError) in
            try Self.enterNetworkNamespace()
            try Netlink.addLink(kind: "bridge", name: "trbr0")
            try Netlink.addLink(kind: "veth", name: "trve0")
        }
        facts.renoSelectable = .inChild { () throws(SyscallError) in
            try Self.enterNetworkNamespace()
            let file = try OwnedDescriptor.open("/proc/sys/net/ipv4/tcp_congestion_control", O_WRONLY)
            try file.writeAll("reno")
        }
        facts.noNewPrivileges = .inChild { () throws(SyscallError) in
            try checked("prctl", "no_new_privs") { linux_prctl(ProcessControl.setNoNewPrivileges, 1, 0, 0, 0) }
        }
        facts.seccomp = .inChild { () throws(SyscallError) in
            try checked("prctl", "no_new_privs") { linux_prctl(ProcessControl.setNoNewPrivileges, 1, 0, 0, 0) }
            let code = SeccompProfile.install()
            if code != 0 { throw SyscallError("seccomp", "filter", errno: code) }
        }
    }

    /// A user namespace that maps the caller to itself and a mount namespace in it, as containers have.
    static func enterUserNamespace() throws(SyscallError) {
        let user = geteuid()
        let group = getegid()
        try checked("unshare", "user namespace") { linux_unshare(CloneFlags.newUser) }
        try write("deny", to: "/proc/self/setgroups")
        try write("\(user) \(user) 1", to: "/proc/self/uid_map")
        try write("\(group) \(group) 1", to: "/proc/self/gid_map")
        try checked("unshare", "mount namespace") { linux_unshare(CloneFlags.newMount) }
        try checked("mount", "/ private") {
            linux_mount(nil, "/", nil, MountFlags.recursive | MountFlags.isPrivate, nil)
        }
    }

    static func enterNetworkNamespace() throws(SyscallError) {
        try enterUserNamespace()
        try checked("unshare", "network namespace") { linux_unshare(CloneFlags.newNetwork) }
    }

    static func mount(_ source: String, on target: String, type: String, options: String? = nil) throws(SyscallError) {
        try checked("mount", "\(type) on \(target)") {
            linux_mount(source, target, type, MountFlags.noSetuid | MountFlags.noDevices, options)
        }
    }

    static func write(_ text: String, to path: String) throws(SyscallError) {
        let file = try OwnedDescriptor.open(path, O_WRONLY)
        do { try file.writeAll(text) } catch { throw SyscallError("write", path, errno: error.errno) }
    }

    /// Runs `body`, which is about `call` on `subject`, in a forked child and throws the errno it threw.
    private static func afterFork(
        _ call: StaticString, _ subject: String, _ body: () throws(SyscallError) -> Void
    ) throws(SyscallError) {
        let child = linux_fork()
        if child == 0 {
            do { try body() } catch { _exit(error.errno & 0x7F) }
            _exit(0)
        }
        guard child > 0 else { throw SyscallError("fork", subject) }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 && errno == EINTR {}
        if linux_status_exited(status) == 0 { throw SyscallError(call, subject, errno: EIO) }
        let code = linux_status_exit_code(status)
        if code != 0 { throw SyscallError(call, subject, errno: code) }
    }

    /// Two sibling processes, as two ranks of a node: can one read the other's memory?
    static func trySiblingMemory() -> Attempt {
        .inChild { () throws(SyscallError) in
            // Ranks have no capabilities; with them root would not see what users see.
            try checked("capset") { linux_capset_none() }
            let word = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
            word.pointee = 0x7269_7265_6D65
            let there = UInt64(UInt(bitPattern: word))
            let target = linux_fork()
            if target == 0 {
                while true { pause() }
            }
            guard target > 0 else { throw SyscallError("fork", "sibling") }
            defer { kill(target, SIGKILL) }
            // From a second child: Yama lets an ancestor read in any case.
            try afterFork("process_vm_readv", "sibling") { () throws(SyscallError) in
                var copy: UInt64 = 0
                try checked("process_vm_readv", "sibling") { linux_process_vm_readv(target, &copy, 8, there) }
            }
        }
    }
}

/// As much of rtnetlink(7) as making a link takes.
private enum Netlink {
    /// RTM_NEWLINK with IFLA_IFNAME and IFLA_LINKINFO; a veth gets a peer named by the kernel.
    static func addLink(kind: String, name: String) throws(SyscallError) {
        let socket = OwnedDescriptor(
            owning: try checked("socket", "netlink") { Glibc.socket(AF_NETLINK, 3 | O_CLOEXEC /* SOCK_RAW */, 0) })
        let info = attribute(1, Array(kind.utf8) + [0])  // IFLA_INFO_KIND
        let body = [UInt8](repeating: 0, count: 16) + attribute(3, Array(name.utf8) + [0]) + attribute(18, info)
        // nlmsghdr: length, RTM_NEWLINK, REQUEST|ACK|EXCL|CREATE, sequence, port.
        let message =
            bytes(UInt32(16 + body.count)) + bytes(UInt16(16)) + bytes(UInt16(0x605)) + bytes(UInt64(1)) + body
        var reply = [UInt8](repeating: 0, count: 4096)
        let raw = socket.raw
        try checked("write", "netlink") { Glibc.write(raw, message, message.count) }
        let count = try checked("read", "netlink") { Glibc.read(raw, &reply, reply.count) }
        guard count >= 20 else { throw SyscallError("read", "netlink", errno: EBADMSG) }
        let code = reply.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16, as: Int32.self) }
        if code != 0 { throw SyscallError("netlink", "new \(kind)", errno: -code) }
    }

    private static func attribute(_ type: UInt16, _ value: [UInt8]) -> [UInt8] {
        let padding = [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
        return bytes(UInt16(4 + value.count)) + bytes(type) + value + padding
    }
    private static func bytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
}
