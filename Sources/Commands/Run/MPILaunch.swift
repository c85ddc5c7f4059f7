import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import JobModel
import JobWire
import LaunchPlan
import LinuxSystem
import NodeAgent
import Processes
import ResourceManagers

/// How the ranks of a job are started: by the agents, by the image's own MPI launcher, or by Slurm.
enum RankStart {
    /// Each rank by its node's agent, which serves it PMI or PMIx. `isMPI`: it is certain to use one of them.
    case direct(WireUp, isMPI: Bool)
    /// One launcher in the first node's container, which reaches the others through the agents.
    case launcher(arguments: [[UInt8]], environment: [[UInt8]])
    /// A Slurm step whose tasks join the nodes' containers.
    case step(arguments: [String])

    var hasLauncher: Bool { if case .direct = self { false } else { true } }
}

/// Settings that let an MPI start across containers without sshd. Each was found necessary by
/// measurement; what happens without it stands beside it.
struct MPILaunch {
    let job: JobSpecification
    let container: JobContainer
    let allocation: Allocation
    let key: String

    /// The agent's binary inside the container.
    private static let agent = "/.trireme/agent"

    func start() throws(Diagnostic) -> RankStart {
        let survey = try LaunchSurvey(job, container: container, allocation: allocation)
        let launcher = try survey.choose(job).launcher
        if job.ranks.keepsGoing, launcher != .direct {
            throw Diagnostic(
                DiagnosticCode("option-value"), "--keep-going",
                reasons: ["\(launcher.rawValue) ends the ranks when one fails"], remedies: ["--launcher direct"])
        }
        if launcher != .mpirun, !job.ranks.launcherArguments.isEmpty {
            let starter = launcher == .srun ? "srun starts the ranks" : "trireme's agents start the ranks"
            throw Self.noLauncher(starter, ["--launcher mpirun, where the image has one"])
        }
        switch launcher {
        case .direct, .auto: return direct(survey)
        case .srun: return try step(survey)
        case .mpirun:
            let launcher = survey.detected?.installation.launcher ?? ""
            if case .mpich = survey.detected?.flavour { return mpich(launcher) }
            return openMPI(launcher, survey.detected?.flavour)
        }
    }

    static func noLauncher(_ reason: String, _ remedies: [String]) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("option-value"), "--mpi-args",
            reasons: ["\(reason): there is no mpirun to give them to"], remedies: remedies)
    }

    /// The agents start the ranks. MPICH and its kin find each other by the PMI the agents serve; OpenMPI
    /// speaks PMIx alone, and without it would start every rank as a job of its own, without a word. Scripts
    /// may use the image's MPI, too, and do not show it.
    private func direct(_ survey: LaunchSurvey) -> RankStart {
        let isMPI = survey.linked != nil
        guard case .openMPI = survey.detected?.flavour, let library = survey.pmixLibrary, job.map.size > 1 else {
            return .direct(.pmi, isMPI: isMPI)
        }
        return .direct(.pmix(library: library), isMPI: isMPI)
    }

    private var hosts: String { Self.hosts(job.map.nodes.map(\.tasks), job.map) }

    private static func hosts(_ slots: [Int], _ map: TaskMap) -> String {
        zip(map.nodes, slots).map { "\($0.name):\($1)" }.joined(separator: ",")
    }

    /// Which nodes Open MPI's mpirun has, with all the slots the allocation has there: what its ranks spawn
    /// (MPI_Comm_spawn) goes where no rank is. Where filling the nodes in turn does not give our map, the
    /// sequential mapper does: it takes the list's entries one by one, and the rest of the list is room.
    ///
    /// Not `--map-by node`: Open MPI 4.1 begins a spawned job's map at the node of the parents' last rank, and
    /// its daemons, which work the map out for themselves, at the first. Where mpirun's node has ranks, too, a
    /// spawned job over several nodes then ends in "PML add procs failed", in containers and without. The
    /// sequential mapper leaves no such mark (orte/mca/plm/base/plm_base_receive.c, `bookmark`).
    static func openMPIHosts(_ map: TaskMap, _ allocation: Allocation, mayMap: Bool) -> [String] {
        let slots = map.nodes.map { node in
            max(node.tasks, allocation.nodes.first { $0.name == node.name }?.slots ?? node.tasks)
        }
        let counts = map.nodes.map(\.tasks)
        if counts.dropLast().elementsEqual(slots.dropLast()) { return ["--host", hosts(slots, map)] }
        let ranks = map.nodes.flatMap { Array(repeating: $0.name, count: $0.tasks) }
        let room = zip(map.nodes, slots).filter { $0.tasks < $1 }.map { "\($0.name):\($1 - $0.tasks)" }
        let list = (ranks + room).joined(separator: ",")
        // A word longer than the kernel takes (MAX_ARG_STRLEN, execve(2)) leaves no room.
        guard mayMap, list.utf8.count < 128 << 10 else { return ["--host", hosts(counts, map)] }
        return ["--map-by", "seq", "--host", list]
    }

    /// Words that place ranks otherwise than we would.
    private var placesItself: Bool {
        let words = [
            "map-by", "rank-by", "ppr", "npernode", "bynode", "byslot", "rankfile", "rf", "N", "host", "H", "hostfile",
        ]
        return job.ranks.launcherArguments.contains {
            words.contains(String($0.drop { $0 == "-" })) && $0.hasPrefix("-")
        }
    }

    /// What the launcher starts as each rank of `parts`.
    private func rank(_ parts: [JobPart]) -> [[UInt8]] {
        [Array(Self.agent.utf8), Array("--rank".utf8)] + RankCommand.words(parts)
    }

    /// The launcher's own parts, so that each has its MPI_APPNUM: `-n RANKS` and what comes `before` it, then the
    /// shim with its command.
    private func ranks(before: [String], _ option: String) -> [[UInt8]] {
        let lines = job.parts.map { part in
            (before + [option, "\(part.tasks)"]).map { Array($0.utf8) }
                + rank([JobPart(tasks: 0, environment: part.environment, command: part.command)])
        }
        return Array(lines.joined(separator: [Array(":".utf8)]))
    }

    /// The run-time layer of Open MPI until 4, ORTE, and PRRTE of 5 have the same settings under other names.
    private func openMPI(_ launcher: String, _ flavour: MPIFlavour?) -> RankStart {
        // Called by its path, mpirun wraps its remote daemons in a shell that reads ./.profile.
        let noPrefix = isInPath(launcher) ? ["--noprefix"] : []
        let words = [launcher] + noPrefix + job.ranks.launcherArguments
        let killSeconds = job.graceMilliseconds / 1000 + 1
        var settings =
            if case .openMPI(let major) = flavour, major >= 5 {
                [
                    "PRTE_MCA_plm=ssh", "PRTE_MCA_ras=^slurm,gridengine,pbs,lsf,flux",
                    "PRTE_MCA_plm_ssh_agent=\(Self.agent)", "PRTE_MCA_hwloc_default_binding_policy=none",
                    "PRTE_MCA_odls_base_sigkill_timeout=\(killSeconds)", "PRTE_MCA_prte_tmpdir_base=/.trireme",
                ]
            } else {
                [
                    // The image has no srun, and its slurm components would look for one.
                    "OMPI_MCA_plm=rsh", "OMPI_MCA_ras=^slurm,gridengine,tm", "OMPI_MCA_plm_rsh_agent=\(Self.agent)",
                    // Bound by core, ranks of virtual nodes all land on processor 0, and one node's map is used
                    // for all.
                    "OMPI_MCA_hwloc_base_binding_policy=none",
                    // Ranks' grace is ours to give; the default cuts it to one second.
                    "OMPI_MCA_odls_base_sigkill_timeout=\(killSeconds)",
                    // Session files in the container's private memory: nothing is left in /tmp by a kill.
                    "OMPI_MCA_orte_tmpdir_base=/.trireme",
                ]
            }
        if geteuid() == 0 || container.plan.options.contains(.imageUser) {
            settings += ["OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"]
            settings += ["PRTE_ALLOW_RUN_AS_ROOT=1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1"]
        }
        var environment = settings.map { Array($0.utf8) }
        let variable = String(decoding: EnvironmentBlock.name(LauncherEnvironment.withoutDisplays), as: UTF8.self)
        let own = container.plan.environment + container.overrides
        if getenv(variable) == nil, EnvironmentBlock.value(variable, in: own) == nil {
            environment.append(LauncherEnvironment.withoutDisplays)
        }
        // Parts would begin where the one before ended.
        let mayMap = if case .openMPI(let major) = flavour { major >= 4 } else { false }
        let places =
            job.parts.count == 1 && !placesItself
            ? Self.openMPIHosts(job.map, allocation, mayMap: mayMap) : ["--host", hosts]
        return .launcher(
            arguments: words.map { Array($0.utf8) } + ranks(before: places, "-np"), environment: environment)
    }

    private func isInPath(_ program: String) -> Bool {
        let directory = program[..<(program.lastIndex(of: "/") ?? program.startIndex)]
        let path = EnvironmentBlock.value("PATH", in: container.plan.environment) ?? "/usr/local/bin:/usr/bin:/bin"
        return path.split(separator: ":").contains(directory)
    }

    private func mpich(_ launcher: String) -> RankStart {
        let words =
            [
                launcher, "-launcher", "ssh", "-launcher-exec", Self.agent, "-rmk", "user", "-hosts", hosts,
            ] + job.ranks.launcherArguments
        return .launcher(arguments: words.map { Array($0.utf8) } + ranks(before: [], "-n"), environment: [])
    }

    // MARK: Started by Slurm

    private func step(_ survey: LaunchSurvey) throws(Diagnostic) -> RankStart {
        let kind = try processManagement(survey)
        let program: String
        do throws(SyscallError) { program = try SiteProgram.path("trireme") } catch {
            throw Diagnostic(DiagnosticCode("installation"), "/proc/self/exe", reasons: [error.sentence])
        }
        if job.model == .process { return try contained(kind) }
        let name = container.image.name
        var command = [program, "exec", "--join-agent", key]
        if container.plan.options.contains(.withoutFilter) { command += ["--seccomp", "off"] }
        for entry in container.overrides { command += ["-e", String(decoding: entry, as: UTF8.self)] }
        // Slurm's PMIx server keeps its shared-memory store in a directory the container does not show.
        command += ["-e", "PMIX_MCA_gds=hash"]
        for entry in EnvironmentBlock.current() {
            let text = String(decoding: entry, as: UTF8.self)
            if SlurmVariables.described.contains(String(text.prefix { $0 != "=" })) { command += ["-e", text] }
        }
        command += ["-e", "TRIREME_AGENT=\(key)", name]
        command += rank(job.parts).map { String(decoding: $0, as: UTF8.self) }
        return .step(
            arguments: SlurmCommands.ranks(
                map: job.map, jobID: allocation.jobID, processManagement: kind, command: command))
    }

    /// Tasks that make a container each: their shims stand outside.
    private func contained(_ kind: ProcessManagement) throws(Diagnostic) -> RankStart {
        let agent: String
        do throws(SyscallError) { agent = try SiteProgram.path("trireme-agent") } catch {
            throw Diagnostic(DiagnosticCode("installation"), "trireme-agent", reasons: [error.sentence])
        }
        let command =
            ["env", "TRIREME_AGENT=\(key)", agent, "--contained-rank"]
            + RankCommand.words(job.parts).map { String(decoding: $0, as: UTF8.self) }
        return .step(
            arguments: SlurmCommands.ranks(
                map: job.map, jobID: allocation.jobID, processManagement: kind, command: command))
    }

    private func processManagement(_ survey: LaunchSurvey) throws(Diagnostic) -> ProcessManagement {
        guard let fitting = survey.fittingKind else {
            return job.processManagement == .auto ? .none : job.processManagement
        }
        if job.processManagement == .auto || job.processManagement == fitting { return fitting }
        throw Diagnostic(
            DiagnosticCode("mpi-mismatch"), "--mpi \(job.processManagement.rawValue)",
            reasons: ["\(survey.family) in \(container.image.name) would start every rank as a job of its own"],
            remedies: ["--mpi \(fitting.rawValue)", "--model node uses the image's own launcher"])
    }
}
