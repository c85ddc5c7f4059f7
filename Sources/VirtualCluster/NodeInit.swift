import CLinux
import Glibc
import JobNetwork
import LinuxSystem
import Processes

/// PID 1 of one node: sets the node up, starts its daemons in order, reaps
/// whatever ends, and keeps the node's service table on the host up to date.
///
/// One thread, no Foundation; a copy-on-write child of the supervisor, so that
/// what it does not touch costs nothing.
struct NodeInit {
    var specification: ClusterSpecification
    var node: ClusterNode
    var spacePath: String
    /// The cluster's state directory on the host.
    var state: Int32
    /// One byte per order of the supervisor, below.
    var orders: Int32
    var reports: Int32

    /// What the supervisor tells a node.
    enum Order {
        static let networkIsReady = UInt8(ascii: "n")
        static let startDaemon = UInt8(ascii: "s")
        static let countIdleNodes = UInt8(ascii: "i")
    }

    /// While something is awaited, how often it is looked at, in milliseconds.
    private static let pollMilliseconds: Int32 = 3
    private static let idleCountMilliseconds: Int32 = 15

    private struct Running {
        var service: ClusterService
        var pid: pid_t
        var isReady = false
        var endStatus: Int32?
    }
    private var services: [Running] = []
    private var statusFile: Int32 = -1
    /// Daemons not yet started; each waits for the one before it.
    private var pending: [ClusterService]
    /// The controller's daemon takes requests; a node's own waits for that.
    private var hasController: Bool
    private var isCounting = false
    private var counter: (pid: pid_t, output: Int32)?

    init(
        specification: ClusterSpecification, node: ClusterNode, spacePath: String, state: Int32, orders: Int32,
        reports: Int32
    ) {
        self.specification = specification
        self.node = node
        self.spacePath = spacePath
        self.state = state
        self.orders = orders
        self.reports = reports
        pending = specification.scheduler.services(isController: node.isController)
        hasController = node.isController
    }

    /// Never returns: the node ends with its init.
    mutating func run() -> Never {
        keepDescriptors()
        do throws(SyscallFailure) {
            try setUp()
            try serve()
        } catch {
            report(ClusterReport(failure: error, node: node.index))
            _exit(1)
        }
    }

    /// The pipes of other nodes and everything else of the supervisor are closed.
    private func keepDescriptors() {
        let kept = [0, 1, 2, state, orders, reports].map { UInt32(bitPattern: $0) }.sorted()
        for (low, high) in zip(kept, kept.dropFirst() + [UInt32.max]) where high > low + 1 {
            _ = linux_close_range(low + 1, high == .max ? .max : high - 1, 0)
        }
    }

    private func report(_ report: ClusterReport) {
        let bytes = report.bytes
        _ = write(reports, bytes, bytes.count)
    }

    // MARK: Set-up

    private mutating func setUp() throws(SyscallFailure) {
        let name = node.name
        try step("set the host name") { sethostname(name, name.utf8.count) }
        let states = state
        statusFile = try step("create the status of \(name)") {
            openat(states, "status/\(name)", O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0o644)
        }
        try NodeRoot(specification: specification, node: node, spacePath: spacePath).enter()
        try writeFile("/etc/hostname", name + "\n")
        try awaitOrder(Order.networkIsReady)
        try network()
        // The second user namespace: daemons and jobs see the ordinary uid, which the
        // outer one (where the mounts were made) shows as 0. One kernel uid either way,
        // which is why munge credentials hold between nodes.
        try step("enter the node's user namespace") { linux_unshare(CloneFlags.newUser) }
        let account = specification.account
        try step("map the user") { () throws(SyscallError) in
            try IDMapping(insideUID: account.uid, outsideUID: 0, insideGID: account.gid, outsideGID: 0).write()
        }
        // exec and status look at this process through /proc; see ptrace(2) on dumpable.
        _ = linux_prctl(ProcessControl.setDumpable, 1, 0, 0, 0)
        report(ClusterReport(.nodeReady, node: node.index))
    }

    private func network() throws(SyscallFailure) {
        let address = node.address
        try step("set the address \(node.addressText)") { () throws(SyscallError) in
            let loopback = if_nametoindex("lo")
            let ethernet = if_nametoindex("eth0")
            if loopback == 0 || ethernet == 0 { throw SyscallError("if_nametoindex", "eth0") }
            var batch = NetlinkBatch()
            batch.setUp(index: loopback)
            batch.setUp(index: ethernet, hardware: JobSubnet.hardware(of: address))
            batch.addAddress(address, prefixLength: ClusterNode.prefixLength, index: ethernet)
            try NetlinkSocket().perform(batch)
            meetNeighbours(ethernet)
        }
        // bbr paces for wide-area links: MPI over the bridge is 3 to 7 times faster with
        // reno. A kernel without a choice refuses; the cluster works all the same.
        try? writeFile("/proc/sys/net/ipv4/tcp_congestion_control", "reno")
    }

    /// Every other node's hardware address, for good: nobody asks for it (arp(7)). What the kernel learns by
    /// asking is one table for all networks of the machine, of net.ipv4.neigh.default.gc_thresh3 (1,024) entries
    /// in all: 33 nodes that all talk to each other fill it, and further ones have "no route to host". Entries
    /// that are told do not count, since Linux 5.0; one that refuses them asks as it always did.
    private func meetNeighbours(_ ethernet: UInt32) {
        var batch = NetlinkBatch()
        for other in specification.nodes where other.index != node.index {
            batch.addNeighbour(other.address, hardware: JobSubnet.hardware(of: other.address), index: ethernet)
        }
        try? NetlinkSocket().perform(batch)
    }

    private func writeFile(_ path: String, _ text: String) throws(SyscallFailure) {
        try step("write \(path)") { () throws(SyscallError) in
            try OwnedDescriptor.open(path, O_CREAT | O_WRONLY | O_TRUNC, mode: 0o644).writeAll(text)
        }
    }

    private func awaitOrder(_ expected: UInt8) throws(SyscallFailure) {
        let orders = self.orders
        var byte: UInt8 = 0
        let n = try step("await the supervisor") { Int32(read(orders, &byte, 1)) }
        if n != 1 || byte != expected { throw SyscallFailure(step: "await the supervisor", errno: EPIPE) }
    }

    // MARK: Service

    private mutating func serve() throws(SyscallFailure) -> Never {
        let childEnded: UInt64 = 1 << UInt64(SIGCHLD - 1)
        _ = linux_sigprocmask(SIG_BLOCK, childEnded, nil)
        let signals = try step("signalfd") { linux_signalfd(childEnded, Int32(O_CLOEXEC | O_NONBLOCK)) }
        let text = ResidentText()
        try startNext()
        while true {
            var polled = [
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(fd: orders, events: Int16(POLLIN), revents: 0),
            ]
            let timeout = self.timeout
            if timeout < 0 { text.release() }
            _ = poll(&polled, 2, timeout)
            if polled[0].revents != 0 {
                var info = [UInt8](repeating: 0, count: 128)
                while read(signals, &info, info.count) > 0 {}
                reap()
            }
            if polled[1].revents != 0 { try takeOrder() }
            try lookAround()
        }
    }

    private var timeout: Int32 {
        if services.contains(where: { !$0.isReady && $0.endStatus == nil }) { return Self.pollMilliseconds }
        return isCounting && counter == nil ? Self.idleCountMilliseconds : -1
    }

    private mutating func takeOrder() throws(SyscallFailure) {
        var byte: UInt8 = 0
        if read(orders, &byte, 1) != 1 {
            // The supervisor is gone, and the kernel is about to end this namespace too.
            _exit(0)
        }
        if byte == Order.startDaemon { hasController = true }
        if byte == Order.countIdleNodes { isCounting = true }
    }

    /// Looks at what is awaited: a daemon's socket or port, the count of idle nodes.
    private mutating func lookAround() throws(SyscallFailure) {
        for i in services.indices where !services[i].isReady && services[i].endStatus == nil {
            let isReady =
                switch services[i].service {
                case .munged: MungeSocket.accepts
                case .slurmctld: ListeningPorts.contains(SlurmConfiguration.controllerPort)
                case .slurmd: ListeningPorts.contains(SlurmConfiguration.nodePort)
                case .qmaster: ListeningPorts.contains(GridEngineConfiguration.controllerPort)
                case .execd: ListeningPorts.contains(GridEngineConfiguration.nodePort)
                case .collector, .negotiator, .schedd, .startd:
                    access(HTCondorConfiguration.addressPath(services[i].service), F_OK) == 0
                }
            if !isReady { continue }
            services[i].isReady = true
            report(ClusterReport(.serviceReady, node: node.index, service: services[i].service))
        }
        try startNext()
        if isCounting && counter == nil { try startCounting() }
    }

    /// The next daemon, once the ones before it are ready and what it asks for is there.
    private mutating func startNext() throws(SyscallFailure) {
        guard let next = pending.first, services.allSatisfy(\.isReady),
            hasController || next != specification.scheduler.nodeDaemon
        else { return }
        pending.removeFirst()
        try start(next)
    }

    private mutating func start(_ service: ClusterService) throws(SyscallFailure) {
        let scheduler = specification.scheduler
        let arguments = scheduler.command(service, node: node.name)
        let states = state
        let path = "logs/\(node.name).\(service.name).log"
        let log = try step("create \(path)") { openat(states, path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o644) }
        defer { close(log) }
        let pid = try spawn(arguments, output: log, errors: log, scheduler.daemonEnvironment)
        services.append(Running(service: service, pid: pid))
        writeStatus()
    }

    private mutating func startCounting() throws(SyscallFailure) {
        let pipe = try step("pipe2") { () throws(SyscallError) in try PipeEnds() }
        let scheduler = specification.scheduler
        let pid = try spawn(
            scheduler.idleQuery, output: pipe.write, errors: 2, scheduler.queryEnvironment)
        close(pipe.write)
        counter = (pid, pipe.read)
    }

    /// Starts a program as the account, without capabilities, in a session of its own.
    private func spawn(
        _ arguments: [String], output: Int32, errors: Int32, _ more: [String]
    ) throws(SyscallFailure) -> pid_t {
        let home = specification.account.home
        let user = specification.account.user
        let environment =
            [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=\(home)", "USER=\(user)",
                "LOGNAME=\(user)",
                // One heap for all threads of a daemon: at this size the others only cost memory.
                "MALLOC_ARENA_MAX=1",
            ] + more
        let pid = try step("start \(arguments[0])") { linux_clone(0, nil) }
        if pid != 0 { return pid }
        _ = setsid()
        _ = linux_sigprocmask(SIG_SETMASK, 0, nil)
        dup2(output, 1)
        dup2(errors, 2)
        CommandVector.execute(arguments, environment: environment)
        let text = "\(arguments[0]): \(String(cString: strerror(errno)))\n"
        _ = text.withCString { write(2, $0, strlen($0)) }
        _exit(127)
    }

    private mutating func reap() {
        while true {
            var status: Int32 = 0
            let pid = waitpid(-1, &status, WNOHANG)
            if pid <= 0 { return }
            if let counting = counter, counting.pid == pid {
                takeCount(from: counting.output)
                counter = nil
            } else if let i = services.firstIndex(where: { $0.pid == pid }) {
                services[i].endStatus = status
                writeStatus()
                report(
                    ClusterReport(.serviceEnded, node: node.index, service: services[i].service, value: status))
            }
        }
    }

    private mutating func takeCount(from output: Int32) {
        defer { close(output) }
        // Far below a pipe's capacity for the most nodes there can be: nobody waits for this reader.
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let n = read(output, &buffer, buffer.count)
            if n <= 0 { break }
            answer += buffer[..<n]
        }
        guard let count = specification.scheduler.idleCount(answer: String(decoding: answer, as: UTF8.self)) else {
            return
        }
        if count >= specification.nodeCount { isCounting = false }
        report(ClusterReport(.nodesIdle, node: node.index, value: Int32(count)))
    }

    /// The node's line per service, read by `cluster status`.
    private func writeStatus() {
        let text = services.map { ServiceStatus(service: $0.service, pid: $0.pid, endStatus: $0.endStatus).line + "\n" }
            .joined()
        _ = text.withCString { pwrite(statusFile, $0, strlen($0), 0) }
        _ = ftruncate(statusFile, off_t(text.utf8.count))
    }
}
