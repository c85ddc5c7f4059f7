import CLinux
import Glibc
import JobWire
import LaunchPlan
import LinuxSystem
import Processes

/// A container for one process (`--model process`): its command, and the plan that the launcher beside this
/// program (`trireme`) makes it by. The agent stays outside, and so does a rank's shim.
struct RankContainer {
    private let plan: LaunchPlan
    private let store: String
    /// What `-e` and the node say.
    var variables: [[UInt8]] { plan.overrides }

    /// - Parameter encoded: a complete plan of this node (`ContainerPreparation.completed`).
    init(_ encoded: [UInt8], store: String) throws(SyscallError) {
        do throws(LaunchPlanError) { plan = try LaunchPlan(decoding: encoded) } catch {
            throw SyscallError("plan", "\(error)", errno: EBADMSG)
        }
        self.store = store
    }

    /// A command to start, and the descriptor in it, which is the caller's to close.
    struct Start {
        var words: [[UInt8]]
        var environment: [[UInt8]]
        var descriptor: Int32
    }

    /// - Parameters:
    ///   - own: what the process gets over the plan's variables.
    ///   - environment: the launcher's own, whose variables pass as those of any caller.
    func start(_ command: [[UInt8]], own: [[UInt8]], environment: [[UInt8]]) throws(SyscallError) -> Start {
        var plan = self.plan
        plan.overrides = EnvironmentBlock.merged(plan.overrides, own)
        let localRank = EnvironmentBlock.value("TRIREME_LOCAL_RANK", in: own).flatMap { UInt32($0) } ?? 0
        plan.skippedIDs = plan.skippedIDs == 0 ? 0 : localRank
        let encoded: [UInt8]
        do throws(LaunchPlanError) { encoded = try plan.encoded() } catch {
            throw SyscallError("plan", "\(error)", errno: E2BIG)
        }
        let file = try Self.file(encoded, closesOnExecute: false)
        let words = [Self.launcher, "exec", "--plan-fd", "\(file)", "--", plan.imageName].map { Array($0.utf8) }
        // A task of a batch system's step would join the first one's container.
        let settings = ["TRIREME_JOIN=never", "TRIREME_STORE=\(store)"].map { Array($0.utf8) }
        return Start(
            words: words + command, environment: EnvironmentBlock.merged(environment, settings), descriptor: file)
    }

    /// What a batch system tells each task. A container with a clean environment has it, too.
    static func wireUp(_ environment: [[UInt8]]) -> [[UInt8]] {
        environment.filter { entry in ["PMI_", "PMIX_", "SLURM_"].contains { entry.starts(with: $0.utf8) } }
    }

    /// What keeps MPI libraries from ways between processes that containers of their own do not have, where
    /// nobody in `block` has said otherwise. Each user namespace keeps the others from its processes' memory
    /// (process_vm_readv(2)), which Open MPI 4 finds out too late and UCX by the first long message, and from their
    /// descriptors in /proc, by which UCX opens shared memory; a PMIx server's memory and Open MPI's session files lie in directories that only
    /// one container has.
    static func settings(over block: [[UInt8]]) -> [[UInt8]] {
        [
            "OMPI_MCA_btl_vader_single_copy_mechanism=none", "UCX_TLS=^cma", "UCX_POSIX_USE_PROC_LINK=n",
            "PMIX_MCA_gds=hash",
            "OMPI_MCA_orte_tmpdir_base=\(ContainerPreparation.directory)",
        ].filter { EnvironmentBlock.value(String($0.prefix { $0 != "=" }), in: block) == nil }.map { Array($0.utf8) }
    }

    /// A file in memory with `bytes`.
    static func file(_ bytes: [UInt8], closesOnExecute: Bool) throws(SyscallError) -> Int32 {
        // MFD_CLOEXEC is 1 (memfd_create(2)).
        let file = OwnedDescriptor(
            owning: try checked("memfd_create") { linux_memfd_create("plan", closesOnExecute ? 1 : 0) })
        var failure: SyscallError?
        bytes.withUnsafeBytes { content in
            do throws(SyscallError) { try file.writeAll(content) } catch { failure = error }
        }
        if let failure { throw failure }
        return file.release()
    }

    /// All of `file`, wherever its other holders are in it.
    static func content(of file: Int32) -> [UInt8] {
        var status = stat()
        guard fstat(file, &status) == 0, status.st_size <= LaunchPlanLimit.totalBytes else { return [] }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var count = 0
        while count < bytes.count {
            let n = bytes.withUnsafeMutableBytes { buffer in
                pread(file, buffer.baseAddress! + count, buffer.count - count, off_t(count))
            }
            if n < 0, errno == EINTR { continue }
            if n <= 0 { break }
            count += n
        }
        return Array(bytes[..<count])
    }

    /// Installed beside this program.
    private static var launcher: String {
        let own = ContainerPreparation.programPath()
        return String(own[..<(own.lastIndex(of: "/") ?? own.startIndex)]) + "/trireme"
    }
}

extension ChildProcess {
    /// The same in `container`, where there is one.
    ///
    /// - Parameter own: what the process gets there over the container's variables.
    static func start(
        _ arguments: [[UInt8]], in container: RankContainer?, own: [[UInt8]], environment: [[UInt8]], streams: Streams
    ) throws(SyscallError) -> pid_t {
        guard let container else { return try start(arguments, environment: environment, streams: streams) }
        let begun = try container.start(arguments, own: own, environment: environment)
        defer { close(begun.descriptor) }
        return try start(begun.words, environment: begun.environment, streams: streams)
    }
}

/// What a node's agent keeps for the containers of its ranks.
final class RankContainers {
    let plan: RankContainer
    /// The same encoded, for ranks' shims.
    let file: Int32
    private let memory: RankMemory?

    init(_ job: JobAssignment) throws(AgentFailure) {
        var memory: RankMemory?
        let encoded = try ContainerPreparation.completed(job) { plan throws(AgentFailure) in
            plan.overrides = EnvironmentBlock.merged(
                plan.overrides,
                ContainerPreparation.nodeVariables(job)
                    + RankContainer.settings(over: job.environment + plan.overrides))
            memory = try RankMemory(for: &plan, key: job.key)
        }
        self.memory = memory
        do throws(SyscallError) {
            plan = try RankContainer(encoded, store: job.store)
            file = try RankContainer.file(encoded, closesOnExecute: true)
        } catch { throw AgentFailure(step: error.call.text, errno: error.errno, subject: error.subject) }
    }

    deinit { close(file) }
}
