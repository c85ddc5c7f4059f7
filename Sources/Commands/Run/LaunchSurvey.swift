import ContainerRuntime
import Diagnostics
import Glibc
import HostCheck
import ImageStore
import JobModel
import LinuxSystem
import NodeAgent
import ResourceManagers

/// What the image and the host have for starting ranks, which ways that leaves, and which one is taken.
/// `--explain launch` prints it; a launch decides by it.
struct LaunchSurvey {
    let command: String
    let image: String
    /// The MPI the command uses, or the image's own where the command does not tell.
    let detected: DetectedMPI?
    /// The MPI the command itself is linked with.
    let linked: DetectedMPI?
    /// The image's libpmix, for Open MPI.
    let pmixLibrary: String?
    let isSlurm: Bool
    let isPerProcess: Bool
    let size: Int
    /// Nodes of the job that have no rank.
    private let idleNodes: Int
    private let network: NetworkChoice
    /// What this host's srun can speak with ranks, asked for only when it matters.
    private let slurmKinds: () -> Set<String>?

    init(_ job: JobSpecification, container: JobContainer, allocation: Allocation) throws(Diagnostic) {
        command = String(decoding: job.command.first ?? [], as: UTF8.self)
        image = container.image.name
        size = job.map.size
        isPerProcess = job.model == .process
        idleNodes = job.map.nodes.count - job.map.busyNodes
        network = job.network
        isSlurm = allocation.system == "slurm"
        let files: ContainerFiles
        slurmKinds = {
            // It prints to standard error until Slurm 23, so a shell joins the two.
            let text = Surroundings.current.output(["sh", "-c", "srun --mpi=list 2>&1"])
            return text.map { Set($0.split { !$0.isLetter && !$0.isNumber && $0 != "_" }.map(String.init)) }
        }
        do throws(SyscallError) {
            files = try container.files()
            linked = try Self.linked(job, container, files)
            // Several MPIs and a command that does not tell: what the image itself calls mpirun.
            if let linked {
                detected = linked
            } else if let found = try MPIDetection.detect(image: container.image, command: command, files: files) {
                detected = found
            } else {
                detected = try MPIDetection.detect(image: container.image, command: "mpirun")
            }
            if let detected, case .openMPI = detected.flavour {
                pmixLibrary = try MPIDetection.library(
                    "libpmix.so.2", beside: detected.installation.library, image: container.image)
            } else {
                pmixLibrary = nil
            }
        } catch {
            throw Diagnostic(DiagnosticCode("store-unusable"), container.image.name, reasons: [error.sentence])
        }
        if let other = otherLibrary(job, container, files) {
            throw Diagnostic(
                DiagnosticCode("mpi-mismatch"), ":",
                reasons: [
                    "parts of the job are linked with different MPI libraries: \(linked?.installation.library ?? ""), \(other)"
                ], remedies: ["one job per library"])
        }
    }

    /// Of the first part that is linked with one; the others may be scripts.
    private static func linked(
        _ job: JobSpecification, _ container: JobContainer, _ files: ContainerFiles
    ) throws(SyscallError) -> DetectedMPI? {
        for part in job.parts {
            let command = String(decoding: part.command.first ?? [], as: UTF8.self)
            if let linked = try MPIDetection.linked(image: container.image, command: command, files: files) {
                return linked
            }
        }
        return nil
    }

    /// A part's MPI library that is not the first one's.
    private func otherLibrary(_ job: JobSpecification, _ container: JobContainer, _ files: ContainerFiles) -> String? {
        guard job.parts.count > 1, let linked else { return nil }
        for part in job.parts {
            let command = String(decoding: part.command.first ?? [], as: UTF8.self)
            let library = try? MPIDetection.linked(image: container.image, command: command, files: files)?
                .installation.library
            if let library, library != linked.installation.library { return library }
        }
        return nil
    }

    // MARK: What is possible

    /// Why the ranks cannot be started this way, nil when they can.
    func obstacle(to launcher: LauncherChoice) -> String? {
        if idleNodes > 0, launcher == .mpirun || launcher == .srun {
            return "\(idleNodes) of the nodes have no rank, which \(launcher.rawValue) would leave out"
        }
        switch launcher {
        case .auto: return nil
        case .mpirun where isPerProcess:
            return "--model process: it runs in a container, and cannot make others for its ranks"
        case .direct:
            guard size > 1, case .openMPI = (linked ?? detected)?.flavour, linked != nil, pmixLibrary == nil else {
                return nil
            }
            return
                "\(command) uses Open MPI, which needs PMIx, and \(image) has no libpmix.so.2 to serve it with: "
                + "every rank would start as a job of its own"
        case .mpirun:
            guard let detected else { return "the image has no MPI" }
            return detected.installation.launcher == nil
                ? "the image has an MPI library (\(detected.installation.library)) but no mpirun or mpiexec" : nil
        case .srun:
            guard isSlurm else { return "this is no Slurm allocation" }
            guard network == .host else {
                return "with --network \(network.rawValue) the ranks that srun starts could not reach its PMI"
            }
            guard let kind = fittingKind, let known = slurmKinds(), !known.contains(kind.rawValue) else { return nil }
            return "this host's srun has no --mpi \(kind.rawValue), which \(family) in \(image) needs"
        }
    }

    /// What srun must speak with this image's MPI. The other pairs start every rank as a job of one, silently.
    var fittingKind: ProcessManagement? {
        guard let detected else { return nil }
        if case .mpich = detected.flavour { return .pmi2 }
        return .pmix
    }

    var family: String {
        switch detected?.flavour {
        case .openMPI(let major): major > 0 ? "Open MPI \(major)" : "Open MPI"
        case .mpich: "MPICH or its kin"
        case nil: "no MPI"
        }
    }

    // MARK: What is taken

    /// - Throws: `mpi-mismatch` when no way would give one job of all ranks, or not the one asked for.
    func choose(_ job: JobSpecification) throws(Diagnostic) -> LaunchDecision.Choice {
        let isMPICH = if case .mpich = detected?.flavour { true } else { false }
        let decision = LaunchDecision(
            launcher: job.launcher, model: job.model, processManagement: job.processManagement,
            keepsGoing: job.ranks.keepsGoing, image: image, hasMPI: detected != nil, isMPICH: isMPICH,
            obstacle: obstacle)
        do throws(LaunchDecision.Refusal) { return try decision.choose() } catch {
            throw refusal(error.subject, error.obstacle)
        }
    }

    private func refusal(_ subject: String, _ obstacle: String) -> Diagnostic {
        let others = [LauncherChoice.mpirun, .direct, .srun].filter { self.obstacle(to: $0) == nil }
        if subject.hasPrefix("--model ") || subject == "--launcher srun" || subject.hasPrefix("--mpi"), !isSlurm {
            return Diagnostic(
                DiagnosticCode("no-allocation"), subject, reasons: ["needs a Slurm allocation"],
                remedies: (SearchPath.has("salloc") ? ["salloc -n \(size) trireme run …"] : [])
                    + others.map { "--model node --launcher \($0.rawValue) needs none" }
                    + ["trireme run --cluster NAME …"])
        }
        return Diagnostic(
            DiagnosticCode("mpi-mismatch"), subject, reasons: [obstacle],
            remedies: others.map { "--launcher \($0.rawValue)" } + [
                "trireme run --explain launch … says what was found"
            ])
    }

    // MARK: In words

    func text(_ job: JobSpecification, _ allocation: Allocation) -> String {
        func row(_ name: String, _ value: String) -> String {
            name + String(repeating: " ", count: max(1, 13 - name.count)) + value + "\n"
        }
        let places = job.map.nodes.map { "\($0.name):\($0.tasks)" }.joined(separator: " ")
        var text = row("command", command + (linked.map { ", linked with " + $0.installation.library } ?? ""))
        text += row("image", "\(image): \(family)")
        if let installation = detected?.installation {
            text += row("", "library \(installation.library)")
            text += row("", "launcher \(installation.launcher ?? "none")")
            if case .openMPI = detected?.flavour { text += row("", "libpmix \(pmixLibrary ?? "none")") }
        }
        text += row("host", allocation.system + " job \(allocation.jobID), \(size) ranks: \(places)")
        if let words = JobNetworkWords.text(job) { text += row("network", words) }
        if job.model == .socket {
            let sockets = RankBinding.socketCount()
            text += row(
                "model",
                sockets == 1
                    ? "socket: this machine has one socket, so one container per node"
                    : "socket: refused on nodes of several sockets, as this machine is (\(sockets)); "
                        + "--model node --bind-to socket keeps each rank on its socket")
        }
        if isSlurm, let known = slurmKinds() {
            text += row("", "srun --mpi: " + known.filter { $0.hasPrefix("pm") }.sorted().joined(separator: ", "))
        }
        for launcher in [LauncherChoice.mpirun, .srun, .direct] {
            text += row(
                launcher.rawValue, obstacle(to: launcher).map { "not possible: " + $0 } ?? possibility(launcher))
        }
        if isSlurm, case .mpich = detected?.flavour {
            text += row("not", "srun --mpi=pmi2 trireme run …: " + DeviceFacts.MPI.pmi2Hang)
        }
        do throws(Diagnostic) {
            let choice = try choose(job)
            text += row("chosen", "\(choice.launcher.rawValue): \(choice.reason)")
        } catch { text += row("chosen", "none: " + (error.reasons.first ?? "")) }
        return text
    }

    private func possibility(_ launcher: LauncherChoice) -> String {
        switch launcher {
        case .mpirun: "possible: \(detected?.installation.launcher ?? ""), the other nodes through trireme's agents"
        case .srun:
            "possible: srun --mpi=\(fittingKind?.rawValue ?? "none"), each rank "
                + (isPerProcess ? "in a container of its own" : "joins its node's container")
        case .direct, .auto: "possible: trireme's agents start the ranks" + directWireUp
        }
    }

    private var directWireUp: String {
        guard let detected else { return "" }
        if case .mpich = detected.flavour { return " and serve them PMI-1 and PMI-2" }
        return pmixLibrary == nil ? " without PMIx: the command is not linked with MPI" : " and serve them PMIx"
    }
}
