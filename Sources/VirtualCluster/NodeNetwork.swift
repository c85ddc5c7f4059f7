import CLinux
import Glibc
import LinuxSystem

extension ClusterRecord.Node {
    /// A socket that `make` opened in this node's network: sockets stay in the network they were made in, whoever
    /// holds them (network_namespaces(7)). A process of its own goes there and hands it over.
    package func socket(_ make: () throws(SyscallError) -> OwnedDescriptor) throws(SyscallError) -> OwnedDescriptor {
        guard let target = try process.openDescriptor() else {
            throw SyscallError("pidfd_open", "init of \(name)", errno: ESRCH)
        }
        var ends: [Int32] = [-1, -1]
        try checked("socketpair") {
            socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
        }
        defer { close(ends[0]) }
        let namespace = target.release()
        defer { close(namespace) }
        let child = linux_clone(0, nil)
        if child == 0 {
            var code: Int32 = 0
            do throws(SyscallError) {
                try checked("setns", name) {
                    linux_setns(namespace, CloneFlags.newUser | CloneFlags.newNetwork)
                }
                let made = try make()
                _ = linux_send_descriptors(ends[1], &code, 4, [made.release()], 1)
                _exit(0)
            } catch { code = error.errno }
            _ = write(ends[1], &code, 4)
            _exit(1)
        }
        close(ends[1])
        if child < 0 { throw SyscallError("clone3") }
        var code: Int32 = 0
        var received: [Int32] = [-1, -1, -1, -1]
        var count: Int32 = 4
        let n = linux_receive_descriptors(ends[0], &code, 4, &received, &count)
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        guard n == 4, count == 1, code == 0 else {
            throw SyscallError("connect", name, errno: n == 4 && code != 0 ? code : ECONNREFUSED)
        }
        return OwnedDescriptor(owning: received[0])
    }
}
