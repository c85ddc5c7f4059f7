import JobModel
import NodeAgent
import Processes
import Testing

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

@Suite struct RemoteShellTests {
    @Test(arguments: [
        // What Open MPI and Hydra pass, quotes included.
        ([" orted", "-mca", "ess", "\"env\""], "exec orted -mca ess \"env\""),
        (
            ["\"/usr/bin/hydra_pmi_proxy\"", "--control-port", "n1:1"],
            "exec \"/usr/bin/hydra_pmi_proxy\" --control-port n1:1"
        ),
        (["cd /x; orted"], "cd /x; orted"), (["A=1", "orted"], "A=1 orted"), (["(", "orted", ")"], "( orted )"),
    ])
    func simpleCommandsReplaceTheShell(_ words: [String], _ line: String) {
        #expect(text(RemoteShell.commandLine(words.map(bytes))) == line)
    }

    @Test func launchersDaemonsHaveWhatRanksHaveNot() {
        let ours = LauncherEnvironment.withoutDisplays
        #expect(
            text(LauncherEnvironment.daemon(bytes("( orted )"), own: [bytes("A=1"), ours]))
                == "export \(text(ours)); ( orted )")
        let users = bytes("HWLOC_PLUGINS_BLACKLIST=mine")
        #expect(LauncherEnvironment.daemon(bytes("exec orted"), own: [users]) == bytes("exec orted"))
        #expect(LauncherEnvironment.rank([bytes("A=1"), ours, users]) == [bytes("A=1"), users])
    }
}

@Suite struct RankPlaceTests {
    @Test func everyRankFindsItsPart() throws {
        func bytes(_ words: String...) -> [[UInt8]] { words.map { Array($0.utf8) } }
        let parts = [
            JobPart(tasks: 2, environment: bytes("A=1"), command: bytes("a", "--part", "-x")),
            JobPart(tasks: 1, command: bytes("b", ":", ":x", "\\:", "\\")),
        ]
        let words = RankCommand.words(parts)
        #expect(RankCommand.part(of: 0, in: words) == parts[0] && RankCommand.part(of: 1, in: words) == parts[0])
        #expect(RankCommand.part(of: 2, in: words) == parts[1] && RankCommand.part(of: 3, in: words) == nil)
        #expect(!words.contains(bytes(":")[0]), "mpirun would take it for its own")
        let plain = RankCommand.words([JobPart(tasks: 4, command: bytes("--part", "1"))])
        #expect(RankCommand.part(of: 3, in: plain)?.command == bytes("--part", "1"))
        let rest = RankCommand.words([JobPart(tasks: 0, environment: bytes("A=1"), command: bytes("a"))])
        #expect(RankCommand.part(of: 99, in: rest)?.command == bytes("a"))
        for hostile in [bytes("--part"), bytes("--part", "1", "9", "1", "x"), bytes("--part", "1", "-1", "1", "x")] {
            #expect(RankCommand.part(of: 0, in: hostile) == nil)
        }
    }

    @Test func everyLaunchersVariables() {
        func place(_ variables: String...) -> [Int]? {
            RankPlace(environment: variables.map(bytes)).map { [$0.rank, $0.size, $0.localRank] }
        }
        #expect(
            place("OMPI_COMM_WORLD_RANK=3", "OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_RANK=1", "SLURM_PROCID=0")
                == [3, 4, 1])
        #expect(place("PMI_RANK=2", "PMI_SIZE=4", "MPI_LOCALRANKID=0") == [2, 4, 0])
        #expect(place("SLURM_PROCID=5", "SLURM_NTASKS=6", "SLURM_LOCALID=1") == [5, 6, 1])
        #expect(place("PATH=/bin") == nil && place("PMI_RANK=x", "PMI_SIZE=1") == nil)
    }
}

@Suite struct LauncherVoiceTests {
    @Test func onlyTheFalseAlarmIsDropped() {
        var voice = LauncherVoice()
        #expect(voice.add(bytes("[n1:1] plm:rsh: War")).isEmpty)
        #expect(text(voice.add(bytes("ning: setpgid(2,2) failed in parent\nreal trouble\nhalf"))) == "real trouble\n")
        #expect(text(voice.finish()) == "half" && voice.finish().isEmpty)
        #expect(text(voice.add(bytes("[n1:2] plm:ssh: Warning: setpgid(3,3) failed\nx\n"))) == "x\n", "Open MPI 5")
        #expect(text(voice.add(bytes("plm:rsh: Warning: setpgid( said by a rank\n"))) != "")
    }
}

@Suite struct PMIRelayEngineTests {
    /// PMI-2 has no newlines to wait for: from its greeting on, every byte passes as it comes.
    @Test func anotherProtocolPassesUntouched() {
        var engine = PMIRelayEngine()
        let greeting = Array("cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n".utf8)
        #expect(engine.fromLauncher(greeting + Array("    36cmd".utf8)).rank == greeting + Array("    36cmd".utf8))
        #expect(engine.fromLauncher(Array("=fullinit-response".utf8)).rank == Array("=fullinit-response".utf8))
        let fence = Array("    14cmd=barrier_in\n".utf8)
        #expect(engine.fromRank(fence) == fence)
        #expect(!engine.isInBarrier)
    }

    /// A rank that has passed MPI_Init's barrier and sits in the next.
    private func closing() -> PMIRelayEngine {
        var engine = PMIRelayEngine()
        _ = engine.fromRank(bytes("cmd=init pmi_version=1 pmi_subversion=1\ncmd=barrier_in\n"))
        _ = engine.fromLauncher(bytes("cmd=response_to_init rc=0\ncmd=barrier_out\n"))
        _ = engine.fromRank(bytes("cmd=barrier_in\n"))
        return engine
    }

    @Test func passesEverythingOn() {
        var engine = PMIRelayEngine()
        #expect(text(engine.fromRank(bytes("cmd=get_m"))) == "cmd=get_m")
        #expect(text(engine.fromRank(bytes("axes\n"))) == "axes\n")
        #expect(text(engine.fromLauncher(bytes("cmd=maxes a=1\ncmd=")).rank) == "cmd=maxes a=1\n")
        #expect(text(engine.fromLauncher(bytes("appnum\n")).rank) == "cmd=appnum\n")
    }

    @Test func theFirstBarrierIsNeverCutShort() {
        var engine = PMIRelayEngine()
        _ = engine.fromRank(bytes("cmd=barrier_in\n"))
        #expect(!engine.isWaiting && engine.release().isEmpty)
    }

    @Test func aReleasedRankWaitsWithItsNextWord() {
        var engine = closing()
        #expect(engine.isWaiting)
        #expect(text(engine.release()) == "cmd=barrier_out\n")
        #expect(!engine.isWaiting && engine.release().isEmpty, "once")
        #expect(
            engine.fromRank(bytes("cmd=get key=x\ncmd=barrier_in\n")).isEmpty, "held: it may need the barrier's result")
        let (rank, launcher) = engine.fromLauncher(bytes("cmd=barrier_out rc=0\n"))
        #expect(rank.isEmpty && text(launcher) == "cmd=get key=x\ncmd=barrier_in\n")
        #expect(engine.isInBarrier, "the held barrier has been entered now")
        #expect(text(engine.fromLauncher(bytes("cmd=barrier_out rc=0\n")).rank) == "cmd=barrier_out rc=0\n")
    }

    @Test func speaksAsTheLauncherDoes() {
        var engine = PMIRelayEngine()
        _ = engine.fromRank(bytes("cmd=barrier_in\n"))
        _ = engine.fromLauncher(bytes("cmd=barrier_out rc=0\n"))
        _ = engine.fromRank(bytes("cmd=barrier_in\n"))
        #expect(text(engine.release()) == "cmd=barrier_out rc=0\n")
    }
}

@Suite struct EnvironmentBlockTests {
    @Test func theLaterEntryWinsInItsPlace() {
        let merged = EnvironmentBlock.merged(["A=1", "B=2"].map(bytes), ["B=3", "C=4", "C=5"].map(bytes))
        #expect(merged.map(text) == ["A=1", "B=3", "C=5"])
        #expect(EnvironmentBlock.value("B", in: merged) == "3" && EnvironmentBlock.value("D", in: merged) == nil)
    }
}
