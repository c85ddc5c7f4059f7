import Foundation
import LinuxSystem
import TestSupport
import Testing

/// What ranks used, against what they themselves can see of it; and limits of one rank alone.
@Suite struct JobUsageTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func script(_ text: String) throws -> ProgramRun {
        let programs = (try Programs.path("trireme") as NSString).deletingLastPathComponent
        return try runProgram(
            ["bash", "-c", "export LC_ALL=C PATH=\(programs):$PATH\n" + text],
            environment: ["XDG_STATE_HOME": directory.path], directory: directory.path, limitSeconds: 180)
    }

    private struct Row: Decodable {
        var rank: Int
        var node: String
        var cpuSeconds: Double
        var peakMemory: UInt64
        var read: UInt64
        var written: UInt64
        enum CodingKeys: String, CodingKey {
            case rank, node, read, written
            case cpuSeconds = "cpu_seconds"
            case peakMemory = "peak_memory"
        }
    }

    /// Different work for each rank; it ends with its own account of its processor time (proc(5), in 1/100 s).
    private static let work = """
        head -c $((3000000 * (RANK + 1))) /dev/zero | cat >/dev/null
        held=$(head -c 20000000 /dev/zero | tr "\\0" x)
        i=0; while [ $i -lt $((200000 * (RANK + 1))) ]; do i=$((i + 1)); done
        read -r line </proc/$$/stat; set -- $line; shift 13; echo $RANK $(($1 + $2 + $3 + $4))
        """

    private static func isDelegated(_ controller: String) -> Bool {
        guard let own = CgroupTree.current().legacy(controller)?.directory else { return false }
        return access(own, W_OK) == 0
    }

    /// `direct`: the agent waits for the ranks. `mpirun`: their shims do.
    @Test(arguments: ["direct", "mpirun"]) func accountsAgreeWithTheRanksOwn(_ launcher: String) throws {
        let limit = Self.isDelegated("memory") ? "-m 800m" : ""
        let run = try script(
            """
            trireme run -n 2 --launcher \(launcher) \(limit) mpi-hello:mpich sh -c '\(Self.work)' >own || exit
            trireme job stats --format json $(trireme job ls -a -q)
            """)
        let rows = try JSONDecoder().decode([Row].self, from: run.output)
        let own = try String(contentsOfFile: directory.path + "/own", encoding: .utf8)
        let seconds = Dictionary(
            uniqueKeysWithValues: own.split(separator: "\n").map { line in
                let words = line.split(separator: " ")
                return (Int(words[0]) ?? -1, (Double(words[1]) ?? -1) / 100)
            })
        let ranks = rows.filter { $0.rank >= 0 }
        #expect(ranks.map(\.rank) == [0, 1] && seconds.count == 2, "\(run.outputText)\(run.errorText)")
        for row in ranks {
            let expected = try #require(seconds[row.rank])
            #expect(abs(row.cpuSeconds - expected) < 0.25 + expected / 5, "\(row) \(own)")
            // Twice through a pipe each: what was asked for, and what was held.
            let moved = UInt64(6_000_000 * (row.rank + 1) + 40_000_000)
            #expect((moved..<moved + 2_000_000).contains(row.written), "\(row)")
            #expect(row.read >= moved && row.read < moved + 30_000_000, "\(row)")
            #expect(row.peakMemory > 20_000_000 && row.peakMemory < 400_000_000, "\(row)")
        }
        let all = try #require(rows.last)
        #expect(
            all.rank == -1 && all.node.isEmpty && abs(all.cpuSeconds - ranks.reduce(0) { $0 + $1.cpuSeconds }) < 1e-5)
        #expect(all.written == ranks.reduce(0) { $0 + $1.written } && all.peakMemory == ranks.map(\.peakMemory).max())
        let nodes = rows.filter { $0.rank < 0 && !$0.node.isEmpty }
        #expect(nodes.count == (limit.isEmpty ? 0 : 1))
        for node in nodes {
            // Of all processes at once, so at least what one of them held; its processor time where that is counted.
            #expect(node.peakMemory > 20_000_000, "\(rows)")
            #expect(node.cpuSeconds == 0 || node.cpuSeconds > all.cpuSeconds * 0.9, "\(rows)")
        }
    }

    /// A rank that is killed before its first sample was due leaves an account all the same.
    @Test func aKilledRankHasAnAccount() throws {
        let run = try script(
            """
            trireme run -n 1 --launcher direct --grace 1 mpi-hello:mpich sh -c \\
                'trap "" TERM; head -c 5000000 /dev/zero | cat >/dev/null; echo up; while :; do sleep 1; done' >out 2>&1 & job=$!
            for i in $(seq 300); do grep -q up out && break; sleep 0.1; done
            id=$(trireme ps -q); trireme job cancel $id >/dev/null; wait $job
            trireme job stats --per-rank --format '{{.Rank}} {{.Written}}' $id
            """)
        #expect(
            run.lines.count == 1 && run.outputText.hasPrefix("0 ") && !run.outputText.hasPrefix("0 0"),
            "\(run.outputText)\(run.errorText)")
    }

    @Test func limitsOfOneRankNeedAContainerOfItsOwn() throws {
        let run = try script(
            """
            begin() { trireme run -n $1 --launcher direct mpi-hello:mpich sh -c 'echo up; exec sleep 300' >out 2>&1 & job=$!
                for i in $(seq 300); do [ $(grep -c up out) = $1 ] && break; sleep 0.1; done; id=$(trireme ps -q); }
            end() { trireme job cancel $id >/dev/null; wait $job; }
            begin 2
            trireme job update --rank 1 -m 128m $id 2>&1 | grep -o 'rank 1 has no control group of its own: it shares the container'
            trireme job update --rank 7 -m 128m $id 2>&1 | grep -o 'its ranks are 0 to 1'
            end; begin 1
            trireme job update --rank 0 -m 128m $id 2>&1 | grep -o 'the job was started without limits'
            end
            """)
        #expect(
            run.lines == [
                "rank 1 has no control group of its own: it shares the container", "its ranks are 0 to 1",
                "the job was started without limits",
            ], "\(run.outputText)\(run.errorText)")
    }
}
