import ContainerLaunch
import Diagnostics
import Glibc
import ImageStore
import JobModel
import JobWire
import LinuxSystem
import NodeAgent
import Orchestrator
import Processes
import Telemetry
import VirtualCluster

extension JobLeader {
    func act(_ effects: [JobStateMachine.Effect]) {
        recordJournal(effects)
        for effect in effects {
            switch effect {
            case .prepare:
                fanOut?.removeSecretFile()
                prepareAgents()
            case .begin: begin()
            case .stop(let grace):
                // What is typed from now on concerns the job's end, not rank 0.
                giveTerminalBack()
                sendToAll(.stop(graceMilliseconds: grace))
                // The step ends with its ranks; told now, Slurm would cut their grace.
                if grace == 0 { step?.end(SIGKILL) }
            case .announce(let text): note(text)
            case .report(let diagnostic): streams.add(2, Array(diagnostic.rendered().utf8))
            case .showState: showState()
            case .endFanOut: endFanOut()
            case .finish(let code): finish(code)
            }
        }
    }

    private func prepareAgents() {
        for (node, link) in agents {
            guard let assignment = assignment(for: node) else {
                let diagnostic = Diagnostic(
                    DiagnosticCode("installation"), "the working directory", reasons: ["cannot be read"])
                return act(machine.handle(.refused(code: ExitCode.ownFailure, diagnostic), now: MonotonicTime.now()))
            }
            link.connection.send(.job(assignment))
            link.connection.flush()
        }
    }

    private func begin() {
        endSpread()
        takeTerminal()
        if hasToldSystem { tellSystem("running") }
        switch rankStart {
        case .direct(let wireUp, _):
            for rank in 0..<job.map.size {
                guard let place = job.map.place(of: rank) else { continue }
                let part = job.part(of: rank)
                let environment =
                    part.environment + [
                        EnvironmentBlock.entry("TRIREME_RANK", rank),
                        EnvironmentBlock.entry("TRIREME_LOCAL_RANK", place.localRank),
                        // torchrun's words, for programs that need no MPI.
                        EnvironmentBlock.entry("RANK", rank), EnvironmentBlock.entry("LOCAL_RANK", place.localRank),
                    ]
                launch(
                    Launch(
                        arguments: part.command, environment: environment, rank: rank, takesInput: rank == 0,
                        wireUp: wireUp),
                    on: place.node)
            }
        case .launcher(let arguments, let environment):
            launch(Launch(arguments: arguments, environment: environment), on: 0, isLauncher: true)
            inputTarget = (0, Agent.rankInputChannel)
        case .step(let arguments):
            inputTarget = (0, Agent.rankInputChannel)
            do throws(SyscallError) {
                step = try HelperProcess(arguments, environment: EnvironmentBlock.forCommands())
            } catch {
                let diagnostic = Diagnostic(DiagnosticCode("agents-not-started"), "srun", reasons: [error.sentence])
                act(machine.handle(.refused(code: ExitCode.ownFailure, diagnostic), now: MonotonicTime.now()))
            }
        }
    }

    func launch(_ launch: Launch, on node: Int, isLauncher: Bool = false, origin: (Int, UInt32)? = nil) {
        let channel = nextChannel
        nextChannel += 1
        channels[channel] = Channel(node: node, origin: origin, isLauncher: isLauncher, rank: launch.rank)
        if launch.rank == 0 { inputTarget = (node, channel) }
        agents[node]?.connection.send(.launch(channel: channel, launch))
    }

    // MARK: What agents say

    func take(_ message: WireMessage, from node: Int) {
        let now = MonotonicTime.now()
        switch message {
        case .ready(let signature): heardReady(node, signature: signature)
        case .imageWanted(let path): imageWanted(node, path)
        case .imageFetched(let origin): imageFetched(node, from: origin)
        case .failed(let step, let errno, let subject):
            act(machine.handle(.agentFailed(node: node, failure(node, step, errno, subject)), now: now))
        case .empty(let unkillable): act(machine.handle(.agentEmpty(node: node, unkillable: unkillable), now: now))
        case .rankStarted(let rank, _, _): act(machine.handle(.rankStarted(rank: rank), now: now))
        case .rankExited(let rank, let status): act(machine.handle(.rankExited(rank: rank, status), now: now))
        case .rankRefused(let rank, let errno, let reason): refuse(rank, node, errno, reason, now)
        case .rankOutput(let rank, let stream, let bytes): deliver(bytes, rank: rank, stream: stream)
        case .rankUsage(let rank, let usage):
            recordEvent(.rankUsage, rank: rank, usage: usage)
            let peak = Int64(clamping: usage.peakMemory)
            if peak > peakMemory?.bytes ?? 0 { peakMemory = (rank, peak) }
        case .nodeUsage(let usage): recordEvent(.nodeUsage, node: node, usage: usage)
        case .wired: hasWired = true
        case .memoryKills(let kills): noteMemoryKills(kills, node)
        case .updated(let code, let text): heardUpdated(node, code, text)
        case .fence(let entries): fence(node, entries)
        case .modexWanted(let ticket, let rank): modexWanted(node, ticket, rank)
        case .modex(let ticket, let status, let bytes):
            guard let asker = modexes.removeValue(forKey: ticket) else { return }
            agents[asker.node]?.connection.send(.modex(ticket: asker.ticket, status: status, bytes: bytes))
        case .output(let channel, let stream, let bytes): output(channel, stream, bytes)
        case .consumed(let channel, let count): consumed(channel, count)
        case .exited(let channel, let status): exited(channel, status, now)
        case .refused(let channel, let errno, let subject): refused(channel, node, errno, subject, now)
        case .names(let names): agents[node]?.names = names
        default: takeOfShell(message, from: node)
        }
    }

    /// A PMI barrier over the nodes: when the last has come, everybody gets everybody's keys.
    private func fence(_ node: Int, _ entries: [[UInt8]]) {
        fences[node] = entries
        guard fences.count == job.map.busyNodes else { return }
        let all = fences.sorted { $0.key < $1.key }.flatMap { $0.value }
        fences = [:]
        sendToAll(.fenceDone(all))
    }

    /// Passes a rank's question on to the node of the rank it is about, under a ticket of our own.
    private func modexWanted(_ node: Int, _ ticket: Int, _ rank: Int) {
        guard let place = job.map.place(of: rank), let agent = agents[place.node] else {
            agents[node]?.connection.send(.modex(ticket: ticket, status: -1, bytes: []))
            return
        }
        lastModex = (lastModex + 1) & 0x7FFF_FFFF
        modexes[lastModex] = (node, ticket)
        agent.connection.send(.modexWanted(ticket: lastModex, rank: rank))
    }

    private func noteMemoryKills(_ kills: MemoryKills, _ node: Int) {
        let subject = kills.rank >= 0 ? "rank \(kills.rank) on \(machine.nodeName(node))" : machine.nodeName(node)
        let sentence = memoryLimitSentence(kills.limit, kills: UInt64(max(1, kills.count)), isWhole: kills.isRank)
        let peak = kills.peak > 0 ? ", at a peak of \(byteText(kills.peak))" : ""
        note("\(subject): \(sentence)\(peak) [memory-limit]")
    }

    private var limitRemedies: [String] {
        let inCluster = ClusterRecord.surrounding().map { cluster in
            [
                "the nodes of cluster '\(cluster)' enforce what this machine's control groups allow where the cluster was "
                    + "made: 'trireme doctor' says it"
            ]
        }
        return (inCluster ?? []) + ["--limits best-effort runs the job without it"]
    }

    private func failure(_ node: Int, _ step: String, _ errno: Int, _ subject: String) -> Diagnostic {
        if step == Agent.fetchStep { return spreadFailure(node, errno, subject) }
        if step == NodeNetworkEntry.step { return networkFailure(node, errno, subject) }
        if step == "applyLimits", subject.hasPrefix("--") {
            let option = subject.prefix { $0 != ":" }
            return Diagnostic(
                DiagnosticCode("limit-refused"), "\(option) on \(machine.nodeName(node))",
                reasons: ["this limit cannot be enforced there: \(subject.dropFirst(option.count + 2))"],
                remedies: limitRemedies)
        }
        let cause = errno == 0 ? [] : [SyscallError("x", errno: Int32(errno)).reason]
        return Diagnostic(
            DiagnosticCode("node-not-ready"), machine.nodeName(node),
            reasons: ["the container could not be made there", "\(step) \(subject)"] + cause,
            remedies: ["srun -w \(machine.nodeName(node)) trireme run \(container.image.name) true"])
    }

    private func refuse(_ rank: Int, _ node: Int, _ errno: Int, _ reason: String, _ now: Int) {
        let subject = "rank \(rank) on \(machine.nodeName(node))"
        if errno == 0 {
            let protocols = "the launcher and the MPI of \(container.image.name) do not speak the same protocol"
            let diagnostic = Diagnostic(
                DiagnosticCode("mpi-mismatch"), subject, reasons: [reason] + (rankStart.hasLauncher ? [protocols] : []),
                remedies: [
                    rankStart.hasLauncher
                        ? "--model node uses the image's own launcher"
                        : "--launcher mpirun uses the image's own launcher"
                ])
            act(machine.handle(.rankRefused(rank: rank, code: ExitCode.ownFailure, diagnostic), now: now))
        } else {
            let (code, diagnostic) = notStarted(subject, errno, reason)
            act(machine.handle(.rankRefused(rank: rank, code: code, diagnostic), now: now))
        }
    }

    private func notStarted(_ subject: String, _ errno: Int, _ program: String) -> (Int32, Diagnostic) {
        let isMissing = errno == Int(ENOENT) || errno == Int(ENOTDIR)
        return (
            isMissing ? ExitCode.notFound : ExitCode.notExecutable,
            Diagnostic(
                DiagnosticCode(isMissing ? "command-not-found" : "command-not-executable"), program,
                reasons: [
                    "\(subject), image \(container.image.name)", SyscallError("execve", errno: Int32(errno)).sentence,
                ])
        )
    }

    private func output(_ channel: UInt32, _ stream: Int, _ bytes: [UInt8]) {
        guard let known = channels[channel] else { return }
        if let origin = known.origin {
            agents[origin.node]?.connection.send(.output(channel: origin.request, stream: stream, bytes: bytes))
        } else if known.isLauncher {
            heardFromLauncher(stream, bytes)
        } else {
            deliver(bytes, rank: known.rank, stream: stream)
        }
    }

    /// What mpirun itself says. Once the job is ending on our word it can only complain about that.
    func heardFromLauncher(_ stream: Int, _ bytes: [UInt8]) {
        let lines = launcherVoice.add(bytes)
        if machine.phase == .running { streams.add(stream, lines) }
    }

    private func exited(_ channel: UInt32, _ status: ExitStatus, _ now: Int) {
        guard let known = channels[channel] else { return }
        if let origin = known.origin {
            channels[channel] = nil
            agents[origin.node]?.connection.send(.exited(channel: origin.request, status))
        } else if known.isLauncher {
            if machine.phase == .running { streams.add(2, launcherVoice.finish()) }
            act(machine.handle(.launcherExited(status), now: now))
        }
        if let inputTarget, inputTarget == (known.node, channel) { self.inputTarget = nil }
    }

    private func refused(_ channel: UInt32, _ node: Int, _ errno: Int, _ subject: String, _ now: Int) {
        guard let known = channels[channel] else { return }
        channels[channel] = nil
        if let origin = known.origin {
            agents[origin.node]?.connection.send(.refused(channel: origin.request, errno: errno, subject: subject))
        } else if errno != Int(ECANCELED) {
            let place = known.rank >= 0 ? "rank \(known.rank) on \(machine.nodeName(node))" : machine.nodeName(node)
            let (code, diagnostic) = notStarted(place, errno, subject)
            act(machine.handle(.refused(code: code, diagnostic), now: now))
        }
    }

    // MARK: Standard input and state

    func forwardInput() {
        guard let inputTarget, let bytes = streams.readInput() else { return }
        agents[inputTarget.node]?.connection.send(.input(channel: inputTarget.channel, bytes: bytes))
    }

    private func showState() {
        let size = job.map.size
        let ended = machine.exits.count
        let running = machine.started.count - machine.exits.keys.filter(machine.started.contains).count
        switch machine.phase {
        case .joining:
            note(
                "waiting for \(machine.missingNodes.count) of \(job.map.nodes.count) nodes: \(HostList(machine.missingNodes))"
            )
        default: note("\(size) ranks on \(HostList(job.map.nodes.map(\.name))): \(running) running, \(ended) ended")
        }
        for rank in machine.started.sorted().prefix(64) {
            let place = job.map.place(of: rank).map { machine.nodeName($0.node) } ?? "?"
            note("  rank \(rank) on \(place): \(machine.exits[rank].map(\.description) ?? "running")")
        }
        let mayLeave = foreground.map { $0.holder == nil } ?? false
        let away = mayLeave ? "; Ctrl-Z now leaves it running and gives the shell back" : ""
        note("Ctrl-C again within 2 s cancels the job, a third kills it\(away)")
    }
}
