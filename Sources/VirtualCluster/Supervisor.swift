import CLinux
import Glibc
import JobNetwork
import LinuxSystem
import Processes

/// The one process a cluster is: PID 1 of the outer pid namespace. It makes the
/// bridge and the nodes, passes their reports on while `create` listens, and then
/// waits. When it ends, for whatever reason, the kernel ends every process in the
/// nested pid namespaces, and with the last one the mounts and interfaces go too.
///
/// One thread, no Foundation: the nodes' inits are its copy-on-write children.
struct Supervisor {
    var specification: ClusterSpecification
    /// uid and gid of the caller outside; inside they are 0 while mounts are made.
    var mapping: IDMapping
    /// What every node's /etc and /var share, below the tmpfs's `common`.
    var commonFiles: [CommonFile]
    /// The cluster's state directory, by path and open.
    var statePath: String
    var state: Int32
    /// To `create`; closed once it has what it wants.
    var reports: Int32
    /// From `create`: a byte commits the cluster, its end without one ends it.
    var lifeline: Int32

    struct CommonFile {
        var path: String
        var mode: mode_t
        var content: Content
        enum Content {
            case bytes([UInt8])
            case directory
            case link(String)
        }
    }

    private struct Node {
        var pid: pid_t
        var orders: Int32
    }
    private var nodes: [Node] = []
    private var nodeReports: Int32 = -1
    private var nodeReportsInput: Int32 = -1
    /// Where the agents of jobs ask for tunnels (`TunnelDoor`).
    private var door = RestingListener(-1)
    private var readyDaemons = 0
    private var isCommitted = false

    init(
        specification: ClusterSpecification, mapping: IDMapping, commonFiles: [CommonFile], statePath: String,
        state: Int32, reports: Int32, lifeline: Int32
    ) {
        self.specification = specification
        self.mapping = mapping
        self.commonFiles = commonFiles
        self.statePath = statePath
        self.state = state
        self.reports = reports
        self.lifeline = lifeline
    }

    /// The namespaces this process is cloned into.
    static let namespaces =
        UInt64(UInt32(bitPattern: CloneFlags.newUser)) | nodeNamespaces
    /// Those of a node, below. No user namespace: the nodes' mounts and interfaces
    /// belong to the supervisor's, so that it may make them.
    static let nodeNamespaces = UInt64(
        UInt32(
            bitPattern: CloneFlags.newMount | CloneFlags.newNetwork | CloneFlags.newPID | CloneFlags.newIPC
                | CloneFlags.newUTS))

    mutating func run() -> Never {
        _ = setsid()
        keepDescriptors()
        do throws(SyscallFailure) {
            try prepare()
            try startNodes()
            try attend()
        } catch {
            // A node that failed first says why better than what failed here in consequence.
            var polled = pollfd(fd: nodeReports, events: Int16(POLLIN), revents: 0)
            if nodeReports >= 0 && poll(&polled, 1, 20) > 0 { takeReports() }
            tell(ClusterReport(failure: error))
            _exit(1)
        }
    }

    /// Standard streams to the log; of the rest of `create` only what is ours.
    private mutating func keepDescriptors() {
        let null = open("/dev/null", O_RDWR)
        let log = openat(state, "logs/supervisor.log", O_CREAT | O_WRONLY | O_APPEND, 0o644)
        dup2(null, 0)
        dup2(log >= 0 ? log : null, 1)
        dup2(log >= 0 ? log : null, 2)
        let kept = [state, reports, lifeline].map { UInt32(bitPattern: $0) }.sorted()
        for (low, high) in zip([2] + kept, kept + [UInt32.max]) where high > low + 1 {
            _ = linux_close_range(low + 1, high == .max ? .max : high - 1, 0)
        }
    }

    private func tell(_ report: ClusterReport) {
        if isCommitted { return }
        let bytes = report.bytes
        _ = Glibc.write(reports, bytes, bytes.count)
    }

    private var spacePath: String { statePath + "/space" }

    /// Maps the user, mounts the tmpfs and fills what the nodes share.
    private mutating func prepare() throws(SyscallFailure) {
        // Nobody's working directory is kept busy for the life of the cluster.
        try step("enter /") { chdir("/") }
        let mapping = self.mapping
        try step("map the user") { () throws(SyscallError) in try mapping.write() }
        _ = linux_prctl(ProcessControl.setDumpable, 1, 0, 0, 0)
        try step("make mounts private") {
            linux_mount(nil, "/", nil, MountFlags.isPrivate | MountFlags.recursive, nil)
        }
        let path = spacePath
        try step("mount the cluster's tmpfs") {
            linux_mount("tmpfs", path, "tmpfs", MountFlags.noDevices | MountFlags.noSetuid, "mode=0755")
        }
        door = RestingListener(
            try step("listen for jobs that want a network") { () throws(SyscallError) in
                try TunnelDoor.listen(in: path)
            })
        try step("enter /") { chdir("/") }
        for file in commonFiles { try write(file, in: path + "/common") }
        for node in specification.nodes {
            for directory in ["upper", "work", "root"] {
                try NodeRoot.makeDirectories("\(node.name)/\(directory)", below: path)
            }
        }
        tell(ClusterReport(.namespacesReady))
    }

    private func write(_ file: CommonFile, in common: String) throws(SyscallFailure) {
        let path = common + file.path
        let parent = String(file.path[..<(file.path.lastIndex(of: "/") ?? file.path.startIndex)])
        try? NodeRoot.makeDirectories("", below: common)
        try step("create \(common)") { mkdir(common, 0o755) < 0 && errno != EEXIST ? -1 : 0 }
        try NodeRoot.makeDirectories(parent, below: common)
        switch file.content {
        case .directory:
            try NodeRoot.makeDirectories(file.path, below: common)
            try step("chmod \(path)") { chmod(path, file.mode) }
        case .link(let target): try step("create \(path)") { symlink(target, path) }
        case .bytes(let bytes):
            try step("write \(path)") { () throws(SyscallError) in
                let descriptor = try OwnedDescriptor.open(path, O_CREAT | O_WRONLY | O_EXCL, mode: file.mode)
                try checked("write", path) { Glibc.write(descriptor.raw, bytes, bytes.count) }
            }
        }
    }

    // MARK: Nodes

    private mutating func startNodes() throws(SyscallFailure) {
        let pipe = try step("pipe2") { () throws(SyscallError) in try PipeEnds() }
        nodeReports = pipe.read
        nodeReportsInput = pipe.write
        let bridge = try makeBridge()
        // The controller alone first: its daemons start while the other nodes are made.
        let all = specification.nodes
        try startNodes(all.prefix(1), bridge)
        try startNodes(all.dropFirst(), bridge)
    }

    private func makeBridge() throws(SyscallFailure) -> UInt32 {
        try step("create the bridge") { () throws(SyscallError) in
            var batch = NetlinkBatch()
            batch.addBridge("br0")
            try NetlinkSocket().perform(batch)
            let index = if_nametoindex("br0")
            if index == 0 { throw SyscallError("if_nametoindex", "br0") }
            return index
        }
    }

    private mutating func startNodes(_ started: ArraySlice<ClusterNode>, _ bridge: UInt32)
        throws(SyscallFailure)
    {
        var batch = NetlinkBatch()
        for node in started {
            let pid = try startNode(node)
            batch.addVeth("v\(node.index)", master: bridge, peer: "eth0", namespaceOf: pid)
            batch.setUp(name: "v\(node.index)")
        }
        try step("connect the nodes") { () throws(SyscallError) in try NetlinkSocket().perform(batch) }
        for node in started { order(NodeInit.Order.networkIsReady, node.index) }
    }

    private mutating func startNode(_ node: ClusterNode) throws(SyscallFailure) -> pid_t {
        let pipe = try step("pipe2") { () throws(SyscallError) in try PipeEnds() }
        var pidfd: Int32 = -1
        let pid = try step("create the namespaces of \(node.name)") { linux_clone(Self.nodeNamespaces, &pidfd) }
        if pid == 0 {
            var initProcess = NodeInit(
                specification: specification, node: node, spacePath: spacePath, state: state, orders: pipe.read,
                reports: nodeReportsInput)
            initProcess.run()
        }
        close(pipe.read)
        nodes.append(Node(pid: pid, orders: pipe.write))
        tell(ClusterReport(.nodeStarted, node: node.index, value: hostPID(pidfd)))
        close(pidfd)
        return pid
    }

    /// The pid the host knows: this process still sees the host's proc, which shows
    /// every pid as its own namespace counts (`Pid:` of a pidfd's fdinfo, proc_pid_fdinfo(5)).
    private func hostPID(_ pidfd: Int32) -> Int32 {
        guard let file = try? OwnedDescriptor.open("/proc/self/fdinfo/\(pidfd)", O_RDONLY),
            let bytes = try? file.readAll()
        else { return 0 }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where line.hasPrefix("Pid:") {
            return line.split(separator: "\t").last.flatMap { Int32($0) } ?? 0
        }
        return 0
    }

    private func order(_ byte: UInt8, _ index: Int) {
        var byte = byte
        _ = Glibc.write(nodes[index].orders, &byte, 1)
    }

    // MARK: Waiting

    private mutating func attend() throws(SyscallFailure) -> Never {
        let childEnded: UInt64 = 1 << UInt64(SIGCHLD - 1)
        _ = linux_sigprocmask(SIG_BLOCK, childEnded, nil)
        let signals = try step("signalfd") { linux_signalfd(childEnded, Int32(O_CLOEXEC | O_NONBLOCK)) }
        let text = ResidentText()
        reap()
        while true {
            var polled = [
                pollfd(fd: nodeReports, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(fd: door.watched, events: Int16(POLLIN), revents: 0),
                pollfd(fd: lifeline, events: Int16(POLLIN), revents: 0),
            ]
            if isCommitted { text.release() }
            _ = poll(&polled, isCommitted ? 3 : 4, door.timeout(-1))
            if polled[0].revents != 0 { takeReports() }
            if polled[1].revents != 0 {
                var info = [UInt8](repeating: 0, count: 128)
                while read(signals, &info, info.count) > 0 {}
                reap()
            }
            if polled[2].revents != 0 { answerDoor() }
            if polled[3].revents != 0 { takeCommit() }
        }
    }

    /// A tunnel is made by a process of its own: it enters the network of the node that asks. What it is
    /// given can only be the caller's: a descriptor of some other network would grant nothing here.
    private mutating func answerDoor() {
        let connection = door.accept()
        guard connection >= 0 else { return }
        defer { close(connection) }
        if linux_clone(0, nil) == 0 {
            TunnelDoor.answer(connection)
            _exit(0)
        }
    }

    private mutating func takeReports() {
        var buffer = [UInt8](repeating: 0, count: ClusterReport.byteCount * 32)
        let n = read(nodeReports, &buffer, buffer.count)
        for start in stride(from: 0, to: max(n, 0), by: ClusterReport.byteCount) {
            guard let report = ClusterReport(bytes: Array(buffer[start..<(start + ClusterReport.byteCount)])) else {
                continue
            }
            tell(report)
            if report.kind == .serviceReady && report.service == specification.scheduler.controllerDaemon {
                // A node's daemon that meets the closed port sleeps a second before it tries again.
                for node in specification.nodes.dropFirst() { order(NodeInit.Order.startDaemon, node.index) }
            }
            if report.kind == .serviceReady && report.service == specification.scheduler.nodeDaemon {
                readyDaemons += 1
                if readyDaemons == specification.nodeCount { order(NodeInit.Order.countIdleNodes, 0) }
            }
        }
    }

    private mutating func takeWaitingReports() {
        var polled = pollfd(fd: nodeReports, events: Int16(POLLIN), revents: 0)
        while poll(&polled, 1, 0) == 1 && polled.revents & Int16(POLLIN) != 0 { takeReports() }
    }

    private mutating func takeCommit() {
        var byte: UInt8 = 0
        if read(lifeline, &byte, 1) != 1 {
            // `create` died before the cluster was on record: nobody could find or end it.
            _exit(1)
        }
        isCommitted = true
        close(lifeline)
        close(reports)
        // The nodes inherited none of these; what is left is the wait.
    }

    private mutating func reap() {
        while true {
            var status: Int32 = 0
            let pid = waitpid(-1, &status, WNOHANG)
            if pid <= 0 { return }
            guard let index = nodes.firstIndex(where: { $0.pid == pid }) else { continue }
            let node = ClusterNode(index: index)
            // What the node said before it ended is the cause; that it ended is only the consequence.
            takeWaitingReports()
            tell(ClusterReport(.failed, node: index, value: ECHILD, text: "keep the node's init running"))
            let text = "node \(node.name) ended: its init \(ServiceStatus.words(endStatus: status))\n"
            _ = text.withCString { Glibc.write(2, $0, strlen($0)) }
        }
    }
}
