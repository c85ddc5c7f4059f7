import Testing

@testable import VirtualCluster

@Suite struct GridEngineConfigurationTests {
    private var specification: ClusterSpecification {
        var specification = ClusterSpecification(
            name: "demo", nodeCount: 2, cpusPerNode: 4, memoryPerNodeMiB: 2000, image: "trireme-node-gridengine",
            layersDirectory: "/store", layers: ["layers/aa"], binds: [], programDirectory: "/opt/bin",
            account: .init(user: "ada", uid: 1001, group: "staff", gid: 50, home: "/home/ada"))
        specification.scheduler = .gridengine
        return specification
    }

    @Test func everyNodeIsInTheSpool() {
        let configuration = GridEngineConfiguration(specification)
        let files = Dictionary(uniqueKeysWithValues: configuration.files.map { ($0.path, $0.text) })
        let master = "/var/spool/gridengine/qmaster/"
        for node in ["n1", "n2"] {
            #expect(files[master + "admin_hosts/" + node] == "hostname \(node)\n")
            #expect(files[master + "exec_hosts/" + node]?.hasPrefix("hostname              \(node)\n") ?? false)
            #expect(files[master + "qinstances/all.q/" + node]?.contains("qname all.q\n") ?? false)
        }
        // The controller runs no jobs.
        #expect(files[master + "exec_hosts/ctl"] == nil && files[master + "submit_hosts/ctl"] != nil)
        #expect(files[master + "hostgroups/@allhosts"]?.contains("hostlist n1 n2\n") ?? false)
        #expect(files[master + "cqueues/all.q"]?.contains("slots 4\n") ?? false)
        #expect(files[master + "managers"] == "ada\n")
        #expect(
            files["/var/lib/gridengine/default/common/bootstrap"]?.contains("admin_user              ada\n") ?? false)
        #expect(files[master + "pe/mpi"]?.contains("control_slaves     TRUE\n") ?? false)
    }

    @Test func portsReplaceTheImages() {
        let text = GridEngineConfiguration.services(image: "ssh 22/tcp\nsge_qmaster 1/tcp\n")
        #expect(text == "sge_qmaster 6444/tcp\nsge_execd 6445/tcp\nssh 22/tcp\n")
    }

    /// As qstat(1) of 8.1.9 prints it: states at the end, no load before the first report.
    @Test func idleNodesAreCounted() {
        let answer = """
            queuename                      qtype resv/used/tot. load_avg arch          states
            ---------------------------------------------------------------------------------
            all.q@n1                       BIP   0/0/2          6.26     lx-amd64
            ---------------------------------------------------------------------------------
            all.q@n2                       BIP   0/0/2          -NA-     -NA-          au
            ---------------------------------------------------------------------------------
            all.q@n3                       BIP   0/0/2          -NA-     -NA-          
            """
        #expect(ClusterScheduler.gridengine.idleCount(answer: answer) == 1)
        #expect(ClusterScheduler.gridengine.idleCount(answer: "error: commlib error: got select error\n") == nil)
        #expect(ClusterScheduler.slurm.idleCount(answer: "4 n[1-4]\n") == 4)
        #expect(ClusterScheduler.slurm.idleCount(answer: "slurm_load_partitions: Unable to contact\n") == nil)
    }

    @Test func eachSystemHasItsDaemons() {
        #expect(ClusterScheduler.slurm.serviceNames(isController: false) == "munged, slurmd")
        #expect(ClusterScheduler.gridengine.serviceNames(isController: true) == "sge_qmaster")
        #expect(!ClusterScheduler.gridengine.programs.contains { $0.contains("slurm") || $0.contains("munge") })
        #expect(!ClusterScheduler.slurm.programs.contains { $0.contains("sge") })
    }
}
