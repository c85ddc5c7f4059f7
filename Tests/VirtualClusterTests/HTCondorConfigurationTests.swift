import Testing

@testable import VirtualCluster

@Suite struct HTCondorConfigurationTests {
    private var specification: ClusterSpecification {
        var specification = ClusterSpecification(
            name: "demo", nodeCount: 2, cpusPerNode: 4, memoryPerNodeMiB: 2000, image: "trireme-node-htcondor",
            layersDirectory: "/store", layers: ["layers/aa"], binds: [], programDirectory: "/opt/bin",
            account: .init(user: "ada", uid: 1001, group: "staff", gid: 50, home: "/home/ada"))
        specification.scheduler = .htcondor
        return specification
    }

    @Test func everyNameIsSetOnceAndWhatIsDeclaredHolds() {
        let text = HTCondorConfiguration(specification).text
        let names = text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { $0.prefix { $0 != " " } }
        #expect(Set(names).count == names.count)
        #expect(text.contains("NUM_CPUS = 4\n") && text.contains("MEMORY = 2000\n"))
        #expect(text.contains("DedicatedScheduler = \"DedicatedScheduler@ada@ctl\"\n"))
    }

    @Test func eachNodeHasItsDaemons() {
        let system = ClusterScheduler.htcondor
        #expect(
            system.serviceNames(isController: true) == "condor_collector, condor_negotiator, condor_schedd")
        #expect(system.serviceNames(isController: false) == "condor_startd")
        #expect(
            system.programs.contains("/usr/sbin/condor_startd") && system.programs.contains("/usr/bin/condor_submit"))
        #expect(!system.programs.contains { $0.contains("slurm") || $0.contains("sge") })
        #expect(ClusterService.allCases.allSatisfy { $0.scheduler.programs.contains($0.program) })
    }

    /// As `condor_status -af Name State Activity` of 25 prints it.
    @Test func idleNodesAreCounted() {
        let system = ClusterScheduler.htcondor
        #expect(system.idleCount(answer: "n1 Unclaimed Idle\nn2 Claimed Busy\nn3 Owner Idle\n") == 1)
        #expect(system.idleCount(answer: "") == nil)
    }
}
