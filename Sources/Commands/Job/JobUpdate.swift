import ArgumentParser
import Diagnostics

/// `trireme job update`
struct JobUpdate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "update", abstract: "Change the limits of running jobs' containers.",
        discussion: """
            Each node's container gets the new limits at once. Only limits that the job was started with can be \
            changed: its control groups have no others. A rank has a control group when it is alone in its container \
            (--ntasks-per-node 1); otherwise --rank is refused.
            """)
    @Option(name: [.customShort("m"), .long], help: "Bytes of memory of each container: 512m, 2g.")
    var memory: String?
    @Option(help: "Processor time of each container, in processors: 1.5.") var cpus: String?
    @Option(help: "Most processes and threads of each container.") var pidsLimit: String?
    @Option(help: "Only the container of this rank, which must be alone in it.") var rank: Int?
    @Argument(help: "The jobs.") var ids: [String]

    func run() throws {
        var limits: [String] = []
        if let memory { limits.append("memory=\(try LimitOptions.bytes("--memory", memory, least: 6 << 20))") }
        if let cpus { limits.append("cpus=\(try LimitOptions.thousandths(cpus))") }
        if let pidsLimit {
            limits.append("pids-limit=\(try LimitOptions.count("--pids-limit", pidsLimit, in: 1...4_194_304))")
        }
        guard !limits.isEmpty else {
            throw Diagnostic(
                DiagnosticCode("usage"), "trireme job update", reasons: ["no new limit was given"],
                remedies: ["trireme job update --memory 4g ID", "trireme job update --help"])
        }
        try ControlClient.tell(ids, ["update"] + (rank.map { ["rank=\($0)"] } ?? []) + limits)
    }
}
