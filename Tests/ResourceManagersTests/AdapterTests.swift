import Diagnostics
import JobModel
import ResourceManagers
import Testing

/// A batch system as a process inside one of its jobs sees it. Variables and files are what the systems'
/// manuals and their users' published job logs show.
struct Stand {
    var variables: [String: String] = [:]
    var files: [String: String] = [:]
    var commands: [[String]: String] = [:]

    var surroundings: Surroundings {
        Surroundings(
            environment: { variables[$0] }, file: { files[$0] }, output: { commands[$0] }, now: { 1_700_000_000 })
    }

    /// Every adapter's own view of the same job: 2 nodes, 4 places each.
    static let all: [String: Stand] = [
        "slurm": Stand(variables: [
            "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "4(x2)",
            "SLURM_JOB_CPUS_PER_NODE": "4(x2)", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_END_TIME": "1800000000",
        ]),
        // PBS_NODEFILE: a line per place (OpenPBS User's Guide, "mpiprocs").
        "pbs": Stand(
            variables: ["PBS_JOBID": "4711.head", "PBS_NODEFILE": "/aux/4711.head", "PBS_ARRAY_INDEX": "3"],
            files: ["/aux/4711.head": "n1\nn1\nn1\nn1\nn2\nn2\nn2\nn2\n"]),
        // A host twice: once per queue that gives slots there (sge_pe(5), pe_hostfile).
        "sge": Stand(
            variables: [
                "JOB_ID": "4711", "SGE_ROOT": "/opt/sge", "PE_HOSTFILE": "/spool/pe_hostfile", "SGE_TASK_ID": "3",
            ],
            files: [
                "/spool/pe_hostfile":
                    "n1 2 all.q@n1 UNDEFINED\nn2 4 all.q@n2 <NULL>\nn1 2 extra.q@n1 UNDEFINED\n"
            ]),
        "lsf": Stand(variables: [
            "LSB_JOBID": "4711", "LSB_MCPU_HOSTS": "n1 4 n2 4 ", "LSB_HOSTS": "n1 n1 n1 n1 n2 n2 n2 n2",
            "LSB_DJOB_NUMPROC": "8", "LSB_JOBINDEX": "3",
        ]),
        // The job's description as the starter lays it out; number 0 leads.
        "condor": Stand(
            variables: [
                "_CONDOR_JOB_AD": "/scratch/.job.ad", "_CONDOR_PROCNO": "0", "_CONDOR_NPROCS": "2",
                "_CONDOR_REMOTE_SPOOL_DIR": "/spool/4711",
            ],
            files: [
                "/scratch/.job.ad":
                    "AllRemoteHosts = \"slot1@n1,slot1@n2\"\nClusterId = 4711\nProcId = 0\nRequestCpus = 4\n"
            ], commands: [["condor_config_val", "LIBEXEC"]: "/usr/libexec/condor\n"]),
        "flux": Stand(
            variables: ["FLUX_URI": "local:///tmp/flux-x/local-0"],
            commands: [
                ["flux", "getattr", "instance-level"]: "1\n", ["flux", "getattr", "jobid"]: "f4711\n",
                ["flux", "getattr", "hostlist"]: "n[1-2]\n",
                ["flux", "resource", "list", "--states=all", "--no-header", "--format={nodelist} {nnodes} {ncores}"]:
                    "n[1-2] 2 8\n",
            ]),
    ]
}

/// What every adapter must do.
@Suite struct AdapterContractTests {
    @Test(arguments: Stand.all.keys.sorted()) func theAllocationIsRead(_ name: String) throws {
        let stand = Stand.all[name]!
        let found = try #require(try Detection.allocation(in: stand.surroundings))
        #expect(found.system == name)
        #expect(found.jobID.contains("4711"))
        #expect(found.nodes == [.init(name: "n1", slots: 4), .init(name: "n2", slots: 4)])
        if !["flux", "condor"].contains(name) { #expect(found.arrayTask == "3") }
        // Asked by name, it answers the same; the others say nothing.
        #expect(try Detection.allocation(named: name, in: stand.surroundings) == found)
        for other in Stand.all.keys where other != name {
            #expect(try Detection.allocation(named: other, in: stand.surroundings) == nil)
        }
    }

    @Test(arguments: Stand.all.keys.sorted()) func outsideThereIsNone(_ name: String) throws {
        #expect(try Detection.allocation(named: name, in: Stand().surroundings) == nil)
        // Variables that are set to nothing are as good as not set.
        let empty = Stand(variables: Stand.all[name]!.variables.mapValues { _ in "" })
        #expect(try Detection.allocation(in: empty.surroundings) == nil)
    }

    @Test(arguments: Stand.all.keys.sorted()) func everyNodeGetsOneAgent(_ name: String) throws {
        let stand = Stand.all[name]!
        let manager = try #require(Detection.manager(named: name))
        let agent = AgentStart(
            nodes: ["n1", "n2"], jobID: "4711", command: ["/opt/t/trireme-agent", "--serve", "-"],
            addresses: "10.0.0.1:7000", here: "n1.cluster")
        let commands = manager.fanOut(agent, in: stand.surroundings)
        let reached = commands.flatMap { command -> [String] in
            // One command for all, or one for its node.
            if let node = command.node { return [node] }
            return agent.nodes
        }
        #expect(reached.sorted() == ["n1", "n2"])
        for command in commands {
            if let note = command.note {
                #expect(note == "1 10.0.0.1:7000\n.\n")
                continue
            }
            // Quoted where a shell reads it.
            let text = command.words.joined(separator: " ").filter { $0 != "'" }
            #expect(text.contains("/opt/t/trireme-agent --serve - "))
            #expect(text.hasSuffix(" 10.0.0.1:7000"))
        }
        // This machine's own agent is a plain child where each node has its command.
        if let here = commands.first(where: { $0.node == "n1" }) {
            #expect(here.words == agent.words(for: 0))
        }
        #expect(!manager.advice(for: Allocation(system: name, jobID: "1", nodes: [])).whenUnreached.isEmpty)
    }
}

@Suite struct AdapterTests {
    private func words(_ name: String, _ variables: [String: String] = [:]) -> [[String]] {
        let agent = AgentStart(nodes: ["n1", "n2"], jobID: "7", command: ["agent"], addresses: "a:1", here: "n1")
        return Detection.manager(named: name)!.fanOut(agent, in: Stand(variables: variables).surroundings).map(\.words)
    }

    @Test func torqueAndOpenPBSHaveTheirOwnCommands() {
        #expect(words("pbs")[1] == ["pbs_tmrsh", "n2", "agent", "1", "a:1"])
        #expect(words("torque", ["PBS_VERSION": "TORQUE-6.1.2"])[1] == ["pbsdsh", "-h", "n2", "agent", "1", "a:1"])
    }

    @Test func lsfAndOpenLavaHaveTheirOwnCommands() {
        #expect(words("lsf", ["LSB_DJOB_NUMPROC": "8"])[1] == ["blaunch", "n2", "agent", "1", "a:1"])
        #expect(words("openlava")[1] == ["lsrun", "-m", "n2", "agent", "1", "a:1"])
    }

    @Test func gridEnginesWordsAreReadByAShell() {
        #expect(words("sge")[1] == ["qrsh", "-inherit", "n2", "exec 'agent' '1' 'a:1'"])
    }

    @Test func gridEngineGivesSlots() {
        func slots(_ request: ResourceRequest) -> String? {
            #expect(
                GridEngineCommands.allocation(
                    for: ResourceRequest(tasks: 1), slotsPerNode: 2, environment: "mpi", hasTerminal: true,
                    command: ["x"]
                ).joined(separator: " ") == "qrsh -V -cwd -now n -noshell -pty y -pe mpi 1 x")
            let words = GridEngineCommands.allocation(
                for: request, slotsPerNode: 4, environment: "mpi", command: ["trireme", "run"])
            #expect(words.first == "qrsh" && words.suffix(2) == ["trireme", "run"])
            return words.firstIndex(of: "mpi").map { words[$0 + 1] }
        }
        #expect(slots(.init(tasks: 6)) == "6")
        #expect(slots(.init(tasks: 3, cpusPerTask: 2)) == "6")
        #expect(slots(.init(tasks: 3, nodes: 3)) == "12")
        #expect(slots(.init(nodes: 2)) == "8")
        #expect(slots(.init(tasks: 5, tasksPerNode: 2)) == "12")
        #expect(slots(.init()) == "1")
    }

    @Test func pbsChunksWithoutProcessesHaveTheirProcessors() throws {
        // select=2:ncpus=4 without mpiprocs: a line per chunk, NCPUS says how many processors.
        let stand = Stand(
            variables: ["PBS_JOBID": "1", "PBS_NODEFILE": "/f", "NCPUS": "4"], files: ["/f": "n1\nn2\n"])
        #expect(try Detection.allocation(in: stand.surroundings)?.nodes.map(\.slots) == [4, 4])
    }

    @Test func aFluxLoginShellIsNoAllocation() throws {
        var stand = Stand.all["flux"]!
        stand.commands[["flux", "getattr", "instance-level"]] = "0\n"
        #expect(try Detection.allocation(in: stand.surroundings) == nil)
    }

    @Test func fluxInsideSlurmIsFlux() throws {
        var stand = Stand.all["slurm"]!
        stand.variables["FLUX_URI"] = "local:///x"
        stand.commands = Stand.all["flux"]!.commands
        #expect(try Detection.allocation(in: stand.surroundings)?.system == "flux")
    }

    @Test(arguments: [
        ("PE_HOSTFILE", "n1 many all.q\n"), ("PE_HOSTFILE", "n1\n"), ("PE_HOSTFILE", "n1 -1 q\n"),
        ("PE_HOSTFILE", "n1 99999999999999999999 q\n"), ("PE_HOSTFILE", "\n"), ("PBS_NODEFILE", " \n\n"),
    ]) func nonsenseIsNamed(_ variable: String, _ text: String) throws {
        let job = variable == "PBS_NODEFILE" ? "PBS_JOBID" : "JOB_ID"
        let stand = Stand(variables: [job: "1", variable: "/f"], files: ["/f": text])
        #expect { try Detection.allocation(in: stand.surroundings) } throws: { error in
            (error as? Diagnostic)?.subject.hasPrefix(variable) ?? false
        }
        // A file that is not there is named too.
        #expect(throws: Diagnostic.self) {
            try Detection.allocation(in: Stand(variables: [job: "1", variable: "/f"]).surroundings)
        }
    }

    @Test(arguments: ["n1 4 n2", "n1 x", "n1 0"]) func lsfNonsense(_ text: String) {
        let stand = Stand(variables: ["LSB_JOBID": "1", "LSB_MCPU_HOSTS": text])
        #expect(throws: Diagnostic.self) { try Detection.allocation(in: stand.surroundings) }
    }

    @Test func hostFilesOfEveryKind() throws {
        let text = """
            # machines
            a slots=4 max_slots=8   # OpenMPI
            b:2
            c
            c

            fe80::1
            """
        #expect(
            try PlainHosts.allocation(hostFile: text, path: "f").nodes == [
                .init(name: "a", slots: 4), .init(name: "b", slots: 2), .init(name: "c", slots: 2),
                .init(name: "fe80::1", slots: 1),
            ])
        for wrong in ["a slots=0", "a:x", "a many", "-oProxyCommand=x", "", "#"] {
            #expect(throws: Diagnostic.self) { try PlainHosts.allocation(hostFile: wrong, path: "f") }
        }
    }

    /// Nobody is told to type another system's commands.
    @Test func everySystemAsksForMoreInItsOwnWords() {
        let programs = [
            "slurm": "salloc", "sge": "qrsh", "pbs": "qsub", "lsf": "bsub", "flux": "flux", "condor": "condor_submit",
        ]
        for manager in Detection.all {
            let stand = Stand(variables: ["PE": "mpi"]).surroundings
            let lines = [(3, nil), (nil, 6)].map { nodes, tasks in
                manager.request(nodes: nodes, tasks: tasks, command: "trireme run …", in: stand) ?? ""
            }
            #expect(lines.allSatisfy { $0.hasPrefix(programs[manager.name]! + " ") && $0.contains("trireme run …") })
            #expect(lines[0].contains("3") && lines[1].contains("6"), "\(lines)")
        }
        let atHand = Detection.requests(
            nodes: 2, tasks: 4, command: "x", in: Stand().surroundings, isInstalled: { $0 == "bsub" || $0 == "salloc" })
        #expect(atHand == ["salloc -N 2 -n 4 x", "bsub -n 4 x"])
        #expect(
            GridEngine.request(nodes: nil, tasks: 7, command: "x", in: Stand(variables: ["PE": "mpi"]).surroundings)
                == "qrsh -pe mpi 7 x")
    }

    @Test func sshWordsSurviveTheRemoteShell() {
        let agent = AgentStart(
            nodes: ["far"], jobID: "7", command: ["/a dir/it's/agent"], addresses: "1.2.3.4:5", here: "near")
        let words = PlainHosts.fanOut(agent, in: Stand().surroundings)[0].words
        #expect(words.contains("BatchMode=yes"))
        #expect(words.last == #"exec '/a dir/it'\''s/agent' '0' '1.2.3.4:5'"#)
    }

    @Test func onlySystemsThatCarryTheEnvironmentGetTheSecretThere() {
        for (name, expected) in [
            ("slurm", FanOutCommand.SecretChannel.environment), ("lsf", .environment), ("sge", .input),
            ("flux", .input), ("pbs", .file), ("ssh", .input),
        ] {
            let agent = AgentStart(nodes: ["far"], jobID: "7", command: ["agent"], addresses: "a:1", here: "near")
            let commands = Detection.manager(named: name)!.fanOut(agent, in: Stand().surroundings)
            #expect(commands.map(\.secret) == [expected], "\(name)")
        }
    }
}
