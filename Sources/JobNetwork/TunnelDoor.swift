import CLinux
import Glibc
import LinuxSystem

/// How a job gets the one device of its network that it may not make itself: a VXLAN tunnel that ends in the
/// job's network namespace while its packets travel through the node's. Making it takes CAP_NET_ADMIN in the
/// node's (network_namespaces(7)). Whoever has that answers here: the supervisor of a virtual cluster, on a
/// socket that every node shows, or a process of the agent's own where the agent has it.
///
/// One request is 16 bytes with two descriptors, the node's network namespace and the job's; its answer 8.
package enum TunnelDoor {
    /// Where a node shows the socket.
    package static let path = "/run/trireme/network"
    /// What the tunnel is called inside; nothing else is there but `lo`.
    package static let device = "eth0"
    /// The tunnels' UDP port. Not VXLAN's own, 4789: where Open vSwitch has a VXLAN port, or a container network
    /// is built in its way, that one is open for all numbers (IFLA_VXLAN_COLLECT_METADATA) and shared with nobody;
    /// a device beside it cannot be brought up (EADDRINUSE). Unassigned by IANA, and below Linux's ephemeral ports.
    package static let port: UInt16 = 14789
    /// What VXLAN over IPv4 puts in front of a packet.
    private static let headerBytes: UInt32 = 50
    private static let requestBytes = 16
    private static let answerBytes = 8
    private static let magic: UInt32 = 0x314B_4E54
    private static let patienceSeconds = 10

    /// What is asked for.
    package struct Request: Equatable, Sendable {
        /// 24 bits, the same on all nodes of a job.
        package var identifier: UInt32
        /// The node's own address.
        package var local: [UInt8]
        package init(identifier: UInt32, local: [UInt8]) {
            self.identifier = identifier
            self.local = local
        }
    }

    /// The step that failed where a tunnel was made.
    package enum Step: Int32, Sendable {
        case ask = 1, enterNode, findAddress, makeDevice
    }
    package struct Refusal: Error, Equatable, Sendable {
        package var step: Step
        package var errno: Int32
    }

    // MARK: The side that asks

    /// A connection to the node's door; nil where it has none.
    package static func connect() -> OwnedDescriptor? {
        let socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { return nil }
        let descriptor = OwnedDescriptor(owning: socket)
        guard withAddress(path, { Glibc.connect(socket, $0, $1) }) == 0 else { return nil }
        return descriptor
    }

    /// - Parameters:
    ///   - node: the network namespace the packets travel in.
    ///   - job: the one that gets the device.
    package static func ask(_ request: Request, at door: Int32, node: Int32, job: Int32) throws(Refusal) {
        setPatience(door)
        var bytes: [UInt8] = []
        withUnsafeBytes(of: magic) { bytes += $0 }
        withUnsafeBytes(of: request.identifier) { bytes += $0 }
        bytes += request.local.prefix(4)
        bytes += [UInt8](repeating: 0, count: requestBytes - bytes.count)
        guard linux_send_descriptors(door, bytes, bytes.count, [node, job], 2) == bytes.count else {
            throw Refusal(step: .ask, errno: errno)
        }
        var answer = [UInt8](repeating: 0, count: answerBytes)
        let n = recv(door, &answer, answerBytes, Int32(MSG_WAITALL))
        guard n == answerBytes else { throw Refusal(step: .ask, errno: n < 0 ? errno : ECONNRESET) }
        let (step, code) = answer.withUnsafeBytes {
            ($0.loadUnaligned(as: Int32.self), $0.loadUnaligned(fromByteOffset: 4, as: Int32.self))
        }
        if code != 0 { throw Refusal(step: Step(rawValue: step) ?? .ask, errno: code) }
    }

    // MARK: The side that answers

    /// A socket that listens as `network` in `directory`, which becomes the working directory.
    package static func listen(in directory: String) throws(SyscallError) -> Int32 {
        let socket = try checked("socket", "unix") {
            Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        }
        // An address has room for 107 bytes of path, and the directory's may be longer.
        try checked("chdir", directory) { chdir(directory) }
        try checked("bind", directory + "/network") { withAddress("network") { bind(socket, $0, $1) } }
        try checked("listen", directory + "/network") { Glibc.listen(socket, 64) }
        return socket
    }

    /// Answers what comes on `connection` until its other end closes. For a process of its own: it may enter
    /// another network namespace.
    /// - Parameter user: whose identifiers are given out, `JobSubnet.identifier`; nil: whoever asks may have any.
    package static func answer(_ connection: Int32, user: UInt32? = nil) {
        setPatience(connection)
        while let (request, node, job) = receive(connection) {
            var step = Step.ask
            var code: Int32 = 0
            do throws(SyscallError) {
                // A process with a capability that its caller lacks must not let him into others' networks.
                if let user, !JobSubnet.isIdentifier(request.identifier, of: user) {
                    throw SyscallError("tunnel", errno: EACCES)
                }
                step = .enterNode
                if !isOwn(node) { try checked("setns", "network") { linux_setns(node, CloneFlags.newNetwork) } }
                step = .findAddress
                let packet = try largestPacket(of: request.local)
                step = .makeDevice
                var batch = NetlinkBatch()
                batch.addTunnel(
                    device, identifier: request.identifier, local: request.local, port: port,
                    largestPacket: packet - headerBytes, namespace: job)
                try NetlinkSocket().perform(batch)
            } catch { code = error.errno }
            close(node)
            close(job)
            let words = [step.rawValue, code]
            guard send(connection, words, answerBytes, Int32(MSG_NOSIGNAL)) == answerBytes else { return }
        }
    }

    private static func receive(_ connection: Int32) -> (Request, node: Int32, job: Int32)? {
        var bytes = [UInt8](repeating: 0, count: requestBytes)
        var descriptors: [Int32] = [-1, -1, -1, -1]
        var count: Int32 = 4
        let n = linux_receive_descriptors(connection, &bytes, requestBytes, &descriptors, &count)
        let (word, identifier) = bytes.withUnsafeBytes {
            ($0.loadUnaligned(as: UInt32.self), $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        }
        guard n == requestBytes, count == 2, word == magic, identifier < 1 << 24 else {
            for descriptor in descriptors.prefix(Int(max(0, n < 0 ? 0 : count))) { close(descriptor) }
            return nil
        }
        return (Request(identifier: identifier, local: Array(bytes[8..<12])), descriptors[0], descriptors[1])
    }

    private static func isOwn(_ namespace: Int32) -> Bool {
        var own = stat()
        var other = stat()
        return stat("/proc/self/ns/net", &own) == 0 && fstat(namespace, &other) == 0 && own.st_ino == other.st_ino
            && own.st_dev == other.st_dev
    }

    /// What the interface with this address takes at once (netdevice(7), SIOCGIFMTU).
    private static func largestPacket(of address: [UInt8]) throws(SyscallError) -> UInt32 {
        let name = try interface(with: address)
        let socket = OwnedDescriptor(
            owning: try checked("socket") {
                Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            })
        // struct ifreq: the name in 16 bytes, then the answer.
        var request = [UInt8](repeating: 0, count: 40)
        request.replaceSubrange(0..<min(15, name.count), with: name.prefix(15))
        let raw = socket.raw
        try checked("ioctl", "SIOCGIFMTU") { linux_ioctl_pointer(raw, 0x8921, &request) }
        let packet = request.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16, as: UInt32.self) }
        // RFC 791: 68 bytes fit everywhere. Loopback's 65536 are more than a packet of IPv4 holds.
        return min(max(packet, headerBytes + 68), 65535)
    }

    /// The name of the interface that has `address` (getifaddrs(3)).
    private static func interface(with address: [UInt8]) throws(SyscallError) -> [UInt8] {
        var first: UnsafeMutablePointer<ifaddrs>?
        try checked("getifaddrs") { getifaddrs(&first) }
        defer { freeifaddrs(first) }
        var cursor = first
        while let entry = cursor {
            cursor = entry.pointee.ifa_next
            guard let known = entry.pointee.ifa_addr, known.pointee.sa_family == sa_family_t(AF_INET) else { continue }
            let bytes = known.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { pointer in
                withUnsafeBytes(of: pointer.pointee.sin_addr.s_addr) { Array($0) }
            }
            if bytes == address { return Array(String(cString: entry.pointee.ifa_name).utf8) }
        }
        throw SyscallError(
            "getifaddrs", address.map { "\($0)" }.joined(separator: "."), errno: EADDRNOTAVAIL)
    }

    // MARK: Sockets

    private static func setPatience(_ socket: Int32) {
        var time = timeval(tv_sec: patienceSeconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] { setsockopt(socket, SOL_SOCKET, option, &time, size) }
    }

    private static func withAddress(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { room in
            for (index, byte) in path.utf8.prefix(room.count - 1).enumerated() { room[index] = byte }
        }
        return withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}
