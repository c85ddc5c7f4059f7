import CLinux
import Diagnostics
import Glibc
import LinuxSystem
import Processes

/// Starts a cluster: prepares its directory, clones the supervisor, follows its
/// reports until every node is idle, and puts the cluster on record. Whatever
/// fails on the way is undone.
package struct ClusterCreation {
    package var specification: ClusterSpecification
    package var registry: ClusterRegistry
    /// Leaves the directory with the logs behind when the start fails.
    package var retainsFailure: Bool
    /// Receives a line per finished step.
    package var progress: (Step) -> Void

    package init(
        specification: ClusterSpecification, registry: ClusterRegistry, retainsFailure: Bool,
        progress: @escaping (Step) -> Void
    ) {
        self.specification = specification
        self.registry = registry
        self.retainsFailure = retainsFailure
        self.progress = progress
    }

    /// A step of the start and whether it was taken; a wait is neither.
    package enum Step: Equatable, Sendable {
        case done(String)
        case failed(String)
        case waiting(String)
        /// A line of a failing daemon's log.
        case logLine(String)
    }

    /// Ends with the cluster ready: every node idle as the controller sees it.
    package func run() throws(Diagnostic) -> ClusterRecord {
        let name = specification.name
        try refuseExisting()
        // Until the start is complete or undone: a second Ctrl-C must not stop the undoing.
        let interrupts = InterruptWatch()
        defer { interrupts.restore() }
        let lock = try registry.lock(name)
        try refuseExisting()
        try cleanDead()
        let started: StartedSupervisor
        do { started = try start() } catch {
            registry.removeDirectory(name)
            throw error
        }
        var start = ClusterStart(specification: specification, directory: registry.path(name), progress: progress)
        do throws(Diagnostic) {
            try start.follow(started, interrupts)
            let record = try record(started, start)
            try put(record)
            var byte: UInt8 = 1
            if write(started.lifeline, &byte, 1) != 1 { throw start.failure("the supervisor ended", []) }
            close(started.lifeline)
            close(started.reports)
            _ = lock
            return record
        } catch {
            if let unfinished = start.unfinishedStep { progress(.failed(unfinished)) }
            kill(started.pid, SIGKILL)
            var status: Int32 = 0
            waitpid(started.pid, &status, 0)
            if retainsFailure {
                var kept = error
                kept.remedies.append(
                    "kept for inspection: \(registry.path(name))/logs; remove it with 'trireme cluster delete \(name)'")
                throw kept
            }
            registry.removeDirectory(name)
            throw error
        }
    }

    private func refuseExisting() throws(Diagnostic) {
        let name = specification.name
        let found = registry.record(name)
        switch registry.state(found) {
        case .stopped: return
        case .running:
            throw Diagnostic(
                .clusterExists, "cluster '\(name)'", reasons: ["exists and is running"],
                remedies: [
                    "use it: trireme cluster exec \(name) -- COMMAND", "or remove it: trireme cluster delete \(name)",
                ])
        case .elsewhere(let host):
            throw Diagnostic(
                .clusterExists, "cluster '\(name)'", reasons: ["exists on \(host)"],
                remedies: ["choose another name, or delete it on \(host)"])
        }
    }

    /// What a dead cluster of this name left is removed, and the new directories made.
    private func cleanDead() throws(Diagnostic) {
        let path = registry.path(specification.name)
        for part in ["logs", "status"] {
            for file in ClusterRegistry.files(in: path + "/" + part) { unlink("\(path)/\(part)/\(file)") }
        }
        unlink(path + "/cluster.json")
        do throws(SyscallError) {
            for part in ["logs", "status", "space"] { try ClusterRegistry.makeDirectories(path + "/" + part) }
        } catch {
            throw Diagnostic(
                .clusterState, "cluster '\(specification.name)'",
                reasons: ["cannot write its directory", error.sentence],
                remedies: ["check space and permissions of \(registry.root), or set XDG_STATE_HOME"])
        }
    }

    /// The cloned supervisor and the ends of its pipes that stay here.
    struct StartedSupervisor {
        var pid: pid_t
        var reports: Int32
        var lifeline: Int32
    }

    private func start() throws(Diagnostic) -> StartedSupervisor {
        do throws(SyscallError) {
            let path = try Self.realPath(registry.path(specification.name))
            let state = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
            let reports = try PipeEnds()
            let lifeline = try PipeEnds()
            var supervisor = Supervisor(
                specification: specification,
                mapping: IDMapping(insideUID: 0, outsideUID: geteuid(), insideGID: 0, outsideGID: getegid()),
                commonFiles: try CommonLayer(specification).files, statePath: path, state: state.raw,
                reports: reports.write, lifeline: lifeline.read)
            let pid = linux_clone(Supervisor.namespaces, nil)
            if pid < 0 { throw SyscallError("clone3") }
            if pid == 0 { supervisor.run() }
            close(reports.write)
            close(lifeline.read)
            return StartedSupervisor(pid: pid, reports: reports.read, lifeline: lifeline.write)
        } catch {
            throw namespaceFailure(error)
        }
    }

    private static func realPath(_ path: String) throws(SyscallError) -> String {
        guard let resolved = realpath(path, nil) else { throw SyscallError("realpath", path) }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    private func namespaceFailure(_ error: SyscallError) -> Diagnostic {
        let isRefusal = error.call == StaticStringName("clone3")
        return Diagnostic(
            isRefusal ? .noUserNamespaces : .clusterStartFailed, "cluster '\(specification.name)'",
            reasons: [isRefusal ? "cannot make user and network namespaces" : "cannot be started", error.sentence],
            remedies: isRefusal ? ClusterStart.namespaceRemedies : [])
    }

    private func record(_ started: StartedSupervisor, _ start: ClusterStart) throws(Diagnostic) -> ClusterRecord {
        do throws(SyscallError) {
            let supervisor = try ProcessIdentity(of: started.pid)
            var nodes: [ClusterRecord.Node] = []
            for node in specification.nodes {
                nodes.append(
                    ClusterRecord.Node(
                        name: node.name, address: node.addressText,
                        process: try ProcessIdentity(of: start.nodePIDs[node.index] ?? 0)))
            }
            return ClusterRecord(
                name: specification.name, scheduler: specification.scheduler, created: ClusterRecord.timestamp(),
                host: HostName.current, image: specification.image, cpusPerNode: specification.cpusPerNode,
                memoryPerNodeMiB: specification.memoryPerNodeMiB, user: specification.account.user,
                home: specification.account.home, supervisor: supervisor, nodes: nodes,
                outer: ClusterRecord.surrounding())
        } catch { throw start.failure("a process ended", [error.sentence]) }
    }

    private func put(_ record: ClusterRecord) throws(Diagnostic) {
        let path = registry.path(specification.name) + "/cluster.json"
        do throws(SyscallError) {
            try OwnedDescriptor.open(path + ".new", O_CREAT | O_WRONLY | O_TRUNC, mode: 0o644)
                .writeAll(record.json.encoded + "\n")
            try checked("rename", path) { rename(path + ".new", path) }
        } catch {
            throw Diagnostic(
                .clusterState, "cluster '\(specification.name)'", reasons: ["cannot be put on record", error.sentence],
                remedies: ["check space and permissions of \(registry.root)"])
        }
    }
}
