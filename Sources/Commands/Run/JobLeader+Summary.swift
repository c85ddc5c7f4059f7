import Diagnostics
import Glibc
import ImageStore
import JobModel
import LinuxSystem
import Orchestrator

/// What a job says when it is over, to somebody who sits before it: a script's output is the application's alone.
extension JobLeader {
    var isTold: Bool { isVerbose || !isQuiet && isatty(STDERR_FILENO) == 1 }

    /// `job 12.ab34 succeeded: 8 ranks on 2 nodes, 12.3 s, peak memory 34 MiB (rank 5 on n2)`
    func endSummary(_ code: Int32) -> String {
        let (ranks, nodes) = (job.map.size, job.map.nodes.count)
        var parts = [
            "\(ranks) rank\(ranks == 1 ? "" : "s") on \(nodes) node\(nodes == 1 ? "" : "s")",
            Self.seconds(MonotonicTime.now() - began),
        ]
        if let peakMemory {
            let place = job.map.place(of: peakMemory.rank).map { " on \(machine.nodeName($0.node))" } ?? ""
            parts.append("peak memory \(ByteCount.text(peakMemory.bytes)) (rank \(peakMemory.rank)\(place))")
        }
        if code != 0, let first = machine.firstFailing { parts.append("rank \(first.rank) \(first.status) first") }
        return "job \(job.id) \(code == 0 ? "succeeded" : "failed with exit code \(code)"): "
            + parts.joined(separator: ", ")
    }

    private static func seconds(_ milliseconds: Int) -> String {
        let tenths = (milliseconds + 50) / 100
        return "\(tenths / 10).\(tenths % 10) s"
    }
}
