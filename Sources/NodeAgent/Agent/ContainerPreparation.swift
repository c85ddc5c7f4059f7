import ContainerLaunch
import Glibc
import JobModel
import JobWire
import LaunchPlan
import LinuxSystem
import Processes

/// Why an agent cannot do its part: which step, with what errno (0: not a system call), on what.
package struct AgentFailure: Error, Equatable, Sendable {
    package var step: String
    package var errno: Int32
    package var subject: String
    init(step: String, errno: Int32 = Glibc.errno, subject: String) {
        self.step = step
        self.errno = errno
        self.subject = subject
    }

    static var noPlaceForSockets: AgentFailure {
        AgentFailure(step: "open", subject: "a directory of this user's own for sockets (/run/user/UID, /tmp)")
    }
}

/// Makes the node's container around the agent.
enum ContainerPreparation {
    /// Where trireme's own things are inside; a private tmpfs.
    static let directory = "/.trireme"

    /// Enters the container of `job` and returns the environment of its processes.
    ///
    /// `onControlGroup` gets the group that enforces the container's limits, when they need one.
    static func enter(_ job: JobAssignment, onControlGroup: (ControlGroup) -> Void) throws(AgentFailure) -> [[UInt8]] {
        let directory = String(decoding: job.directory, as: UTF8.self)
        guard chdir(directory) == 0 else { throw AgentFailure(step: "chdir", subject: directory) }
        let overrides = EnvironmentBlock.merged(job.overrides, nodeVariables(job))
        if !job.hasNodeContainer { return EnvironmentBlock.merged(job.environment, overrides) }
        let plan = try completed(job)
        var failure: LaunchFailure?
        let network = try job.network.map { wanted throws(AgentFailure) in try NodeNetworkEntry(job, wanted) }
        var networkFailure: AgentFailure?
        let environment = plan.withUnsafeBytes { bytes in
            do throws(LaunchFailure) {
                try enterContainer(plan: bytes, store: job.store, onControlGroup: onControlGroup) {
                    do throws(AgentFailure) { try network?.furnish() } catch { networkFailure = error }
                    return networkFailure.map { $0.errno == 0 ? EIO : $0.errno } ?? 0
                }
            } catch { failure = error }
            return composedEnvironment(plan: bytes, host: job.environment, overrides: overrides)
        }
        if let networkFailure { throw networkFailure }
        if let failure {
            var subject = String(cString: failure.subject)
            if failure.step == .applyLimits, let reason = failure.detail { subject += ": " + String(cString: reason) }
            throw AgentFailure(step: "\(failure.step)", errno: failure.errno, subject: subject)
        }
        return environment
    }

    /// What differs from node to node.
    static func nodeVariables(_ job: JobAssignment) -> [[UInt8]] {
        [
            EnvironmentBlock.entry("TRIREME_JOB_ID", job.jobID),
            EnvironmentBlock.entry("TRIREME_SIZE", job.size),
            EnvironmentBlock.entry("TRIREME_LOCAL_SIZE", job.ranksPerNode[job.nodeIndex]),
            EnvironmentBlock.entry("LOCAL_WORLD_SIZE", job.ranksPerNode[job.nodeIndex]),
            EnvironmentBlock.entry("TRIREME_NODE_RANK", job.nodeIndex),
            EnvironmentBlock.entry("TRIREME_NODE_COUNT", job.nodeNames.count),
            EnvironmentBlock.entry("TRIREME_NODELIST", HostList(job.nodeNames).description),
            EnvironmentBlock.entry("TRIREME_ADDR", job.nodeAddresses[job.nodeIndex]),
            EnvironmentBlock.entry("TRIREME_AGENT", job.key),
            // torchrun's words (PyTorch, "torchrun", environment variables).
            EnvironmentBlock.entry("MASTER_ADDR", job.nodeAddresses.first ?? ""),
            EnvironmentBlock.entry("MASTER_PORT", masterPort(job)),
            EnvironmentBlock.entry("WORLD_SIZE", job.size),
        ]
    }

    /// Below the ports the kernel gives out by itself, another one for each job.
    private static func masterPort(_ job: JobAssignment) -> Int {
        20_000 + Int(job.key.utf8.reduce(UInt32(17)) { $0 &* 31 &+ UInt32($1) } % 12_000)
    }

    /// The plan with this node's parts: the agent's own binary, and names for all nodes.
    ///
    /// MPICH's proxies call back by node name, and minimal images have no /etc/hosts at all.
    ///
    /// - Parameter fit: does what else the node has to do to it.
    static func completed(
        _ job: JobAssignment, fit: (inout LaunchPlan) throws(AgentFailure) -> Void = { _ in }
    ) throws(AgentFailure) -> [UInt8] {
        var plan: LaunchPlan
        do throws(LaunchPlanError) { plan = try LaunchPlan(decoding: job.plan) } catch {
            throw AgentFailure(step: "plan", errno: 0, subject: "\(error)")
        }
        try fit(&plan)
        do throws(LaunchPlanError) {
            // The plan has it already when host libraries lie there; a second one would cover them.
            if !plan.mounts.contains(where: { $0.isTemporary && $0.destination == directory }) {
                plan.mounts.append(LaunchPlan.Mount(source: "", destination: directory, isTemporary: true))
            }
            plan.mounts.append(
                LaunchPlan.Mount(source: programPath(), destination: directory + "/agent", isReadOnly: true))
            plan.mounts.append(
                LaunchPlan.Mount(
                    source: pmixServerPath(), destination: PMIxManagement.program, isReadOnly: true, isOptional: true))
            plan.files.append(LaunchPlan.File(destination: "/etc/hosts", content: hosts(job)))
            return try plan.encoded()
        } catch { throw AgentFailure(step: "plan", errno: 0, subject: "\(error)") }
    }

    /// Installed beside the agent.
    private static func pmixServerPath() -> String {
        let agent = programPath()
        return String(agent[..<(agent.lastIndex(of: "/") ?? agent.startIndex)]) + "/trireme-pmix"
    }

    static func programPath() -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let n = buffer.withUnsafeMutableBytes {
            readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
        }
        return String(decoding: buffer[..<max(0, n)], as: UTF8.self)
    }

    private static func hosts(_ job: JobAssignment) -> [UInt8] {
        var table: [UInt8] = []
        if let file = try? OwnedDescriptor.open("/etc/hosts", O_RDONLY), let own = try? file.readAll(limit: 1 << 20) {
            table = own
        }
        let text = HostTable.text(
            String(decoding: table, as: UTF8.self), names: job.nodeNames, addresses: job.nodeAddresses,
            isPrivate: job.network != nil,
            here: (HostName.current, job.nodeIndex))
        return Array(text.utf8)
    }
}
