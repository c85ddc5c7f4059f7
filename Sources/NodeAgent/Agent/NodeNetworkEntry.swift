import CLinux
import Glibc
import JobNetwork
import JobWire
import LinuxSystem

/// The job's own network on this node: what is taken before the container's namespaces are made, and what is
/// done in them. Nothing of it outlives the network namespace, which ends with its last process.
package final class NodeNetworkEntry {
    private let network: NodeNetwork
    private let nodeIndex: Int
    /// As text, by node, inside.
    private let addresses: [String]
    /// The node's network namespace; -1 where no tunnel is needed.
    private var node: OwnedDescriptor
    private var door: OwnedDescriptor
    /// The process at the other end of `door`, when it is one of ours.
    private var helper: pid_t = -1
    /// The node's; a new namespace has the kernel's.
    private let congestionControl: [UInt8]

    private static let congestionControlPath = "/proc/sys/net/ipv4/tcp_congestion_control"
    /// As many as the kernel's answers fit into a socket's memory.
    private static let peersPerBatch = 48
    /// What an earlier job that was killed left takes the kernel a moment to remove.
    private static let leftoverMilliseconds = 3_000

    /// Call it while this process is in the node's network.
    init(_ job: JobAssignment, _ network: NodeNetwork) throws(AgentFailure) {
        self.network = network
        nodeIndex = job.nodeIndex
        addresses = job.nodeAddresses
        congestionControl = Self.readCongestionControl()
        node = OwnedDescriptor(owning: -1)
        door = OwnedDescriptor(owning: -1)
        guard network.isShared, addresses.count > 1 else { return }
        do throws(SyscallError) {
            node = try OwnedDescriptor.open("/proc/self/ns/net", O_RDONLY)
            if let found = TunnelDoor.connect() {
                door = found
            } else {
                try startHelper()
            }
        } catch { throw AgentFailure(step: Self.step, errno: error.errno, subject: error.sentence) }
    }

    /// How the leader knows a failure of the network.
    package static let step = "network"

    /// A process that stays in the node's network and makes the tunnel, if this node permits us that.
    private func startHelper() throws(SyscallError) {
        var ends: [Int32] = [-1, -1]
        try checked("socketpair") {
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
        }
        door = OwnedDescriptor(owning: ends[0])
        defer { close(ends[1]) }
        helper = try checked("fork") { linux_fork() }
        if helper == 0 {
            close(ends[0])
            TunnelDoor.answer(ends[1], user: geteuid())
            _exit(0)
        }
    }

    /// In the container's namespaces, `lo` being up: the interface, its address, the way to every other node.
    func furnish() throws(AgentFailure) {
        writeCongestionControl()
        guard network.isShared else { return }
        guard let own = JobSubnet.parse(addresses[nodeIndex]) else {
            throw AgentFailure(step: Self.step, errno: EINVAL, subject: "address \(addresses[nodeIndex])")
        }
        do throws(SyscallError) { try furnish(own) } catch {
            throw AgentFailure(step: Self.step, errno: error.errno, subject: error.sentence)
        }
    }

    private func furnish(_ own: [UInt8]) throws(SyscallError) {
        if node.raw >= 0 {
            try makeTunnel()
        } else {
            // Alone: an interface that leads nowhere, for programs that do not take `lo` for one.
            var alone = NetlinkBatch()
            alone.addBridge(TunnelDoor.device)
            try NetlinkSocket().perform(alone)
        }
        let index = if_nametoindex(TunnelDoor.device)
        if index == 0 { throw SyscallError("if_nametoindex", TunnelDoor.device) }
        var batch = NetlinkBatch()
        batch.setUp(index: index, hardware: JobSubnet.hardware(of: own))
        batch.addAddress(own, prefixLength: UInt8(clamping: network.prefixLength), index: index)
        try NetlinkSocket().perform(batch)
        try addPeers(index)
    }

    private static func readCongestionControl() -> [UInt8] {
        let file = open(congestionControlPath, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { close(file) }
        var name = [UInt8](repeating: 0, count: 64)
        let n = read(file, &name, name.count)
        return Array(name.prefix(max(0, n)))
    }

    /// A kernel that refuses keeps its own choice, which works.
    private func writeCongestionControl() {
        let file = open(Self.congestionControlPath, O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return }
        _ = write(file, congestionControl, congestionControl.count)
        close(file)
    }

    private func makeTunnel() throws(SyscallError) {
        let local = network.peers.indices.contains(nodeIndex) ? network.peers[nodeIndex] : ""
        guard let bytes = JobSubnet.parse(local) else {
            throw SyscallError("tunnel", "address '\(local)' of the node", errno: EINVAL)
        }
        let job = try OwnedDescriptor.open("/proc/self/ns/net", O_RDONLY)
        let request = TunnelDoor.Request(identifier: UInt32(clamping: network.identifier), local: bytes)
        let deadline = MonotonicTime.now() + Self.leftoverMilliseconds
        var refusal: TunnelDoor.Refusal?
        while true {
            do throws(TunnelDoor.Refusal) {
                try TunnelDoor.ask(request, at: door.raw, node: node.raw, job: job.raw)
                refusal = nil
            } catch { refusal = error }
            guard refusal?.errno == EEXIST, MonotonicTime.now() < deadline else { break }
            usleep(50_000)
        }
        door = OwnedDescriptor(owning: -1)
        node = OwnedDescriptor(owning: -1)
        if helper > 0 {
            var status: Int32 = 0
            while waitpid(helper, &status, 0) < 0, errno == EINTR {}
        }
        guard let refusal else { return }
        switch refusal.step {
        case .ask: throw SyscallError("ask", "the node's tunnel maker", errno: refusal.errno)
        case .enterNode: throw SyscallError("setns", "the node's network", errno: refusal.errno)
        case .findAddress: throw SyscallError("find", "an interface with \(local)", errno: refusal.errno)
        case .makeDevice:
            throw SyscallError("make", "VXLAN device \(network.identifier) at \(local)", errno: refusal.errno)
        }
    }

    /// Every other node's address, hardware address and machine: no packet has to ask for the way.
    private func addPeers(_ index: UInt32) throws(SyscallError) {
        guard addresses.count > 1 else { return }
        var batch = NetlinkBatch()
        var count = 0
        for peer in addresses.indices where peer != nodeIndex {
            guard let address = JobSubnet.parse(addresses[peer]),
                let machine = network.peers.indices.contains(peer) ? JobSubnet.parse(network.peers[peer]) : nil
            else { throw SyscallError("tunnel", "address of node \(peer)", errno: EINVAL) }
            let hardware = JobSubnet.hardware(of: address)
            batch.addForwarding(hardware: hardware, destination: machine, index: index)
            batch.addForwarding(hardware: [0, 0, 0, 0, 0, 0], destination: machine, index: index)
            batch.addNeighbour(address, hardware: hardware, index: index)
            count += 1
            if count % Self.peersPerBatch == 0 {
                try NetlinkSocket().perform(batch)
                batch = NetlinkBatch()
            }
        }
        try NetlinkSocket().perform(batch)
    }
}
