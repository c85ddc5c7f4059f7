import Diagnostics
import JobModel
import Orchestrator
import Testing

private typealias Machine = JobStateMachine

/// Two nodes, two ranks each.
private func machine(launcher: Bool = true, running: Bool = true) -> Machine {
    let map = TaskMap(nodes: [.init(name: "n1", tasks: 2), .init(name: "n2", tasks: 2)])
    var machine = Machine(
        .init(map: map, hasLauncher: launcher, graceMilliseconds: 5000, joinTimeoutMilliseconds: 120_000), now: 0)
    if running {
        for node in 0...1 { _ = machine.handle(.agentJoined(node: node), now: 1) }
        for node in 0...1 { _ = machine.handle(.agentReady(node: node), now: 2) }
    }
    return machine
}

private let stop = Machine.Effect.stop(graceMilliseconds: 5000)
private let failure = Diagnostic(DiagnosticCode("test"), "n2")

@Suite struct JoiningTests {
    @Test func beginsWhenAllAreReady() {
        var machine = machine(running: false)
        #expect(machine.handle(.agentJoined(node: 1), now: 1).isEmpty)
        #expect(machine.handle(.agentJoined(node: 1), now: 1).isEmpty, "the same node twice is one node")
        #expect(machine.handle(.agentJoined(node: 0), now: 1) == [.prepare])
        #expect(machine.handle(.agentReady(node: 0), now: 2).isEmpty)
        #expect(machine.missingNodes == ["n2"])
        #expect(machine.handle(.agentReady(node: 1), now: 2) == [.begin])
        #expect(machine.phase == .running)
    }

    @Test func aNodeThatNeverJoinsIsNamed() {
        var machine = machine(running: false)
        _ = machine.handle(.agentJoined(node: 0), now: 1)
        _ = machine.handle(.agentReady(node: 0), now: 1)
        #expect(machine.handle(.timePassed, now: 119_999).isEmpty)
        let effects = machine.handle(.timePassed, now: 120_000)
        guard case .report(let diagnostic)? = effects.first else { return #expect(Bool(false), "\(effects)") }
        #expect(diagnostic.code.rawValue == "join-timeout" && diagnostic.subject == "n2")
        #expect(effects.contains(stop) && effects.contains(.endFanOut))
        #expect(machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 120_001) == [.finish(code: 125)])
    }

    @Test func aFailedNodeEndsTheJob() {
        var machine = machine(running: false)
        for node in 0...1 { _ = machine.handle(.agentJoined(node: node), now: 1) }
        #expect(machine.handle(.agentFailed(node: 1, failure), now: 2) == [.report(failure), stop, .endFanOut])
        #expect(machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 3) == [.finish(code: 125)])
    }

    @Test func srunThatFailsIsQuoted() {
        var machine = machine(running: false)
        let effects = machine.handle(.fanOutExited(.exited(1), said: "srun: error: no"), now: 1)
        guard case .report(let diagnostic)? = effects.first else { return #expect(Bool(false), "\(effects)") }
        #expect(diagnostic.reasons.contains("srun: error: no") && diagnostic.subject == "n[1-2]")
        #expect(effects.last == .finish(code: 125), "nobody had joined: nobody is waited for")
    }
}

@Suite struct RunningTests {
    private func finished(_ machine: inout Machine) -> [Machine.Effect] {
        _ = machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 9000)
        return machine.handle(.agentEmpty(node: 1, unkillable: 0), now: 9000)
    }

    @Test func endsWellWhenLauncherAndRanksDo() {
        var machine = machine()
        for rank in 0...3 { #expect(machine.handle(.rankExited(rank: rank, .exited(0)), now: 3).isEmpty) }
        #expect(machine.handle(.launcherExited(.exited(0)), now: 4) == [stop])
        #expect(finished(&machine) == [.finish(code: 0)])
    }

    @Test func aReportMayComeAfterTheLauncher() {
        var machine = machine()
        for rank in 0...2 { _ = machine.handle(.rankExited(rank: rank, .exited(0)), now: 3) }
        #expect(machine.handle(.launcherExited(.exited(0)), now: 4).isEmpty)
        #expect(machine.handle(.rankExited(rank: 3, .exited(0)), now: 5) == [stop])
    }

    @Test func withoutLauncherTheRanksDecide() {
        var machine = machine(launcher: false)
        for rank in 0...2 { _ = machine.handle(.rankExited(rank: rank, .exited(0)), now: 3) }
        #expect(machine.handle(.rankExited(rank: 3, .exited(0)), now: 3) == [stop])
        #expect(finished(&machine) == [.finish(code: 0)])
    }

    @Test func theFirstFailingRankWins() {
        var machine = machine()
        let first = machine.handle(.rankExited(rank: 3, .exited(42)), now: 3)
        #expect(first == [.announce("rank 3 on n2 exited 42"), stop])
        #expect(machine.handle(.rankExited(rank: 0, .exited(7)), now: 4).isEmpty)
        #expect(machine.handle(.launcherExited(.exited(1)), now: 5).isEmpty)
        #expect(finished(&machine) == [.finish(code: 42)])
    }

    @Test func aRankKilledByTheLauncherLetsTheLauncherSpeakFirst() {
        // MPI_Abort: the launcher kills the others before the aborting rank's code is known.
        var machine = machine()
        #expect(machine.handle(.rankExited(rank: 0, .signaled(9)), now: 3).isEmpty)
        #expect(machine.handle(.launcherExited(.exited(7)), now: 4) == [stop])
        #expect(finished(&machine) == [.announce("the MPI launcher exited 7 before any rank ran"), .finish(code: 7)])
    }

    @Test func whatTheAgentsStarterSaysIsTheCauseOfANodeLostEarly() {
        func lose() -> JobStateMachine {
            var machine = machine(running: false)
            _ = machine.handle(.agentJoined(node: 0), now: 1)
            #expect(machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 2).isEmpty)
            return machine
        }
        func code(_ effects: [JobStateMachine.Effect]) -> String? {
            guard case .report(let diagnostic)? = effects.first else { return nil }
            return diagnostic.code.rawValue + " " + diagnostic.subject
        }
        var quoted = lose()
        #expect(code(quoted.handle(.fanOutExited(.exited(125), said: "no"), now: 3)) == "agents-not-started n2")
        var silent = lose()
        #expect(silent.handle(.timePassed, now: 2001).isEmpty)
        #expect(code(silent.handle(.timePassed, now: 2002)) == "node-lost n1")
    }

    @Test func aLostNodeIsTheCauseThatTheLauncherSawFirst() {
        var machine = machine()
        #expect(machine.handle(.launcherExited(.exited(255)), now: 4) == [stop])
        guard case .report(let diagnostic)? = machine.handle(.agentLost(node: 1), now: 5).first else {
            return #expect(Bool(false), "the loss is not reported")
        }
        #expect(diagnostic.code.rawValue == "node-lost" && diagnostic.subject == "n2")
        #expect(machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 6) == [.finish(code: 125)])
    }

    @Test func anAgentThatSaidItsLastWordIsNotLost() {
        var machine = machine(launcher: false)
        machine.keepsJournal = true
        for rank in 0...3 { _ = machine.handle(.rankExited(rank: rank, .exited(0)), now: 3) }
        for node in 0...1 {
            _ = machine.handle(.agentEmpty(node: node, unkillable: 0), now: 4)
            #expect(machine.handle(.agentLost(node: node), now: 5).isEmpty)
        }
        #expect(machine.phase == .ended)
        #expect(!machine.journal.contains(.agentLost(node: 0)) && !machine.journal.contains(.agentLost(node: 1)))
    }

    @Test func anAgentThatOnlyGoesAwayIsLost() {
        var machine = machine(launcher: false)
        machine.keepsJournal = true
        _ = machine.handle(.agentLost(node: 1), now: 3)
        #expect(machine.journal == [.agentLost(node: 1)])
    }

    @Test func aLostNodeDoesNotExcuseARankThatFailedBefore() {
        var machine = machine()
        _ = machine.handle(.rankExited(rank: 0, .exited(3)), now: 3)
        _ = machine.handle(.launcherExited(.exited(3)), now: 4)
        #expect(machine.handle(.agentLost(node: 1), now: 5).isEmpty)
        #expect(machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 6) == [.finish(code: 3)])
    }

    @Test func aKilledRankIsBlamedAfterAWhile() {
        var machine = machine()
        _ = machine.handle(.rankExited(rank: 1, .signaled(9)), now: 3)
        #expect(machine.handle(.timePassed, now: 900).isEmpty)
        #expect(
            machine.handle(.timePassed, now: 1003) == [.announce("rank 1 on n1 was ended by signal 9 (KILL)"), stop])
        #expect(finished(&machine) == [.finish(code: 137)])
    }

    @Test func aLauncherThatStartsNothingIsNoSuccess() {
        var machine = machine()
        #expect(machine.handle(.launcherExited(.exited(0)), now: 10).isEmpty)
        let effects = machine.handle(.timePassed, now: 3000)
        guard case .report(let diagnostic)? = effects.first else { return #expect(Bool(false), "\(effects)") }
        #expect(diagnostic.code.rawValue == "mpi-mismatch")
        #expect(finished(&machine) == [.finish(code: 125)])
    }

    @Test func refusedRanksGiveTheirCode() {
        var machine = machine()
        #expect(machine.handle(.rankRefused(rank: 2, code: 127, failure), now: 3) == [.report(failure), stop])
        #expect(machine.handle(.rankRefused(rank: 1, code: 127, failure), now: 3).isEmpty, "said once")
        #expect(finished(&machine) == [.finish(code: 127)])
    }

    @Test func aLostNodeEndsTheJob() {
        var machine = machine()
        let effects = machine.handle(.agentLost(node: 1), now: 3)
        guard case .report(let diagnostic)? = effects.first else { return #expect(Bool(false), "\(effects)") }
        #expect(diagnostic.code.rawValue == "node-lost" && diagnostic.subject == "n2" && effects.contains(stop))
        #expect(machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 4) == [.finish(code: 125)])
    }
}

@Suite struct EndingTests {
    @Test func ctrlCShowsThenCancelsThenKills() {
        var machine = machine()
        #expect(machine.handle(.interrupted, now: 1000) == [.showState])
        #expect(machine.handle(.interrupted, now: 4000) == [.showState], "too late to be the second")
        #expect(machine.handle(.interrupted, now: 5000).contains(stop))
        #expect(machine.handle(.interrupted, now: 5500) == [.stop(graceMilliseconds: 0)])
        _ = machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 5600)
        #expect(machine.handle(.agentEmpty(node: 1, unkillable: 0), now: 5600) == [.finish(code: 130)])
    }

    @Test func terminationCancelsAtOnce() {
        var machine = machine()
        #expect(machine.handle(.terminated(signal: 15), now: 1) == [stop])
        #expect(machine.handle(.rankExited(rank: 0, .signaled(15)), now: 2).isEmpty)
        _ = machine.handle(.agentLost(node: 0), now: 3)
        #expect(machine.handle(.agentEmpty(node: 1, unkillable: 0), now: 3) == [.finish(code: 143)])
    }

    /// A code is one byte (exit(3)), whatever number somebody gives for a signal.
    @Test(arguments: [Int32.max, 128, -1, Int32.min]) func noSuchSignal(number: Int32) {
        var machine = machine()
        #expect(machine.handle(.terminated(signal: number), now: 1) == [stop])
        _ = machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 2)
        let end = machine.handle(.agentEmpty(node: 1, unkillable: 0), now: 3)
        #expect(end == [.finish(code: number < 0 ? 128 : 255)])
    }

    @Test func silenceDoesNotKeepUsForEver() {
        var machine = machine()
        _ = machine.handle(.terminated(signal: 15), now: 0)
        _ = machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 1)
        #expect(machine.handle(.timePassed, now: 14_999).isEmpty)
        let effects = machine.handle(.timePassed, now: 15_000)
        #expect(effects.last == .finish(code: 143) && effects.contains(.endFanOut))
        #expect(machine.phase == .ended && machine.handle(.timePassed, now: 20_000).isEmpty)
    }

    @Test func unkillableProcessesAreSaid() {
        var machine = machine()
        _ = machine.handle(.terminated(signal: 15), now: 0)
        #expect(
            machine.handle(.agentEmpty(node: 0, unkillable: 2), now: 1) == [.announce("2 unkillable processes on n1")])
    }
}

@Suite struct RankSettingTests {
    @Test func othersGoOn() {
        var machine = machine(launcher: false)
        machine.setup.keepsGoing = true
        #expect(
            machine.handle(.rankExited(rank: 2, .exited(3)), now: 3) == [
                .announce("rank 2 on n2 exited 3; the others go on")
            ])
        #expect(machine.handle(.rankExited(rank: 0, .exited(0)), now: 4).isEmpty)
        _ = machine.handle(.rankExited(rank: 1, .exited(9)), now: 5)
        #expect(machine.handle(.rankExited(rank: 3, .exited(0)), now: 6) == [stop])
        _ = machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 7)
        #expect(machine.handle(.agentEmpty(node: 1, unkillable: 0), now: 7) == [.finish(code: 3)])
    }

    @Test func oneThatEndedEarlyIsMentionedOnce() {
        var machine = machine(launcher: false)
        _ = machine.handle(.rankExited(rank: 2, .exited(0)), now: 1000)
        #expect(machine.handle(.timePassed, now: 30_999).isEmpty)
        #expect(
            machine.handle(.timePassed, now: 31_000) == [.announce("rank 2 on n2 exited 0 30 s ago; 3 ranks still run")]
        )
        #expect(machine.handle(.timePassed, now: 90_000).isEmpty)
        machine.setup.exitTimeoutMilliseconds = 100_000
        #expect(machine.handle(.timePassed, now: 100_999).isEmpty)
        let effects = machine.handle(.timePassed, now: 101_000)
        guard case .report(let diagnostic)? = effects.first else { return #expect(Bool(false), "\(effects)") }
        #expect(diagnostic.code.rawValue == "exit-timeout" && effects.last == stop)
    }

    @Test(arguments: [true, false]) func timeEndsIt(running: Bool) {
        var machine = machine(launcher: false, running: running)
        machine.setup.timeLimit = (10_000, "over")
        #expect(machine.handle(.timePassed, now: 9_999).isEmpty)
        #expect(machine.handle(.timePassed, now: 10_000).starts(with: [.announce("over"), stop]))
        _ = machine.handle(.agentEmpty(node: 0, unkillable: 0), now: 10_001)
        if running {
            #expect(machine.handle(.agentEmpty(node: 1, unkillable: 0), now: 10_001) == [.finish(code: 124)])
        }
        #expect(machine.handle(.timePassed, now: 10_002).isEmpty)
    }
}
