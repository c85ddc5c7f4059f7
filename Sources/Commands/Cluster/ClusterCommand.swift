import ArgumentParser
import SiteConfiguration
import VirtualCluster

/// `trireme cluster`
package struct ClusterCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "cluster", abstract: "Virtual clusters on this machine: real Slurm or Grid Engine, without root.",
        subcommands: [
            ClusterCreate.self, ClusterList.self, ClusterStatus.self, ClusterExec.self, ClusterLogs.self,
            ClusterDelete.self,
        ])
    package init() {}

    static var registry: ClusterRegistry { ClusterRegistry(locations: .current()) }
}
