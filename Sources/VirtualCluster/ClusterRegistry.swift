import CLinux
import Diagnostics
import Glibc
import LinuxSystem
import Processes
import SiteConfiguration

/// The clusters on record below `$XDG_STATE_HOME/trireme/clusters`: one directory each
/// with `cluster.json`, `lock`, `logs/`, `status/` and the mount point `space/`.
package struct ClusterRegistry: Sendable {
    package var root: String

    package init(locations: Locations) { root = locations.state + "/clusters" }

    package enum State: Equatable, Sendable {
        case running
        /// Its supervisor is gone: killed, or the machine was restarted.
        case stopped
        /// It runs, as far as its record says, on another machine that shares this directory.
        case elsewhere(String)

        package var word: String {
            switch self {
            case .running: "running"
            case .stopped: "stopped"
            case .elsewhere(let host): "on \(host)"
            }
        }
    }

    package func path(_ name: String) -> String { root + "/" + name }

    /// Every cluster's name, sorted; a directory without a record counts as a stopped cluster.
    package func names() -> [String] {
        guard let directory = opendir(root) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }

    /// nil when there is none or it cannot be understood.
    package func record(_ name: String) -> ClusterRecord? {
        guard let file = try? OwnedDescriptor.open(path(name) + "/cluster.json", O_RDONLY),
            let bytes = try? file.readAll(limit: 4 << 20),
            let json = JSONText(parsing: String(decoding: bytes, as: UTF8.self))
        else { return nil }
        return ClusterRecord(json: json)
    }

    package func state(_ record: ClusterRecord?) -> State {
        guard let record else { return .stopped }
        if record.supervisor.isAlive { return .running }
        if record.outer == ClusterRecord.surrounding() {
            return record.host == HostName.current ? .stopped : .elsewhere(record.host)
        }
        guard let outer = record.outer else { return .elsewhere(record.host) }
        // Made in a node of another cluster, it ended with that one at the latest.
        let around = self.record(outer)
        let isGone = around.map { state($0) == .stopped || $0.created > record.created } ?? true
        return isGone && !record.supervisor.isSeenBelow ? .stopped : .elsewhere("\(record.host) of cluster '\(outer)'")
    }

    /// The processes of running clusters, as far as this user sees them.
    package func members() -> Set<pid_t> {
        let records = names().compactMap { record($0) }.filter { state($0) == .running }
        if records.isEmpty { return [] }
        return ProcessTable.current().below(Set(records.map(\.supervisor.pid)))
            .union(ProcessTable.inNetworks(of: records.flatMap(\.nodes).map(\.process.pid)))
    }

    /// The record of a running cluster.
    package func running(_ name: String) throws(Diagnostic) -> ClusterRecord {
        let known = names()
        guard known.contains(name) else { throw missing(name, among: known) }
        let found = record(name)
        switch state(found) {
        case .running: return found!
        case .stopped:
            throw Diagnostic(
                .clusterStopped, "cluster '\(name)'", reasons: ["is not running any more"],
                remedies: [
                    "start it anew: trireme cluster create \(name) --nodes \(max(1, (found?.nodes.count ?? 2) - 1))",
                    "its logs: trireme cluster logs \(name)",
                ])
        case .elsewhere(let host):
            throw Diagnostic(
                .clusterStopped, "cluster '\(name)'", reasons: ["runs on \(host), not on this machine"],
                remedies: found?.outer.map { ["enter it: trireme cluster exec \($0) \(found?.host ?? "ctl")"] }
                    ?? ["log in to \(host) first"])
        }
    }

    package func missing(_ name: String, among known: [String]) -> Diagnostic {
        Diagnostic(
            .clusterNotFound, "cluster '\(name)'", reasons: ["no such cluster"],
            remedies: NearMiss.nearest(to: name, among: known).map { "did you mean '\($0)'?" }
                + [known.isEmpty ? "make one: trireme cluster create \(name) --nodes 4" : "see 'trireme cluster ls'"])
    }

    /// One node's services as its init last wrote them.
    package func services(_ name: String, node: String) -> [ServiceStatus] {
        guard let file = try? OwnedDescriptor.open("\(path(name))/status/\(node)", O_RDONLY),
            let bytes = try? file.readAll(limit: 1 << 16)
        else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { ServiceStatus(line: $0) }
    }

    // MARK: Changes

    /// The exclusive right to create or delete the cluster `name`; its directory exists
    /// while this is held. It ends with the value, or with the process.
    package struct Lock: ~Copyable {
        let descriptor: OwnedDescriptor
    }

    /// - Parameter waitSeconds: how long another creation or deletion is waited for.
    package func lock(_ name: String, waitSeconds: Int = 0) throws(Diagnostic) -> Lock {
        let path = self.path(name)
        do throws(SyscallError) {
            var attempts = waitSeconds * 20 + 1
            while true {
                try Self.makeDirectories(path)
                let file = try OwnedDescriptor.open(path + "/lock", O_RDWR | O_CREAT, mode: 0o600)
                let raw = file.raw
                if flock(raw, LOCK_EX | LOCK_NB) == 0 {
                    // Whoever deletes removes the directory with this file: then this lock is worth nothing.
                    var held = stat()
                    var named = stat()
                    if fstat(raw, &held) == 0, stat(path + "/lock", &named) == 0, held.st_ino == named.st_ino {
                        return Lock(descriptor: file)
                    }
                    continue
                }
                if errno != EWOULDBLOCK { throw SyscallError("flock", path + "/lock") }
                attempts -= 1
                if attempts <= 0 { break }
                usleep(50_000)
            }
        } catch {
            throw Diagnostic(
                .clusterState, "cluster '\(name)'", reasons: ["cannot use its directory", error.sentence],
                remedies: ["check space and permissions of \(root), or set XDG_STATE_HOME"])
        }
        throw Diagnostic(
            .clusterBusy, "cluster '\(name)'", reasons: ["is being created or deleted by another trireme"],
            remedies: ["wait, then see 'trireme cluster ls'"])
    }

    static func makeDirectories(_ path: String) throws(SyscallError) {
        var current = ""
        for part in path.split(separator: "/") {
            current += "/" + part
            if mkdir(current, 0o755) < 0 && errno != EEXIST {
                // A parent that may not be written but exists answers EROFS or EACCES, not always EEXIST.
                let code = errno
                if access(current, F_OK) != 0 { throw SyscallError("mkdir", current, errno: code) }
            }
        }
    }

    /// Ends the cluster, if it runs, and removes its directory. Returns once no process
    /// of it is left. A cluster that does not exist is not an error.
    /// - Returns: whether there was one.
    package func delete(_ name: String) throws(Diagnostic) -> Bool {
        guard names().contains(name) else { return false }
        let lock = try lock(name, waitSeconds: 10)
        let found = record(name)
        if case .elsewhere(let host) = state(found) {
            let remedies =
                found?.outer.map { outer in
                    [
                        "trireme cluster exec \(outer) \(found?.host ?? "ctl") -- trireme cluster delete \(name)",
                        "it ends with the cluster around it: trireme cluster delete \(outer)",
                    ]
                } ?? ["delete it on \(host)"]
            throw Diagnostic(
                .clusterStopped, "cluster '\(name)'", reasons: ["runs on \(host), not here"], remedies: remedies)
        }
        if let found { try end(found.supervisor, name) }
        removeDirectory(name)
        _ = lock
        return true
    }

    /// Kills a cluster's supervisor and waits until the kernel has ended all below it:
    /// PID 1 of a namespace becomes waitable after its last process (pid_namespaces(7)).
    func end(_ supervisor: ProcessIdentity, _ name: String) throws(Diagnostic) {
        do throws(SyscallError) {
            guard let process = try supervisor.openDescriptor() else { return }
            let raw = process.raw
            try checked("pidfd_send_signal", "\(supervisor.pid)") { linux_pidfd_send_signal(raw, SIGKILL) }
            var polled = pollfd(fd: raw, events: Int16(POLLIN), revents: 0)
            if poll(&polled, 1, 10_000) == 0 {
                throw SyscallError("poll", "process \(supervisor.pid)", errno: ETIMEDOUT)
            }
        } catch {
            if error.errno == ESRCH { return }
            throw Diagnostic(
                .clusterState, "cluster '\(name)'", reasons: ["cannot end its supervisor", error.sentence],
                remedies: ["kill -9 \(supervisor.pid)"])
        }
    }

    func removeDirectory(_ name: String) {
        let path = self.path(name)
        for part in ["logs", "status"] {
            for file in Self.files(in: path + "/" + part) { unlink("\(path)/\(part)/\(file)") }
            rmdir(path + "/" + part)
        }
        rmdir(path + "/space")
        for file in Self.files(in: path) where file != "lock" { unlink(path + "/" + file) }
        // The lock last: until then nobody else may begin here.
        unlink(path + "/lock")
        rmdir(path)
    }

    package static func files(in path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}

extension DiagnosticCode {
    package static let clusterExists = DiagnosticCode("cluster-exists")
    package static let clusterNotFound = DiagnosticCode("cluster-not-found")
    package static let clusterStopped = DiagnosticCode("cluster-stopped")
    package static let clusterBusy = DiagnosticCode("cluster-busy")
    package static let clusterState = DiagnosticCode("cluster-state")
    package static let clusterStartFailed = DiagnosticCode("cluster-start-failed")
    package static let clusterInvalid = DiagnosticCode("cluster-invalid")
    package static let nodeNotFound = DiagnosticCode("node-not-found")
    package static let nodeImageUnfit = DiagnosticCode("node-image-unfit")
    package static let commandNotFound = DiagnosticCode("command-not-found")
    package static let commandNotExecutable = DiagnosticCode("command-not-executable")
    package static let noUserNamespaces = DiagnosticCode("no-user-namespaces")
}
