import CLinux
import Diagnostics
import Glibc
import JobModel
import JobNetwork
import JobWire
import LinuxSystem
import Orchestrator
import SiteConfiguration

/// The network of the job's containers (`--network`).
extension JobLeader {
    /// Where the ranks of a node are reached by other ranks.
    func address(of node: Int) -> String {
        switch job.network {
        case .host: agents[node]?.address ?? ""
        case .none: "127.0.0.1"
        case .job: subnet?.subnet.addressText(of: node) ?? ""
        }
    }

    /// The same for all nodes; nil for the nodes' own.
    var network: NodeNetwork? {
        switch job.network {
        case .host: return nil
        case .none: return NodeNetwork(isShared: false)
        case .job:
            guard let subnet = subnet?.subnet else { return nil }
            let own = Set(TCPSocket.ownAddresses())
            return NodeNetwork(
                isShared: true, identifier: Int(subnet.identifier(user: geteuid())),
                prefixLength: Int(JobSubnet.prefixLength),
                peers: job.map.nodes.indices.map { machineAddress(of: $0, own) })
        }
    }

    /// Where the node is for the others. An agent beside its leader may have called it by an address that only
    /// this machine knows; the other agents' connections tell how they reach us.
    private func machineAddress(of node: Int, _ own: Set<String>) -> String {
        let address = agents[node]?.address ?? ""
        guard own.contains(address) else { return address }
        for link in agents.values where !own.contains(link.address) {
            if let seen = TCPSocket.ownAddress(of: link.connection.descriptor.raw) { return seen }
        }
        return address
    }

    func networkFailure(_ node: Int, _ errno: Int, _ subject: String) -> Diagnostic {
        var reasons = ["the job's network could not be made there", subject]
        var remedies = ["--network host: the nodes' own network"]
        switch Int32(errno) {
        case EPERM, EACCES:
            reasons.append("a tunnel through the node's network takes CAP_NET_ADMIN there, which we have not")
            remedies += [
                "-N 1: on one node it takes nothing",
                "trireme run --cluster NAME …: the nodes of virtual clusters permit it",
            ]
        case EOPNOTSUPP: remedies.append("as administrator: modprobe vxlan")
        case EEXIST: reasons.append("another job's tunnel has this number")
        default: break
        }
        return Diagnostic(
            DiagnosticCode("network-refused"), machine.nodeName(node), reasons: reasons, remedies: remedies)
    }
}

/// A job's subnet, which no other job of this user has while this one's leader lives.
///
/// The kernel keeps the leases: a lock on one byte of a file for each subnet (fcntl(2), F_OFD_SETLK), gone with
/// the leader however it ends, on NFS with its node.
final class SubnetLease {
    let subnet: JobSubnet
    private let file: OwnedDescriptor

    private init(_ subnet: JobSubnet, _ file: consuming OwnedDescriptor) {
        self.subnet = subnet
        self.file = file
    }

    /// Takes a free subnet into which no route of this host leads. Jobs begin to look at different places, so
    /// that leaders without a common directory hardly ever meet.
    /// - Throws: `network-subnets`.
    static func take(for jobID: String) throws(Diagnostic) -> SubnetLease {
        let directory = Locations.current().state
        let path = directory + "/networks"
        do throws(SyscallError) {
            try FanOut.makeDirectory(directory)
            let file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
            let routes = hostRoutes()
            let start = Int(jobID.utf8.reduce(UInt32(2_166_136_261)) { ($0 ^ UInt32($1)) &* 16_777_619 } >> 8)
            var offset = 0
            while offset < JobSubnet.count {
                let subnet = JobSubnet(number: (start + offset) % JobSubnet.count)
                let isRouted = routes.contains {
                    subnet.overlaps(destination: $0.destination, mask: $0.mask)
                }
                if !isRouted, try lock(file.raw, byte: subnet.number) { break }
                offset += 1
            }
            if offset < JobSubnet.count {
                return SubnetLease(JobSubnet(number: (start + offset) % JobSubnet.count), file)
            }
        } catch {
            throw Diagnostic(
                DiagnosticCode("network-subnets"), path, reasons: ["no subnet can be reserved there", error.sentence],
                remedies: ["XDG_STATE_HOME=DIRECTORY puts the file elsewhere", "--network host"])
        }
        throw Diagnostic(
            DiagnosticCode("network-subnets"), "--network job",
            reasons: ["all \(JobSubnet.count) subnets are in use by your jobs, or lie on routes of this host"],
            remedies: ["--network host", "trireme job ls"])
    }

    private static func hostRoutes() -> [(destination: UInt32, mask: UInt32)] {
        guard let file = try? OwnedDescriptor.open("/proc/net/route", O_RDONLY),
            let table = try? file.readAll(limit: 1 << 20)
        else { return [] }
        return JobSubnet.routes(String(decoding: table, as: UTF8.self))
    }

    /// False when another has it.
    private static func lock(_ file: Int32, byte: Int) throws(SyscallError) -> Bool {
        var region = flock()
        region.l_type = Int16(F_WRLCK)
        region.l_whence = Int16(SEEK_SET)
        region.l_start = off_t(byte)
        region.l_len = 1
        // F_OFD_SETLK (linux/fcntl.h): the lock is the open file's, so a child that is forked cannot lose it.
        let result = withUnsafeMutablePointer(to: &region) { linux_fcntl_int(file, 37, Int(bitPattern: $0)) }
        if result == 0 { return true }
        if errno == EAGAIN || errno == EACCES { return false }
        throw SyscallError("fcntl", "F_OFD_SETLK")
    }
}

/// What `--explain launch` says of it.
enum JobNetworkWords {
    static func text(_ job: JobSpecification) -> String? {
        let nodes = job.map.nodes.count
        switch job.network {
        case .host: return nil
        case .none: return "none: a loopback device"
        case .job:
            return nodes == 1
                ? "job: a subnet of its own; on one node that takes no tunnel"
                : "job: a subnet of its own in 100.64.0.0/10, VXLAN from each of the \(nodes) nodes to the others"
        }
    }
}
