import Diagnostics
import JobModel
import ResourceManagers
import Testing

/// The parallel universe: one process per machine is there already, and they find each other by condor_chirp.
@Suite struct HTCondorAdapterTests {
    private static let program = "/usr/libexec/condor/condor_chirp"

    private func stand(number: Int, hosts: String, more: String = "") -> Stand {
        var stand = Stand.all["condor"]!
        stand.variables["_CONDOR_PROCNO"] = "\(number)"
        stand.files["/scratch/.job.ad"] = "ClusterId = 12\nProcId = 0\nAllRemoteHosts = \"\(hosts)\"\n" + more
        return stand
    }

    private func agent(_ nodes: [String], here: String) -> AgentStart {
        AgentStart(nodes: nodes, jobID: "12.0", command: ["agent"], addresses: "a:1", here: here)
    }

    @Test func machinesAreCountedByTheirPlaces() throws {
        let stand = stand(
            number: 0, hosts: "slot1_1@n1.site,slot1_2@n1.site,slot2@n2.site", more: "requestcpus = 3\n")
        let found = try #require(try Detection.allocation(in: stand.surroundings))
        #expect(found.nodes == [.init(name: "n1.site", slots: 6), .init(name: "n2.site", slots: 3)])
        #expect(found.jobID == "12.0" && found.endTime == nil)
    }

    @Test func oneAgentPerMachineAndAWordForEverybody() {
        // n1 has two places, n3 is not in the job.
        let stand = stand(number: 0, hosts: "slot1@n1,slot2@n1,slot1@n2,slot2@n2,slot1@n3")
        let commands = HTCondor.fanOut(agent(["n1", "n2"], here: "n1"), in: stand.surroundings)
        #expect(commands.map(\.node) == ["n1", nil, "n2", nil, nil])
        #expect(commands.map { $0.note?.split(separator: "\n").first } == [nil, "- -", "1 a:1", "- -", "- -"])
        #expect(
            commands[2].words == [
                Self.program, "put", "-mode", "cwt", "-perm", "0600", "-", "/spool/4711/trireme.2.1",
            ])
        // The secret is in no word.
        #expect(commands.dropFirst().allSatisfy { $0.secret == .input })
    }

    @Test func aLeaderWithoutAJobSendsTheOthersAway() {
        let stand = stand(number: 0, hosts: "slot1@n1,slot1@n2,slot1@n3")
        let words = Detection.dismissal(in: stand.surroundings)
        #expect(words.map { $0.words.last } == ["/spool/4711/trireme.1.1", "/spool/4711/trireme.2.1"])
        #expect(words.allSatisfy { Summons.parse("-\n" + ($0.note ?? ""))?.summons.index == nil })
        for name in Stand.all.keys where name != "condor" {
            #expect(Detection.dismissal(in: Stand.all[name]!.surroundings).isEmpty)
        }
    }

    @Test func theOthersAreFollowersWithAPost() throws {
        let follower = stand(number: 3, hosts: "slot1@n1").surroundings
        #expect(Detection.isFollower(follower))
        #expect(
            Detection.post(in: follower)
                == FollowerPost(
                    look: [Self.program, "fetch", "/spool/4711/trireme.3.1", "-"],
                    take: [Self.program, "remove", "/spool/4711/trireme.3.1"]))
        let leader = stand(number: 0, hosts: "slot1@n1").surroundings
        #expect(!Detection.isFollower(leader) && Detection.post(in: leader) == nil)
    }

    @Test func aSummonsIsReadWholeOrNotAtAll() throws {
        let text = "5ec7e7\n" + Summons(index: 4, addresses: "10.0.0.1:7,10.1.0.1:7").note
        let (secret, summons) = try #require(Summons.parse(text))
        #expect(secret == "5ec7e7" && summons == Summons(index: 4, addresses: "10.0.0.1:7,10.1.0.1:7"))
        for count in 0..<text.utf8.count - 1 {
            #expect(Summons.parse(String(text.prefix(count))) == nil)
        }
        for wrong in ["\n4 a\n.\n", "s\n-1 a\n.\n", "s\nx a\n.\n", "s\n4\n.\n", "s\n4 a b\n.\n"] {
            #expect(Summons.parse(wrong) == nil, "\(wrong)")
        }
    }

    @Test func otherUniversesAreOneMachine() throws {
        var stand = Stand(
            variables: ["_CONDOR_JOB_AD": "/ad"],
            files: ["/ad": "ClusterId = 7\nProcId = 2\nRemoteHost = \"slot3@n9\"\nRequestCpus = 2\n"])
        let found = try #require(try Detection.allocation(in: stand.surroundings))
        #expect(found.jobID == "7.2" && found.nodes == [.init(name: "n9", slots: 2)])
        #expect(!Detection.isFollower(stand.surroundings))
        stand.files["/ad"] = "ClusterId = 7\n"
        #expect { try Detection.allocation(in: stand.surroundings) } throws: { error in
            (error as? Diagnostic)?.subject == "_CONDOR_JOB_AD=/ad"
        }
        // A description that is another job's and not here any more: no allocation.
        stand.files = [:]
        #expect(try Detection.allocation(in: stand.surroundings) == nil)
    }

    @Test func itsLimitsAreItsEnd() throws {
        let limits = "JobCurrentStartDate = 1700000000\nAllowedJobDuration = 900\nAllowedExecuteDuration = 600\n"
        let stand = stand(number: 0, hosts: "slot1@n1", more: limits)
        #expect(try Detection.allocation(in: stand.surroundings)?.endTime == 1_700_000_600)
    }
}

/// What the systems' commands say about an allocation's end.
@Suite struct EndTimeTests {
    private func end(_ name: String, _ command: [String], _ answer: String, _ more: [[String]: String] = [:]) throws
        -> Int?
    {
        var stand = Stand.all[name]!
        stand.variables["SLURM_JOB_END_TIME"] = nil
        stand.commands[command] = answer
        stand.commands.merge(more) { $1 }
        let allocation = try #require(try Detection.allocation(in: stand.surroundings))
        return Detection.endTime(of: allocation, in: stand.surroundings).map { $0 - 1_700_000_000 }
    }

    /// squeue(1), %L.
    @Test(
        arguments: [
            ("29:10\n", 1750), ("1:00:00\n", 3600), ("2-00:00:01\n", 172_801), ("UNLIMITED\n", nil), ("INVALID\n", nil),
            ("\n", nil),
        ] as [(String, Int?)]) func slurm(_ answer: String, _ expected: Int?) throws
    {
        #expect(try end("slurm", ["squeue", "--noheader", "--jobs=4711", "--format=%L"], answer) == expected)
    }

    /// Torque 6 and OpenPBS 23, qstat -f.
    @Test func pbs() throws {
        let command = ["qstat", "-f", "4711.head"]
        let torque = "Job Id: 4711.head\n    Resource_List.walltime = 03:00:00\n    Walltime.Remaining = 8598\n"
        #expect(try end("pbs", command, torque) == 8598)
        let open = "Job Id: 4711.head\n    stime = Tue Nov 14 22:13:00 2023\n    Resource_List.walltime = 00:10:00\n"
        let date = [["date", "--date=Tue Nov 14 22:13:00 2023", "+%s"]: "1699999980\n"]
        #expect(try end("pbs", command, open, date) == 580)
        #expect(try end("pbs", command, "Job Id: 4711.head\n    Resource_List.ncpus = 4\n") == nil)
    }

    /// qstat(1) of 8.1.9: the second job is the third task of ours.
    @Test func gridEngine() throws {
        let answer = """
            job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
            -----------------------------------------------------------------------------------------------------------------
               4711 0.50000 job        ada          r     11/14/2023 22:00:00 all.q@n3                           6 2
                   Full jobname:     job
                   Hard Resources:   h_rt=60 (0.000000)
               4711 0.50000 job        ada          r     11/14/2023 22:13:00 all.q@n3                           6 3
                   Full jobname:     job
                   Hard Resources:   h_vmem=1G (0.000000)
                                     h_rt=600 (0.000000)
                   Soft Resources:
            """
        let date = [["date", "--date=11/14/2023 22:13:00", "+%s"]: "1699999980\n"]
        #expect(try end("sge", ["qstat", "-r", "-s", "r"], answer, date) == 580)
        let free = answer.split(separator: "\n").filter { !$0.contains("h_rt") }.joined(separator: "\n")
        #expect(try end("sge", ["qstat", "-r", "-s", "r"], free, date) == nil)
    }

    /// bjobs(1), -WL: only L is a limit.
    @Test(
        arguments: [("0:29 L\n", 1740), ("30:00 L\n", 108_000), ("0:29 E\n", nil), ("0:0 X\n", nil), ("-\n", nil)]
            as [(String, Int?)]) func lsf(_ answer: String, _ expected: Int?) throws
    {
        #expect(try end("lsf", ["bjobs", "-noheader", "-o", "time_left", "4711[3]"], answer) == expected)
    }

    /// flux-job(1), timeleft: without a limit the largest number.
    @Test(arguments: [("3412\n", 3412), ("4294967295\n", nil), ("\n", nil)] as [(String, Int?)])
    func flux(_ answer: String, _ expected: Int?) throws {
        #expect(try end("flux", ["flux", "job", "timeleft"], answer) == expected)
    }
}
