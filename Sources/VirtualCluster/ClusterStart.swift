import CLinux
import Diagnostics
import Glibc
import LinuxSystem

/// The start of one cluster as seen through the supervisor's reports: which step
/// is open, which daemons are awaited, and what to say when one of them fails.
struct ClusterStart {
    let specification: ClusterSpecification
    /// The cluster's state directory, for the logs.
    let directory: String
    let progress: (ClusterCreation.Step) -> Void

    /// The inits' pids on the host, by node.
    private(set) var nodePIDs: [Int: Int32] = [:]
    private var readyNodes: Set<Int> = []
    private var readyDaemons: Set<Int> = []
    private var idleNodes = 0
    private var step = Phase.nodes

    private enum Phase: Int, CaseIterable, Comparable {
        case nodes, controller, daemons, idle, ready

        static func < (a: Phase, b: Phase) -> Bool { a.rawValue < b.rawValue }
    }

    init(
        specification: ClusterSpecification, directory: String, progress: @escaping (ClusterCreation.Step) -> Void
    ) {
        self.specification = specification
        self.directory = directory
        self.progress = progress
    }

    /// The step that did not come to its end.
    var unfinishedStep: String? { step == .ready ? nil : words(failedStep ?? step) }
    /// The step of the daemon that ended; daemons start side by side, so an earlier one may still be open.
    private var failedStep: Phase?

    private var scheduler: ClusterScheduler { specification.scheduler }

    private func words(_ phase: Phase) -> String {
        let nodes = specification.nodeCount == 1 ? "n1" : "n1..n\(specification.nodeCount)"
        return switch phase {
        case .nodes: "nodes and network: ctl, \(nodes)"
        case .controller: "controller: \(scheduler.serviceNames(isController: true)) on ctl"
        case .daemons: "compute daemons: \(scheduler.serviceNames(isController: false)) on \(nodes)"
        case .idle, .ready: "\(specification.nodeCount) of \(specification.nodeCount) nodes idle"
        }
    }

    /// Returns when all nodes are idle; throws what failed first.
    mutating func follow(
        _ started: ClusterCreation.StartedSupervisor, _ interrupts: InterruptWatch
    ) throws(Diagnostic) {
        let deadline = MonotonicTime.now() + Int(specification.timeoutSeconds) * 1000
        var nextWaitLine = MonotonicTime.now() + 3000
        var buffer = [UInt8](repeating: 0, count: ClusterReport.byteCount * 32)
        while step != .ready {
            let now = MonotonicTime.now()
            if now >= deadline { throw failure("not ready after \(specification.timeoutSeconds) s", [waitingWords]) }
            if now >= nextWaitLine {
                progress(.waiting(waitingWords))
                nextWaitLine = now + 10_000
            }
            var polled = [
                pollfd(fd: started.reports, events: Int16(POLLIN), revents: 0),
                pollfd(fd: interrupts.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            let wait = min(deadline, nextWaitLine) - now
            if poll(&polled, 2, Int32(max(1, wait))) <= 0 { continue }
            if polled[1].revents != 0 {
                throw failure("interrupted", ["signal \(interrupts.taken())"], code: .clusterStartFailed)
            }
            let n = read(started.reports, &buffer, buffer.count)
            if n <= 0 { throw failure("the supervisor ended", [], log: "supervisor") }
            for start in stride(from: 0, to: n, by: ClusterReport.byteCount) {
                if let report = ClusterReport(bytes: Array(buffer[start..<(start + ClusterReport.byteCount)])) {
                    try take(report)
                }
            }
        }
    }

    private mutating func take(_ report: ClusterReport) throws(Diagnostic) {
        switch report.kind {
        case .namespacesReady: break
        case .nodeStarted: nodePIDs[report.node] = report.value
        case .nodeReady: readyNodes.insert(report.node)
        case .serviceReady:
            if report.service == scheduler.controllerDaemon { isControllerReady = true }
            if report.service == scheduler.nodeDaemon { readyDaemons.insert(report.node) }
        case .nodesIdle: idleNodes = Int(report.value)
        case .serviceEnded:
            let service = report.service?.name ?? "a daemon"
            let node = ClusterNode(index: report.node).name
            failedStep = max(step, report.node == 0 ? .controller : .daemons)
            throw failure(
                "\(service) on \(node) \(ServiceStatus.words(endStatus: report.value))", [],
                log: "\(node).\(service)")
        case .failed: throw stepFailure(report)
        }
        advance()
    }

    private var isControllerReady = false

    private mutating func advance() {
        while step != .ready {
            let isDone =
                switch step {
                case .nodes: readyNodes.count == specification.nodeCount + 1
                case .controller: isControllerReady
                case .daemons: readyDaemons.count == specification.nodeCount
                case .idle: idleNodes >= specification.nodeCount
                case .ready: true
                }
            if !isDone { return }
            progress(.done(words(step)))
            step = Phase(rawValue: step.rawValue + 1)!
        }
    }

    /// `waiting for 1 of 8 nodes: n5`
    private var waitingWords: String {
        let all = Set(0...specification.nodeCount)
        switch step {
        case .nodes: return waiting(all.subtracting(readyNodes), of: all.count)
        case .controller: return "waiting for \(scheduler.controllerDaemon.name) on ctl"
        case .daemons: return waiting(all.subtracting(readyDaemons).subtracting([0]), of: all.count - 1)
        case .idle, .ready:
            return "waiting for \(specification.nodeCount - idleNodes) of \(specification.nodeCount) nodes to be idle"
        }
    }

    private func waiting(_ missing: Set<Int>, of count: Int) -> String {
        let names = missing.sorted().prefix(8).map { ClusterNode(index: $0).name }.joined(separator: ", ")
        return "waiting for \(missing.count) of \(count) nodes: \(names)" + (missing.count > 8 ? ", …" : "")
    }

    // MARK: Failures

    static let namespaceRemedies = [
        "allow them: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns",
        "inside a container: start it with user namespaces allowed",
    ]

    private func stepFailure(_ report: ClusterReport) -> Diagnostic {
        let cause = String(cString: strerror(report.value))
        let sentence = report.text + ": " + cause.prefix(1).lowercased() + cause.dropFirst()
        if report.node == ClusterReport.supervisor {
            let isNamespace = report.value == EPERM || report.value == ENOSPC && report.text.contains("namespaces")
            return failure(
                sentence, [], code: isNamespace ? .noUserNamespaces : .clusterStartFailed,
                remedies: isNamespace ? Self.namespaceRemedies : [])
        }
        return failure(
            "node \(ClusterNode(index: report.node).name)", [sentence],
            remedies: report.value == ENOSPC ? ["make space on the file system of \(directory)"] : [])
    }

    /// - Parameter log: the log whose last lines say more, without its suffix.
    func failure(
        _ what: String, _ reasons: [String], log: String? = nil, code: DiagnosticCode = .clusterStartFailed,
        remedies: [String] = []
    ) -> Diagnostic {
        var reasons = [what] + reasons
        if let log {
            let lines = ClusterLog.lastLines(of: "\(directory)/logs/\(log).log", count: 10)
            if !lines.isEmpty { progress(.logLine("last lines of \(log).log:")) }
            for line in lines { progress(.logLine("| " + line)) }
            if let last = lines.last { reasons.append(last) }
        }
        return Diagnostic(
            code, "cluster '\(specification.name)'", reasons: ["did not start"] + reasons,
            remedies: remedies + ["keep the logs of a failed start with --retain"])
    }
}

/// Turns Ctrl-C and its kin into something to poll, so that a start can be undone.
struct InterruptWatch {
    let descriptor: Int32
    private let previous: UInt64

    init() {
        let heard = ForwardedSignals.heard([SIGINT, SIGTERM, SIGHUP, SIGQUIT])
        let mask = heard.reduce(UInt64(0)) { $0 | 1 << UInt64($1 - 1) }
        var old: UInt64 = 0
        _ = linux_sigprocmask(SIG_BLOCK, mask, &old)
        previous = old
        descriptor = linux_signalfd(mask, Int32(O_CLOEXEC | O_NONBLOCK))
    }

    /// The number of the signal that came.
    func taken() -> Int {
        var info = [UInt8](repeating: 0, count: 128)
        return read(descriptor, &info, info.count) > 0 ? Int(info[0]) : 0
    }

    /// What came meanwhile is forgotten: it has been answered.
    func restore() {
        while taken() != 0 {}
        _ = linux_sigprocmask(SIG_SETMASK, previous, nil)
        close(descriptor)
    }
}

/// The daemons' logs on the host.
package enum ClusterLog {
    /// The last lines of a file, from at most its last 16 KiB; none when it cannot be read.
    package static func lastLines(of path: String, count: Int) -> [String] {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY) else { return [] }
        let size = lseek(file.raw, 0, SEEK_END)
        lseek(file.raw, max(0, size - 16384), SEEK_SET)
        guard let bytes = try? file.readAll(limit: 1 << 20) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").suffix(count).map(String.init)
    }
}
