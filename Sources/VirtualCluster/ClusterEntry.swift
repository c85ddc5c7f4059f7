import CLinux
import Diagnostics
import Glibc
import LinuxSystem

/// Runs one command inside a node: `cluster exec`, `run --cluster`.
package struct ClusterEntry {
    package var record: ClusterRecord
    package var node: ClusterRecord.Node
    /// What the command gets when this process is killed. A resource manager's client
    /// wants SIGTERM, so that it can give its allocation back.
    package var parentDeathSignal: Int32

    /// - Throws: `node-not-found` with near misses.
    package init(_ record: ClusterRecord, node name: String?, parentDeathSignal: Int32 = SIGKILL) throws(Diagnostic) {
        let wanted = name ?? "ctl"
        guard let node = record.node(named: wanted) else {
            let names = record.nodes.map(\.name)
            throw Diagnostic(
                .nodeNotFound, "node '\(wanted)'", reasons: ["cluster '\(record.name)' has no such node"],
                remedies: NearMiss.nearest(to: wanted, among: names).map { "did you mean '\($0)'?" }
                    + ["its nodes: \(names.count > 2 ? "ctl, n1 to \(names.last!)" : names.joined(separator: ", "))"])
        }
        self.record = record
        self.node = node
        self.parentDeathSignal = parentDeathSignal
    }

    /// The caller's environment as a command in a node should see it.
    package static func environment(_ caller: [String], record: ClusterRecord) -> [String] {
        let names: Set<Substring> = [
            "PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "HOSTNAME", "XDG_RUNTIME_DIR",
            "DBUS_SESSION_BUS_ADDRESS",
            "USER", "LOGNAME", "HOME", "TRIREME_CLUSTER", "SLURM_CONF",
        ]
        // An allocation of the host's own batch system means nothing inside and would mislead srun and MPI.
        let jobNames: Set<Substring> = ["PE", "PE_HOSTFILE", "JOB_ID", "JOB_NAME", "JOB_SCRIPT", "NSLOTS", "NHOSTS"]
        let isInsideJob = caller.contains { $0.hasPrefix("SLURM_JOB_ID=") || $0.hasPrefix("PE_HOSTFILE=") }
        let passed = caller.filter { entry in
            let name = entry.prefix { $0 != "=" }
            if names.contains(name) { return false }
            let families = ["SLURM", "PMI", "OMPI_", "PRTE_", "SGE_"]
            return !(isInsideJob && (jobNames.contains(name) || families.contains { name.hasPrefix($0) }))
        }
        return passed + [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=\(record.home)",
            "USER=\(record.user)", "LOGNAME=\(record.user)", "TRIREME_CLUSTER=\(record.name)",
        ]
    }

    /// Whether the node shows the caller's `directory` itself, not only one of that name; true where that cannot be seen.
    package func shows(_ directory: String) -> Bool {
        var here = stat()
        var there = stat()
        guard stat(directory, &here) == 0, access("/proc/\(node.process.pid)/root/.", X_OK) == 0 else { return true }
        return stat("/proc/\(node.process.pid)/root\(directory)", &there) == 0
            && here.st_dev == there.st_dev && here.st_ino == there.st_ino
    }

    /// Where a command begins that is started from `directory`.
    package func start(from directory: String) -> String {
        func isThere(_ path: String) -> Bool { access("/proc/\(node.process.pid)/root\(path)/.", X_OK) == 0 }
        if isThere(directory) { return "the node's own \(directory)" }
        return isThere(record.home) ? record.home : "/"
    }

    /// Runs `command` with the caller's streams and returns its exit status, 128+N when
    /// signal N ended it. Not found is 127, not executable 126, as a shell says it.
    ///
    /// - Parameter environment: `K=V` entries, nearly as they are: `TMPDIR` goes when the node has no such directory.
    /// - Parameter directory: the working directory; where the node lacks it, home.
    /// - Parameter watch: looks after the command, told its pid, twice a second; what it returns ends the command
    ///   and is thrown.
    package func execute(
        _ command: [String], environment: [String], directory: String, watch: ((pid_t) -> Diagnostic?)? = nil
    ) throws(Diagnostic) -> Int32 {
        var reason: Diagnostic?
        let status = try run(command, environment, directory, watch, &reason)
        if let reason { throw reason }
        return status
    }

    private func run(
        _ command: [String], _ environment: [String], _ directory: String, _ watch: ((pid_t) -> Diagnostic?)?,
        _ reason: inout Diagnostic?
    ) throws(Diagnostic) -> Int32 {
        do throws(SyscallError) {
            guard let target = try node.process.openDescriptor() else {
                throw SyscallError("pidfd_open", "init of \(node.name)", errno: ESRCH)
            }
            let process = EnteredProcess(
                target: target.raw, command: command, environment: environment, directory: directory,
                home: record.home, parentDeathSignal: parentDeathSignal, watch: watch)
            return try process.run(endedFor: &reason)
        } catch {
            throw Diagnostic(
                .clusterState, "node '\(node.name)'", reasons: ["cannot be entered", error.sentence],
                remedies: ["see 'trireme cluster status \(record.name)'"])
        }
    }
}

/// `VirtualCluster`'s door for other parts.
package enum VirtualCluster {
    /// Runs `command` in a node of the running cluster `name` and returns its exit status.
    /// - Parameter node: nil is the controller.
    /// - Parameter environment: `K=V` entries of the caller; see `ClusterEntry.environment`.
    package static func execute(
        inCluster name: String, registry: ClusterRegistry, node: String? = nil, command: [String],
        environment: [String], directory: String, parentDeathSignal: Int32 = SIGKILL,
        watch: ((pid_t) -> Diagnostic?)? = nil
    ) throws(Diagnostic) -> Int32 {
        let record = try registry.running(name)
        let entry = try ClusterEntry(record, node: node, parentDeathSignal: parentDeathSignal)
        return try entry.execute(
            command, environment: ClusterEntry.environment(environment, record: record), directory: directory,
            watch: watch)
    }
}
