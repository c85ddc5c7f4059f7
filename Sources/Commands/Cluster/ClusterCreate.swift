import ArgumentParser
import Diagnostics
import Glibc
import LinuxSystem
import SiteConfiguration
import VirtualCluster

extension ClusterScheduler: ExpressibleByArgument {}

/// `trireme cluster create`
struct ClusterCreate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Start a cluster: a controller 'ctl' and nodes n1 to nN.")

    @Argument(help: "The cluster's name.") var name: String
    @Option(help: "slurm, gridengine or htcondor.") var scheduler: ClusterScheduler = .slurm
    @Option(help: "Compute nodes.") var nodes: Int = 2
    @Option(help: "Cores each node declares (default: this machine's).") var cpus: Int?
    @Option(
        name: .customLong("mem"),
        help: "Memory each node declares, as 2G or 512M (default: its share of this machine's).")
    var memory: String?
    @Option(help: "The node image (default: trireme-node, or trireme-node-SCHEDULER).") var image: String?
    @Option(help: ArgumentHelp("An unpacked root file system instead of an image.", visibility: .hidden))
    var rootfs: String?
    @Option(name: [.customLong("bind"), .customShort("B")], help: "A host directory to show in every node: SRC[:DST].")
    var binds: [String] = []
    @Option(name: .customLong("slurm-setting"), help: "A further line of slurm.conf, KEY=VALUE.")
    var slurmSettings: [String] = []
    @Option(help: "Seconds after which a start that is not ready is given up.") var timeout: Int = 60
    @Flag(help: "Keep the logs of a start that failed.") var retain = false
    @Flag(name: .shortAndLong, help: "Print the cluster's name only.") var quiet = false

    func run() throws {
        let started = ContinuousClock.now
        let planner = ClusterPlanner(locations: .current())
        var specification = try planner.specification(
            name: name, scheduler: scheduler, nodes: nodes, cpus: cpus, memory: memory,
            image: image ?? scheduler.image, rootfs: rootfs, binds: binds)
        specification.slurmSettings = slurmSettings
        specification.timeoutSeconds = Int(Int32(clamping: timeout))
        let isQuiet = quiet
        let record = try ClusterCreation(
            specification: specification, registry: ClusterCommand.registry, retainsFailure: retain,
            progress: { step in
                switch step {
                case .logLine(let text): Output.standard.line("   \(text)", to: .progress)
                case _ where isQuiet: break
                case .done(let text): Output.standard.line(" ✓ \(text)", to: .progress)
                case .failed(let text): Output.standard.line(" ✗ \(text)", to: .progress)
                case .waiting(let text): Output.standard.line("   \(text)", to: .progress)
                }
            }
        ).run()
        if isQuiet {
            Output.standard.line(record.name)
            return
        }
        let elapsed = ContinuousClock.now - started
        let hundredths = elapsed.components.seconds * 100 + elapsed.components.attoseconds / 10_000_000_000_000_000
        let seconds = "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
        Output.standard.line("Cluster '\(record.name)' is ready after \(seconds) s. Next:", to: .progress)
        Output.standard.line(
            "  trireme cluster exec \(record.name) -- \(scheduler.firstCommand(nodes: nodes))", to: .progress)
    }
}
