import CLinux
import Glibc
import LinuxSystem

/// IPv4 stream sockets, non-blocking and close-on-exec (tcp(7)).
package enum TCPSocket {
    private static func make() throws(SyscallError) -> OwnedDescriptor {
        OwnedDescriptor(
            owning: try checked("socket") {
                socket(
                    AF_INET,
                    Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            })
    }

    private static func setOption(_ descriptor: Int32, _ level: Int32, _ option: Int32) {
        var one: Int32 = 1
        setsockopt(descriptor, level, option, &one, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func address(_ host: String, _ port: UInt16) -> sockaddr_in? {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        return inet_pton(AF_INET, host, &address.sin_addr) == 1 ? address : nil
    }

    private static func withAddress<R>(
        _ address: sockaddr_in, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    package struct Listener: ~Copyable {
        private var descriptor: OwnedDescriptor
        package consuming func takeDescriptor() -> OwnedDescriptor { descriptor }
        package let port: UInt16
        fileprivate init(_ descriptor: consuming OwnedDescriptor, port: UInt16) {
            self.descriptor = descriptor
            self.port = port
        }
    }

    /// Listens on all addresses. `port` 0 lets the kernel choose; the number comes back.
    package static func listen(port: UInt16) throws(SyscallError) -> Listener {
        let descriptor = try make()
        let raw = descriptor.raw
        setOption(raw, SOL_SOCKET, SO_REUSEADDR)
        let any = address("0.0.0.0", port)!
        try checked("bind", "port \(port)") { withAddress(any) { bind(raw, $0, $1) } }
        try checked("listen", "port \(port)") { Glibc.listen(raw, 1024) }
        var bound = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &bound) {
            _ = $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(raw, $0, &size) }
        }
        return Listener(descriptor, port: UInt16(bigEndian: bound.sin_port))
    }

    /// - Parameter target: `ADDRESS:PORT`.
    package static func connect(_ target: String, milliseconds: Int32) throws(SyscallError) -> OwnedDescriptor {
        let parts = target.split(separator: ":")
        guard parts.count == 2, let port = UInt16(parts[1]), let there = address(String(parts[0]), port) else {
            throw SyscallError("connect", target, errno: EINVAL)
        }
        let descriptor = try make()
        let raw = descriptor.raw
        setOption(raw, Int32(IPPROTO_TCP), TCP_NODELAY)
        if withAddress(there, { Glibc.connect(raw, $0, $1) }) != 0 {
            guard errno == EINPROGRESS else { throw SyscallError("connect", target) }
            var slot = pollfd(fd: raw, events: Int16(POLLOUT), revents: 0)
            guard poll(&slot, 1, milliseconds) > 0 else { throw SyscallError("connect", target, errno: ETIMEDOUT) }
            var failure: Int32 = 0
            var size = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(raw, SOL_SOCKET, SO_ERROR, &failure, &size)
            guard failure == 0 else { throw SyscallError("connect", target, errno: failure) }
        }
        return descriptor
    }

    package struct Accepted: ~Copyable {
        private var descriptor: OwnedDescriptor
        package consuming func takeDescriptor() -> OwnedDescriptor { descriptor }
        package let address: String
        /// How long the other end has been silent, the time before it was accepted included (tcp(7), TCP_INFO).
        package var silenceMilliseconds: Int {
            var info = tcp_info()
            var size = socklen_t(MemoryLayout<tcp_info>.size)
            guard getsockopt(descriptor.raw, Int32(IPPROTO_TCP), TCP_INFO, &info, &size) == 0 else { return 0 }
            return Int(info.tcpi_last_data_recv)
        }
        fileprivate init(_ descriptor: consuming OwnedDescriptor, address: String) {
            self.descriptor = descriptor
            self.address = address
        }
    }

    /// The next waiting connection, nil when there is none, and the peer's address.
    package static func accept(_ listener: inout RestingListener) -> Accepted? {
        let raw = listener.accept(isBlocking: false)
        guard raw >= 0 else { return nil }
        setOption(raw, Int32(IPPROTO_TCP), TCP_NODELAY)
        var peer = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &peer) {
            _ = $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(raw, $0, &size) }
        }
        return Accepted(OwnedDescriptor(owning: raw), address: text(peer))
    }

    /// The address of this machine that the peer of a connection knows it by (getsockname(2)).
    package static func ownAddress(of connection: Int32) -> String? {
        var own = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isKnown = withUnsafeMutablePointer(to: &own) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(connection, $0, &size) }
        }
        return isKnown == 0 ? text(own) : nil
    }

    private static func text(_ address: sockaddr_in) -> String {
        var buffer = [CChar](repeating: 0, count: Int(INET_ADDRSTRLEN))
        var source = address.sin_addr
        inet_ntop(AF_INET, &source, &buffer, socklen_t(buffer.count))
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// This machine's IPv4 addresses, loopback last (getifaddrs(3)).
    package static func ownAddresses() -> [String] {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&first) == 0 else { return ["127.0.0.1"] }
        defer { freeifaddrs(first) }
        var found: [String] = []
        var cursor = first
        while let entry = cursor {
            cursor = entry.pointee.ifa_next
            guard let address = entry.pointee.ifa_addr, address.pointee.sa_family == sa_family_t(AF_INET) else {
                continue
            }
            let value = address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { text($0.pointee) }
            if !value.hasPrefix("127."), !found.contains(value) { found.append(value) }
        }
        return found + ["127.0.0.1"]
    }
}
