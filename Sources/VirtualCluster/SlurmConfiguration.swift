/// The text of slurm.conf(5) for a virtual cluster. Pure; measured settings, each
/// for a reason said at its line.
package struct SlurmConfiguration: Equatable, Sendable {
    package var clusterName: String
    package var user: String
    package var nodeCount: Int
    package var cpusPerNode: Int
    package var memoryPerNodeMiB: Int
    package var settings: [String]

    package init(_ specification: ClusterSpecification) {
        clusterName = specification.name
        user = specification.account.user
        nodeCount = specification.nodeCount
        cpusPerNode = specification.cpusPerNode
        memoryPerNodeMiB = specification.memoryPerNodeMiB
        settings = specification.slurmSettings
    }

    /// Ports of slurmctld and slurmd, Slurm's own defaults.
    package static let controllerPort: UInt16 = 6817
    package static let nodePort: UInt16 = 6818

    package var text: String {
        let nodes = nodeCount == 1 ? "n1" : "n[1-\(nodeCount)]"
        let own = """
            # Written by trireme for this virtual cluster; man 5 slurm.conf
            ClusterName=\(clusterName)
            SlurmctldHost=ctl
            # Everything runs as the one account that is mapped into the nodes.
            SlurmUser=\(user)
            SlurmdUser=\(user)
            AuthType=auth/munge
            CredType=cred/munge
            StateSaveLocation=/var/lib/slurm
            SlurmdSpoolDir=/var/spool/slurmd
            SlurmctldPidFile=/run/slurm/slurmctld.pid
            SlurmdPidFile=/run/slurm/slurmd.pid
            # No cgroups and no privileges inside the nodes.
            ProctrackType=proctrack/linuxproc
            TaskPlugin=task/none
            JobAcctGatherType=jobacct_gather/none
            SelectType=select/cons_tres
            SelectTypeParameters=CR_Core
            # The declared CPUs and memory hold, whatever the host has.
            SlurmdParameters=config_overrides
            ReturnToService=2
            MailProg=/bin/true
            MpiDefault=none
            SlurmdTimeout=30
            # A job whose salloc or srun vanished ends after this many seconds.
            InactiveLimit=10
            KillWait=5
            # Scheduling at once: the defaults let a job queue for up to 3 seconds.
            SchedulerType=sched/backfill
            SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
            # At once, too. 0 is no number for it: every slurmd of a job over more than 64 nodes divides by it.
            EpilogMsgTime=1
            CompleteWait=0
            EnforcePartLimits=ALL
            NodeName=\(nodes) CPUs=\(cpusPerNode) RealMemory=\(memoryPerNodeMiB) State=UNKNOWN
            PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP

            """
        // A key that is given replaces ours: slurm.conf may name most keys only once.
        let given = Set(settings.map(Self.key))
        let kept = own.split(separator: "\n", omittingEmptySubsequences: false).filter {
            Self.key($0).isEmpty || !given.contains(Self.key($0))
        }
        return kept.joined(separator: "\n") + settings.map { $0 + "\n" }.joined()
    }

    /// The part before `=`, lower case; slurm.conf's keys have no case. Nodes and partitions may be many.
    private static func key(_ line: some StringProtocol) -> String {
        let key = line.prefix { $0 != "=" }.lowercased()
        return line.contains("=") && key != "nodename" && key != "partitionname" ? key : ""
    }

    /// cgroup.conf(5): without this line slurmd looks for a cgroup file system and exits.
    package static let cgroupText = "CgroupPlugin=cgroup/v1\n"
}
