import Diagnostics
import JobModel

/// The life of one parallel job as a pure function: an event in, effects out.
///
///     joining ──all ready──▶ running ──first failure, end, cancel──▶ ending ──all nodes empty──▶ ended
///
/// It knows no socket, no process and no clock: times come in with the events. What happens first
/// decides the job's outcome; everything later is consequence.
package struct JobStateMachine: Sendable {
    package enum Phase: Equatable, Sendable { case joining, running, ending, ended }

    package enum Event: Equatable, Sendable {
        /// The node's agent has connected and proved itself.
        case agentJoined(node: Int)
        /// Its container stands.
        case agentReady(node: Int)
        /// It cannot do its part.
        case agentFailed(node: Int, Diagnostic)
        /// Nothing of the job is left there; `unkillable` processes ignored KILL.
        case agentEmpty(node: Int, unkillable: Int)
        /// Its connection broke or it fell silent.
        case agentLost(node: Int)
        /// The command that started the agents ended, having said `said`.
        case fanOutExited(ExitStatus, said: String)
        case rankStarted(rank: Int)
        case rankExited(rank: Int, ExitStatus)
        /// A rank could not run: `code` is the job's exit code then.
        case rankRefused(rank: Int, code: Int32, Diagnostic)
        /// mpirun, mpiexec or the ranks' srun ended.
        case launcherExited(ExitStatus)
        /// The job cannot be started as asked, seen after the nodes were ready.
        case refused(code: Int32, Diagnostic)
        case interrupted
        case terminated(signal: Int32)
        case timePassed
    }

    package enum Effect: Equatable, Sendable {
        /// Everybody is there: tell the agents what to prepare.
        case prepare
        /// Everybody is ready: start the ranks.
        case begin
        case stop(graceMilliseconds: Int)
        /// One line about the job's own end.
        case announce(String)
        case report(Diagnostic)
        /// Ranks' states and what the next Ctrl-C does.
        case showState
        /// Agents may still be on their way: end the command that starts them.
        case endFanOut
        case finish(code: Int32)
    }

    package struct Setup: Sendable {
        package var map: TaskMap
        /// A launcher (mpirun, srun) starts the ranks; otherwise the agents do.
        package var hasLauncher: Bool
        package var graceMilliseconds: Int
        package var joinTimeoutMilliseconds: Int
        /// What to type to see whether the nodes can be reached at all, and whether they were taken away.
        package var advice: SystemAdvice
        /// A failing rank does not end the others.
        package var keepsGoing = false
        /// From the job's start to its end at the latest, and whose limit that is.
        package var timeLimit: (milliseconds: Int, whose: String)?
        /// From the first rank's good end to the job's at the latest.
        package var exitTimeoutMilliseconds: Int?
        package init(
            map: TaskMap, hasLauncher: Bool, graceMilliseconds: Int, joinTimeoutMilliseconds: Int,
            advice: SystemAdvice = SystemAdvice()
        ) {
            self.advice = advice
            self.map = map
            self.hasLauncher = hasLauncher
            self.graceMilliseconds = graceMilliseconds
            self.joinTimeoutMilliseconds = joinTimeoutMilliseconds
        }
    }

    package private(set) var phase = Phase.joining
    /// May be corrected before the job begins: which launcher is known when the images were looked into.
    package var setup: Setup
    private var joined: Set<Int> = []
    private var ready: Set<Int> = []
    private var empty: Set<Int> = []
    package private(set) var started: Set<Int> = []
    package private(set) var exits: [Int: ExitStatus] = [:]
    /// The rank that was the first not to exit 0, and how it ended.
    package private(set) var firstFailing: (rank: Int, status: ExitStatus)?
    private var code: Int32?
    private var startedAt: Int
    private var endBy: Int?
    private var lastInterrupt: Int?
    /// Of a job that keeps going.
    private var firstFailure: ExitStatus?
    /// The launcher's failure ended the job. It is said when the nodes have answered: one of them
    /// that turns out to be lost is the cause, and the launcher only saw it first.
    private var launcherWord: String?
    /// The launcher ended well but not every rank's report has arrived.
    private var reportsDueBy: Int?
    /// A rank died by TERM or KILL that we did not send; the launcher's own code may say more (MPI_Abort).
    private var suspect: (rank: Int, status: ExitStatus, until: Int)?

    /// A node that was lost before the job began. The command that starts the agents takes the others down when
    /// one of them fails, and what it says of that is the cause.
    private var lostEarly: (node: Int, how: String, until: Int)?
    /// The first rank that ended well while others ran, when, and whether that was mentioned.
    private var early: (rank: Int, at: Int, isSaid: Bool)?

    /// What happened since it was last taken, for the job's record; kept when somebody takes it.
    package var journal: [Event] = []
    package var keepsJournal = false

    /// A second Ctrl-C counts when it comes within this.
    package static let interruptWindowMilliseconds = 2000
    /// How long nodes may take beyond the grace to report that nothing is left.
    package static let teardownMilliseconds = 10_000
    private static let reportsMilliseconds = 2000
    private static let suspectMilliseconds = 1000
    /// Ranks of one program end together; when one is ahead by this, its user is told.
    package static let earlyExitMilliseconds = 30_000

    package init(_ setup: Setup, now: Int) {
        self.setup = setup
        startedAt = now
    }

    private var nodeCount: Int { setup.map.nodes.count }
    package func nodeName(_ node: Int) -> String { setup.map.nodes[node].name }
    /// The job's node of that name, with or without its domain; nil when there is none.
    package func node(named name: String) -> Int? {
        setup.map.nodes.firstIndex { $0.name == name }
            ?? setup.map.nodes.firstIndex { $0.name.prefix { $0 != "." } == name.prefix { $0 != "." } }
    }
    /// Names of the nodes that are waited for: those that have not come, or when all have, those not ready.
    package var missingNodes: [String] {
        let present = joined.count < nodeCount ? joined : ready
        return setup.map.nodes.indices.filter { !present.contains($0) }.map(nodeName)
    }

    /// Takes one event. `now` is in milliseconds on a clock that only goes forward.
    package mutating func handle(_ event: Event, now: Int) -> [Effect] {
        // An agent that has said its last word closes its connection: no node is lost by that.
        if case .agentLost(let node) = event, empty.contains(node) { return [] }
        if keepsJournal, event != .timePassed { journal.append(event) }
        // Late words of processes that are already written off.
        if phase == .ended { return [] }
        return switch event {
        case .agentJoined, .agentReady, .agentFailed, .agentEmpty, .agentLost, .fanOutExited:
            handleNodes(event, now)
        case .rankStarted, .rankExited, .rankRefused, .launcherExited, .refused: handleRanks(event, now)
        case .interrupted: interrupt(now)
        case .terminated(let signal): end(ExitCode.signal(signal), [], now)
        case .timePassed: handleTime(now)
        }
    }

    // MARK: Nodes

    private mutating func handleNodes(_ event: Event, _ now: Int) -> [Effect] {
        switch event {
        case .agentJoined(let node):
            guard phase == .joining, joined.insert(node).inserted, joined.count == nodeCount else { return [] }
            return [.prepare]
        case .agentReady(let node):
            guard phase == .joining, ready.insert(node).inserted, ready.count == nodeCount, lostEarly == nil else {
                return []
            }
            phase = .running
            return [.begin]
        case .agentFailed(let node, let diagnostic):
            empty.insert(node)
            return end(ExitCode.ownFailure, [.report(diagnostic)], now)
        case .agentEmpty(let node, let unkillable):
            empty.insert(node)
            var effects: [Effect] = []
            if unkillable > 0 {
                effects.append(.announce("\(unkillable) unkillable processes on \(nodeName(node))"))
            }
            if code == nil, phase == .joining { return loseEarly(node, "was ended", now) + effects }
            // An agent that ends unasked was told to by the batch system.
            if code == nil { return end(ExitCode.ownFailure, effects + [.report(lost(node, "was ended"))], now) }
            return effects + finishIfEmpty()
        case .agentLost(let node):
            empty.insert(node)
            if code == nil, phase == .joining { return loseEarly(node, "lost its connection", now) }
            let report = Effect.report(lost(node, "lost its connection"))
            if code == nil { return end(ExitCode.ownFailure, [report], now) }
            guard launcherWord != nil else { return finishIfEmpty() }
            // The launcher only noticed first what the node's end had caused.
            launcherWord = nil
            code = ExitCode.ownFailure
            return [report] + finishIfEmpty()
        case .fanOutExited(let status, let said):
            guard phase == .joining, code == nil else { return finishIfEmpty() }
            return end(ExitCode.ownFailure, [.report(fanOutFailure(status, said))], now)
        default: return []
        }
    }

    private mutating func loseEarly(_ node: Int, _ how: String, _ now: Int) -> [Effect] {
        if lostEarly == nil { lostEarly = (node, how, now + Self.reportsMilliseconds) }
        return []
    }

    private func lost(_ node: Int, _ how: String) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("node-lost"), nodeName(node), reasons: ["the job's agent there \(how)"],
            remedies: setup.advice.whenLost)
    }

    private func fanOutFailure(_ status: ExitStatus, _ said: String) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("agents-not-started"), HostList(missingNodes).description,
            reasons: ["the command that starts the agents \(status)"] + (said.isEmpty ? [] : [said]),
            remedies: setup.advice.whenUnreached)
    }

    // MARK: Ranks

    private mutating func handleRanks(_ event: Event, _ now: Int) -> [Effect] {
        switch event {
        case .rankStarted(let rank):
            started.insert(rank)
            return []
        case .rankExited(let rank, let status): return rankExited(rank, status, now)
        case .rankRefused(let rank, let code, let diagnostic):
            if exits[rank] == nil { exits[rank] = .exited(code) }
            return self.code == nil ? end(code, [.report(diagnostic)], now) : []
        case .launcherExited(let status): return launcherExited(status, now)
        case .refused(let code, let diagnostic): return end(code, [.report(diagnostic)], now)
        default: return []
        }
    }

    private mutating func rankExited(_ rank: Int, _ status: ExitStatus, _ now: Int) -> [Effect] {
        if exits[rank] == nil { exits[rank] = status }
        guard code == nil else { return [] }
        if !status.isSuccess, firstFailing == nil { firstFailing = (rank, status) }
        let allDone = exits.count == setup.map.size
        if status.isSuccess {
            if early == nil, !allDone { early = (rank, now, false) }
            return allDone && (!setup.hasLauncher || reportsDueBy != nil) ? end(firstFailure?.code ?? 0, [], now) : []
        }
        if setup.keepsGoing {
            if firstFailure == nil { firstFailure = status }
            let place = setup.map.place(of: rank).map { " on \(nodeName($0.node))" } ?? ""
            let word = Effect.announce("rank \(rank)\(place) \(status)" + (allDone ? "" : "; the others go on"))
            return allDone ? end(firstFailure?.code ?? 0, [word], now) : [word]
        }
        if setup.hasLauncher, status == .signaled(9) || status == .signaled(15) {
            if suspect == nil { suspect = (rank, status, now + Self.suspectMilliseconds) }
            return []
        }
        return blame(rank, status, now)
    }

    private mutating func blame(_ rank: Int, _ status: ExitStatus, _ now: Int) -> [Effect] {
        let place = setup.map.place(of: rank).map { " on \(nodeName($0.node))" } ?? ""
        return end(status.code, [.announce("rank \(rank)\(place) \(status)")], now)
    }

    private mutating func launcherExited(_ status: ExitStatus, _ now: Int) -> [Effect] {
        guard code == nil else { return [] }
        if status.isSuccess {
            if let suspect { return blame(suspect.rank, suspect.status, now) }
            if exits.count == setup.map.size { return end(0, [], now) }
            reportsDueBy = now + Self.reportsMilliseconds
            return []
        }
        if let suspect, status.code >= 124 { return blame(suspect.rank, suspect.status, now) }
        let what = started.isEmpty ? "the MPI launcher \(status) before any rank ran" : "the MPI launcher \(status)"
        launcherWord = what
        return end(status.code, [], now)
    }

    // MARK: The end

    private mutating func end(_ code: Int32, _ effects: [Effect], _ now: Int) -> [Effect] {
        guard self.code == nil else { return finishIfEmpty() }
        let wasJoining = phase == .joining
        self.code = code
        phase = .ending
        endBy = now + setup.graceMilliseconds + Self.teardownMilliseconds
        // Agents that have not come yet will find nobody; those that have clean up.
        for node in setup.map.nodes.indices where wasJoining && !joined.contains(node) { empty.insert(node) }
        return effects + [.stop(graceMilliseconds: setup.graceMilliseconds)] + (wasJoining ? [.endFanOut] : [])
            + finishIfEmpty()
    }

    private mutating func finishIfEmpty() -> [Effect] {
        guard phase == .ending, let code, empty.count == nodeCount else { return [] }
        phase = .ended
        return announceLauncher() + [.finish(code: code)]
    }

    private func announceLauncher() -> [Effect] { launcherWord.map { [.announce($0)] } ?? [] }

    private mutating func interrupt(_ now: Int) -> [Effect] {
        defer { lastInterrupt = now }
        if phase == .ending {
            // Nodes that do not answer are not given a long grace any more either.
            endBy = min(endBy ?? .max, now + Self.teardownMilliseconds)
            return [.stop(graceMilliseconds: 0)]
        }
        guard let lastInterrupt, now - lastInterrupt <= Self.interruptWindowMilliseconds else { return [.showState] }
        return end(ExitCode.signal(2), [.announce("cancelled; Ctrl-C again kills at once")], now)
    }

    /// A Ctrl-Z now comes right after a Ctrl-C, and there is a job to go away from.
    package func mayDetach(now: Int) -> Bool {
        guard let lastInterrupt, phase == .joining || phase == .running else { return false }
        return now - lastInterrupt <= Self.interruptWindowMilliseconds
    }

    private mutating func handleTime(_ now: Int) -> [Effect] {
        if let limit = setup.timeLimit, phase == .joining || phase == .running, now - startedAt >= limit.milliseconds {
            return end(ExitCode.timeLimit, [.announce(limit.whose)], now)
        }
        switch phase {
        case .joining:
            if let lostEarly, now >= lostEarly.until {
                return end(ExitCode.ownFailure, [.report(lost(lostEarly.node, lostEarly.how))], now)
            }
            guard now - startedAt >= setup.joinTimeoutMilliseconds else { return [] }
            let missing = missingNodes
            let diagnostic = Diagnostic(
                DiagnosticCode("join-timeout"), HostList(missing).description,
                reasons: [
                    "\(missing.count) of \(nodeCount) nodes did not join within \(setup.joinTimeoutMilliseconds / 1000) s"
                ],
                remedies: setup.advice.whenUnreached + ["--join-timeout SECONDS waits longer"])
            return end(ExitCode.ownFailure, [.report(diagnostic)], now)
        case .running:
            if let suspect, now >= suspect.until { return blame(suspect.rank, suspect.status, now) }
            if let reportsDueBy, now >= reportsDueBy { return unreported(now) }
            return considerEarly(now)
        case .ending:
            guard let endBy, now >= endBy, let code else { return [] }
            phase = .ended
            let silent = setup.map.nodes.indices.filter { !empty.contains($0) }.map(nodeName)
            return announceLauncher() + [
                .announce("no word from \(HostList(silent).description) that all processes ended"), .endFanOut,
                .finish(code: code),
            ]
        case .ended: return []
        }
    }

    /// A rank that ended long before the others: legal where programs differ, a sign of trouble elsewhere.
    private mutating func considerEarly(_ now: Int) -> [Effect] {
        guard let early else { return [] }
        let left = setup.map.size - exits.count
        let place = setup.map.place(of: early.rank).map { " on \(nodeName($0.node))" } ?? ""
        let what = "rank \(early.rank)\(place) exited 0"
        if let limit = setup.exitTimeoutMilliseconds, now - early.at >= limit {
            let diagnostic = Diagnostic(
                DiagnosticCode("exit-timeout"), what,
                reasons: ["\(left) ranks still ran \(Double(limit) / 1000) s later"],
                remedies: ["--exit-timeout TIME gives them longer, without it they take what they need"])
            return end(ExitCode.ownFailure, [.report(diagnostic)], now)
        }
        guard !early.isSaid, now - early.at >= Self.earlyExitMilliseconds else { return [] }
        self.early?.isSaid = true
        return [.announce("\(what) \(Self.earlyExitMilliseconds / 1000) s ago; \(left) ranks still run")]
    }

    /// The launcher says all is well but ranks never presented themselves.
    private mutating func unreported(_ now: Int) -> [Effect] {
        if !started.isEmpty { return end(0, [], now) }
        let diagnostic = Diagnostic(
            DiagnosticCode("mpi-mismatch"), "the MPI launcher", reasons: ["ended without having started a rank"],
            remedies: ["--launcher direct starts the command without MPI"])
        return end(ExitCode.ownFailure, [.report(diagnostic)], now)
    }
}
