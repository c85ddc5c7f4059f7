import ArgumentParser
import Diagnostics
import LaunchPlan

/// Isolation and identity: what the container shares with its host, and who it says its user is.
struct IsolationOptions: ContainerOptionGroup {
    static let longNames = ["--user"]

    @Option(help: "'image' shows the image's USER inside.") var user: String?

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        if user == "image" { plan.options.insert(.imageUser) }
    }
}
