import Testing

@testable import VirtualCluster

@Suite struct SlurmConfigurationTests {
    private func specification(nodes: Int = 4, settings: [String] = []) -> ClusterSpecification {
        ClusterSpecification(
            name: "demo", nodeCount: nodes, cpusPerNode: 2, memoryPerNodeMiB: 2000, image: "trireme-node",
            layersDirectory: "/store", layers: ["layers/aa"], binds: [], programDirectory: "/opt/bin",
            account: .init(user: "ada", uid: 1001, group: "staff", gid: 50, home: "/home/ada"),
            slurmSettings: settings)
    }

    /// Every line without its comments; a change here changes what users' jobs meet.
    @Test func golden() {
        let lines = SlurmConfiguration(specification()).text.split(separator: "\n").filter { !$0.hasPrefix("#") }
        #expect(
            lines.joined(separator: "\n") == """
                ClusterName=demo
                SlurmctldHost=ctl
                SlurmUser=ada
                SlurmdUser=ada
                AuthType=auth/munge
                CredType=cred/munge
                StateSaveLocation=/var/lib/slurm
                SlurmdSpoolDir=/var/spool/slurmd
                SlurmctldPidFile=/run/slurm/slurmctld.pid
                SlurmdPidFile=/run/slurm/slurmd.pid
                ProctrackType=proctrack/linuxproc
                TaskPlugin=task/none
                JobAcctGatherType=jobacct_gather/none
                SelectType=select/cons_tres
                SelectTypeParameters=CR_Core
                SlurmdParameters=config_overrides
                ReturnToService=2
                MailProg=/bin/true
                MpiDefault=none
                SlurmdTimeout=30
                InactiveLimit=10
                KillWait=5
                SchedulerType=sched/backfill
                SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
                EpilogMsgTime=1
                CompleteWait=0
                EnforcePartLimits=ALL
                NodeName=n[1-4] CPUs=2 RealMemory=2000 State=UNKNOWN
                PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
                """)
    }

    @Test func oneNodeHasNoRange() {
        #expect(SlurmConfiguration(specification(nodes: 1)).text.contains("\nNodeName=n1 CPUs=2"))
    }

    @Test func settingsReplaceOurs() {
        let text = SlurmConfiguration(specification(settings: ["killwait=1", "PartitionName=more Nodes=n1"])).text
        #expect(!text.contains("KillWait=5"))
        #expect(text.hasSuffix("killwait=1\nPartitionName=more Nodes=n1\n"))
        #expect(text.contains("PartitionName=all "))
    }

    @Test func cgroupLine() { #expect(SlurmConfiguration.cgroupText == "CgroupPlugin=cgroup/v1\n") }

    @Test func hostsNameEveryNode() {
        #expect(
            NodeFiles.hosts(specification(nodes: 2).nodes)
                == "127.0.0.1 localhost\n10.9.0.1 ctl login\n10.9.0.2 n1\n10.9.0.3 n2\n")
    }

    @Test func addressesAreDistinctUpToTheLimit() {
        let nodes = specification(nodes: ClusterSpecification.maximumNodeCount).nodes
        #expect(Set(nodes.map(\.addressText)).count == nodes.count)
        #expect(nodes.allSatisfy { $0.address[3] >= 1 && $0.address[3] <= 250 })
    }

    @Test func theAccountReplacesItsRivals() {
        let account = specification().account
        #expect(
            NodeFiles.passwd(
                image: "root:x:0:0:root:/root:/bin/bash\nada:x:7:7::/:/bin/sh\nother:x:1001:1::/:/bin/sh\n",
                account: account)
                == "ada:x:1001:50:ada:/home/ada:/bin/bash\nroot:x:0:0:root:/root:/bin/bash\n")
        #expect(NodeFiles.group(image: "root:x:0:\nold:x:50:\n", account: account) == "staff:x:50:\nroot:x:0:\n")
    }
}
