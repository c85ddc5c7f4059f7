import ArgumentParser
import Diagnostics
import VirtualCluster

/// `trireme cluster delete`
struct ClusterDelete: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "End clusters and remove what they left.", aliases: ["rm"])

    @Argument(help: "Names of clusters; one that does not exist is no error.") var names: [String]

    func run() throws {
        let registry = ClusterCommand.registry
        var failure: Diagnostic?
        for name in names {
            do throws(Diagnostic) {
                let existed = try registry.delete(name)
                Output.standard.line(existed ? "deleted \(name)" : "no cluster \(name)", to: .progress)
            } catch {
                // The others are deleted all the same; the first failure is the one reported.
                if failure == nil { failure = error } else { Output.standard.diagnose(error) }
            }
        }
        if let failure { throw failure }
    }
}
