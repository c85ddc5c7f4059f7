import Foundation
import TestSupport
import Testing

/// `--network` of jobs on nodes that are really apart: the tunnels, what is reached through them, their end.
@Suite(.serialized) struct JobNetworkTests {
    @Test func jobsOverIt() throws {
        let fixture = try JobFixture()
        // What Open vSwitch makes for a VXLAN port, with the kernel's part of it: all of UDP port 4789 is taken.
        for node in ["n1", "n2", "n3"] {
            try fixture.network(
                node,
                ["link", "add", "vxlan_sys_4789", "type", "vxlan", "external", "dstport", "4789", "nolearning"])
            try fixture.network(node, ["link", "set", "vxlan_sys_4789", "up"])
        }
        try bothMPIsRun(fixture)
        try addresses(fixture)
        try noneIsForOneNode(fixture)
        try explanation(fixture)
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test func manyJobsAndKilledOnes() throws {
        let fixture = try JobFixture()
        try disjointSubnets(fixture)
        try nothingIsLeft(fixture, "kill -KILL $p")
        try nothingIsLeft(fixture, "srun -Q --overlap -N2 -n2 pkill -KILL -f trireme-agent")
    }

    /// The number of a job's subnet in 100.64.0.0/10, and of the tunnel that belongs to it.
    private static func subnet(_ address: Substring) -> Int? {
        let bytes = address.split(separator: ".").compactMap { UInt8($0) }.map(Int.init)
        guard bytes.count == 4, bytes[0] == 100, bytes[1] >= 64, bytes[1] < 128 else { return nil }
        return (bytes[1] - 64) << 4 | bytes[2] >> 4
    }
    private static func identifier(_ subnet: Int) -> String {
        "\(1 << 23 | (Int(geteuid()) & 0x1FFF) << 10 | subnet)"
    }

    private func bothMPIsRun(_ fixture: JobFixture) throws {
        let images = [JobFixture.openMPI, JobFixture.mpich]
        for (image, launcher) in images.flatMap({ [($0, "mpirun"), ($0, "direct")] }) {
            let run = try fixture.run([
                "-n", "6", "-N", "3", "--network", "job", "--launcher", launcher, image, "mpi-hello",
            ])
            #expect(run.status == 0, "\(run.errorText)")
            let whole = run.lines.filter { $0.contains(" of 6 on ") && $0.hasSuffix(" sum 15") }
            #expect(whole.count == 6, "\(image) \(launcher): \(run.outputText)\(run.errorText)")
        }
    }

    private func addresses(_ fixture: JobFixture) throws {
        let run = try fixture.run([
            "-n", "3", "-N", "3", "--network", "job", "--launcher", "direct", JobFixture.mpich, "bash", "-c",
            """
            at() { getent ahostsv4 $1 | cut -d' ' -f1 | sort -u | tr '\\n' ' '; }
            echo "$(hostname) $TRIREME_ADDR own $(at $(hostname))all $(at n1)$(at n2)$(at n3)$MASTER_ADDR \
            links $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | sort | tr '\\n' ' ')ns $(readlink /proc/self/ns/net)"
            """,
        ])
        let words = run.lines.sorted().map { $0.split(separator: " ") }
        try #require(words.count == 3 && words.allSatisfy { $0.count == 14 }, "\(run.outputText)\(run.errorText)")
        let base = try #require(Self.subnet(words[0][1]), "\(run.outputText)")
        let addresses = (1...3).map { "100.\(64 + base >> 4).\((base & 15) << 4).\($0)" }
        for (index, word) in words.enumerated() {
            #expect(word[0] == "n\(index + 1)" && word[1] == addresses[index] && word[3] == addresses[index])
            #expect(word[5...7].map(String.init) == addresses && word[8] == addresses[0], "\(run.outputText)")
            #expect(word[9...12] == ["links", "eth0", "lo", "ns"])
        }
        #expect(Set(words.map { $0[13] }).count == 3)
    }

    /// Each job looks for its own other node and for another job's; nobody ends before all are there.
    private func disjointSubnets(_ fixture: JobFixture) throws {
        let count = LaunchMatrix.isFull ? 20 : 8
        let run = try fixture.script(
            """
            export d=$(mktemp -d -p ~); cat >$d.sh <<'END'
            export LC_ALL=C; here=$(hostname); own=$TRIREME_ADDR
            echo $own >$d/.$J.$here; mv $d/.$J.$here $d/$J.$here
            i=0; while [ $(ls $d | wc -l) -lt $((2 * N)) ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
            try() { (exec 3<>/dev/tcp/$1/9) 2>&1 | grep -o 'refused\\|unreachable' | head -n 1; }
            peer=n1; [ $here = n1 ] && peer=n2
            echo $J $own $(try $(cat $d/$J.$peer)) $(try $(cat $d/$((J % N + 1)).$peer))
            touch $d/$J.$here.done
            i=0; while [ $(ls $d | grep -c done) -lt $((2 * N)) ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
            END
            export N=\(count)
            salloc -Q -N 2 -n 4 sh -c 'for J in $(seq $N); do export J
            trireme run -n 2 -N 2 --launcher direct --network job \(JobFixture.mpich) bash $d.sh & done; wait'
            rm -r $d $d.sh
            """, limitSeconds: 150)
        let words = run.lines.map { $0.split(separator: " ") }
        try #require(
            words.count == 2 * count && words.allSatisfy { $0.count == 4 }, "\(run.outputText)\(run.errorText)")
        #expect(words.allSatisfy { $0[2] == "refused" && $0[3] == "unreachable" }, "\(run.outputText)")
        let pairs = Dictionary(grouping: words) { $0[0] }
        let subnets = pairs.values.compactMap { pair in Self.subnet(pair[0][1]) }
        #expect(pairs.count == count && Set(subnets).count == count, "\(run.outputText)")
        #expect(pairs.values.allSatisfy { Set($0.map { Self.subnet($0[1]) }).count == 1 && $0[0][1] != $0[1][1] })
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    /// Whether the tunnel's number is free on the node, tried by taking it.
    private func isFree(_ fixture: JobFixture, _ identifier: String, _ node: String, _ address: String) throws -> Bool {
        do {
            try fixture.network(
                node,
                [
                    "link", "add", "probe", "type", "vxlan", "id", identifier, "dstport", "14789", "local", address,
                ])
        } catch let failure as JobFixture.Failure {
            guard failure.said.contains("exists") else { throw failure }
            return false
        }
        try fixture.network(node, ["link", "delete", "probe"])
        return true
    }

    private func nothingIsLeft(_ fixture: JobFixture, _ kill: String) throws {
        let path = NSHomeDirectory() + "/.net-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let job = Thread {
            _ = try? fixture.script(
                """
                salloc -Q -N 2 -n 4 bash -c 'trireme run -n 2 -N 2 --launcher direct --network job \(JobFixture.mpich) \
                sh -c "echo \\$TRIREME_ADDR; exec sleep 60" >\(path) 2>&1 & p=$!
                i=0; while [ ! -e \(path).go ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
                \(kill); wait $p'
                """)
        }
        job.start()
        var lines: [Substring] = []
        _ = ClusterFixture.eventually(within: 40) {
            lines = ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").split(separator: "\n")
            return lines.count == 2
        }
        let number = try #require(lines.first.flatMap { Self.subnet($0) }, "\(lines)")
        let identifier = Self.identifier(number)
        #expect(try !isFree(fixture, identifier, "n1", "10.9.0.2") && !isFree(fixture, identifier, "n2", "10.9.0.3"))
        defer { try? FileManager.default.removeItem(atPath: path + ".go") }
        #expect(FileManager.default.createFile(atPath: path + ".go", contents: nil))
        let areFree = try ClusterFixture.eventually(within: 30) {
            try isFree(fixture, identifier, "n1", "10.9.0.2") && isFree(fixture, identifier, "n2", "10.9.0.3")
        }
        #expect(areFree)
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    private func noneIsForOneNode(_ fixture: JobFixture) throws {
        let one = try fixture.run(["-n", "2", "-N", "1", "--network", "none", JobFixture.openMPI, "mpi-hello"])
        #expect(one.lines.filter { $0.contains(" of 2 on ") && $0.hasSuffix(" sum 1") }.count == 2, "\(one.errorText)")
        let two = try fixture.run(["-n", "2", "-N", "2", "--network", "none", JobFixture.openMPI, "echo", "started"])
        #expect(two.status == 125 && two.output.isEmpty, "\(two.outputText)")
        #expect(two.errorText.contains("2 nodes") && two.errorText.contains("[network-refused]"), "\(two.errorText)")
    }

    private func explanation(_ fixture: JobFixture) throws {
        let run = try fixture.script(
            """
            salloc -Q -N 3 -n 6 trireme run -n 6 -N 3 --network job --explain launch \(JobFixture.mpich) mpi-hello
            salloc -Q -N 2 -n 2 trireme run -n 2 --network job --launcher srun \(JobFixture.mpich) mpi-hello; echo $?
            """)
        #expect(run.lines.contains { $0.hasPrefix("network ") && $0.contains("VXLAN") && $0.contains("3 nodes") })
        #expect(run.lines.contains { $0.hasPrefix("srun ") && $0.contains("--network job") }, "\(run.outputText)")
        #expect(run.lines.last == "125" && run.errorText.contains("[mpi-mismatch]"), "\(run.errorText)")
    }
}

/// The same on this machine, where nobody grants a tunnel.
@Suite struct LocalJobNetworkTests {
    let directory: TemporaryDirectory
    init() throws { directory = try TemporaryDirectory() }

    private func run(_ words: [String]) throws -> ProgramRun {
        try runProgram(
            [Programs.path("trireme"), "run"] + words, environment: ["XDG_STATE_HOME": directory.path],
            directory: directory.path, limitSeconds: 120)
    }

    private static let links = "echo $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | sort)"

    @Test func oneContainerAlone() throws {
        #expect(try run(["--network", "none", JobFixture.mpich, "sh", "-c", Self.links]).lines == ["lo"])
        let job = try run(["--network", "job", JobFixture.mpich, "true"])
        #expect(job.status == 125 && job.errorText.contains("-n 1"), "\(job.errorText)")
        let unknown = try run(["--network", "bridge", JobFixture.mpich, "true"])
        #expect(unknown.status == 125 && unknown.errorText.contains("host, job, none"), "\(unknown.errorText)")
    }

    @Test(arguments: [("none", "lo"), ("job", "eth0 lo")])
    func aJobOfOneNodeTakesNoTunnel(_ network: String, _ links: String) throws {
        let options = ["--rm", "local", "-n", "2", "--network", network]
        let shown = try run(options + ["--launcher", "direct", JobFixture.mpich, "sh", "-c", Self.links])
        #expect(shown.lines == [links, links], "\(shown.errorText)")
        for image in [JobFixture.openMPI, JobFixture.mpich] {
            let hello = try run(options + [image, "mpi-hello"])
            let whole = hello.lines.filter { $0.contains(" of 2 on ") && $0.hasSuffix(" sum 1") }
            #expect(whole.count == 2, "\(image): \(hello.outputText)\(hello.errorText)")
        }
    }

    @Test(.enabled(if: geteuid() != 0)) func twoNodesAreRefusedWhereNobodyGrantsATunnel() throws {
        let name = try runProgram(["uname", "-n"]).lines[0]
        try Data("localhost\n\(name)\n".utf8).write(to: URL(fileURLWithPath: directory.path + "/hosts"))
        let run = try run([
            "--hostfile", "hosts", "-n", "2", "-N", "2", "--network", "job", "--launcher", "direct", JobFixture.mpich,
            "echo", "started",
        ])
        #expect(run.status == 125 && run.output.isEmpty, "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.components(separatedBy: "[network-refused]").count == 2, "\(run.errorText)")
        #expect(run.errorText.contains("CAP_NET_ADMIN") && run.errorText.contains("--network host"), "\(run.errorText)")
    }
}
