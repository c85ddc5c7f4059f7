import LinuxSystem
import Testing

@testable import VirtualCluster

@Suite struct ClusterRecordTests {
    private let record = ClusterRecord(
        name: "demo", created: "2026-01-02T03:04:05Z", host: "login \"1\"\n", image: "trireme-node", cpusPerNode: 2,
        memoryPerNodeMiB: 2000, user: "ada", home: "/home/äda",
        supervisor: ProcessIdentity(pid: 10, startTicks: 20, bootID: "b-1"),
        nodes: [.init(name: "ctl", address: "10.9.0.1", process: .init(pid: 11, startTicks: 21, bootID: "b-1"))])

    @Test func survivesItsFile() throws {
        let parsed = try #require(JSONText(parsing: record.json.encoded))
        #expect(ClusterRecord(json: parsed) == record)
    }

    @Test func theClusterAroundItIsOnRecord() throws {
        var nested = record
        nested.outer = "around"
        #expect(ClusterRecord(json: try #require(JSONText(parsing: nested.json.encoded))) == nested)
    }

    @Test func descendantsAreFound() {
        let table = ProcessTable(parents: [1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20])
        #expect(table.below([10]) == [10, 11, 12])
        #expect(table.below([30]) == [30])
    }

    @Test func theControllerHasTwoNames() throws {
        #expect(record.node(named: "login") == record.nodes[0] && record.node(named: "n1") == nil)
        #expect(try ClusterEntry(record, node: "login").node.name == "ctl")
        let hosts = NodeFiles.hosts([ClusterNode(index: 0), ClusterNode(index: 1)])
        #expect(hosts == "127.0.0.1 localhost\n10.9.0.1 ctl login\n10.9.0.2 n1\n")
    }

    @Test(arguments: [
        "", "{", "{\"a\":}", "[1,]", "\"\\u12\"", "{\"a\":1} x", "nul", "\"\\q\"",
        "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]",
    ])
    func refusesWhatIsNotJSON(text: String) { #expect(JSONText(parsing: text) == nil) }

    @Test func aRecordWithoutAPidIsNone() throws {
        let text = record.json.encoded.replacing("\"pid\": 10", with: "\"pid\": 0")
        #expect(ClusterRecord(json: try #require(JSONText(parsing: text))) == nil)
    }

    @Test func reportsSurviveThePipe() {
        let report = ClusterReport(
            .failed, node: 513, service: .slurmd, value: -7, text: String(repeating: "é", count: 90))
        let read = ClusterReport(bytes: report.bytes)
        #expect(read?.kind == .failed && read?.node == 513 && read?.service == .slurmd && read?.value == -7)
        #expect(read?.text.hasPrefix("éé") == true)
        #expect(ClusterReport(bytes: [UInt8](repeating: 0, count: 128)) == nil)
    }

    @Test func servicesSurviveTheirLine() {
        for service in [
            ServiceStatus(service: .slurmd, pid: 17, endStatus: nil),
            ServiceStatus(service: .munged, pid: 2, endStatus: 256),
        ] { #expect(ServiceStatus(line: service.line) == service) }
        #expect(ServiceStatus(line: "slurmd 17 256")?.words == "exited 1")
        #expect(ServiceStatus(line: "slurmd 17 9")?.words == "killed by signal 9")
        #expect(ServiceStatus(line: "cron 17") == nil)
    }

    @Test func portsAreReadFromTheKernelsTable() {
        let table = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
               0: 00000000:1AA1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001
               1: 0100090A:1AA2 0200090A:C001 01 00000000:00000000 00:00000000 00000000  1001
            """
        #expect(ListeningPorts.listens(table: table, port: 6817))
        #expect(!ListeningPorts.listens(table: table, port: 6818))
        let sockets = """
            Num       RefCount Protocol Flags    Type St Inode Path
            000000001: 00000002 00000000 00010000 0001 01 4711 /run/munge/munge.socket.2
            000000002: 00000002 00000000 00000000 0001 01 4712 /run/other
            """
        #expect(MungeSocket.listens(table: sockets, path: "/run/munge/munge.socket.2"))
        #expect(!MungeSocket.listens(table: sockets, path: "/run/other"))
    }

    @Test func theEnvironmentOfACommand() {
        let entries = ClusterEntry.environment(
            ["PATH=/host", "LD_PRELOAD=x", "A=1", "SLURM_JOB_ID=5", "SLURM_NNODES=2", "OMPI_MCA_x=1", "HOME=/other"],
            record: record)
        #expect(
            entries == [
                "A=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/äda",
                "USER=ada",
                "LOGNAME=ada", "TRIREME_CLUSTER=demo",
            ])
        #expect(ClusterEntry.environment(["OMPI_MCA_x=1"], record: record).contains("OMPI_MCA_x=1"))
    }
}
