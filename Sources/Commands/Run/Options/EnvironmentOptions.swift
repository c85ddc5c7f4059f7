import ArgumentParser
import Diagnostics
import Glibc
import LaunchPlan
import NodeAgent

/// Environment: which variables the application finds.
struct EnvironmentOptions: ContainerOptionGroup {
    static let longNames = ["--env", "--clean-env"]

    @Option(name: [.customShort("e"), .long], help: "K=V, or K to pass the caller's.") var env: [String] = []
    @Flag(help: "Pass nothing of the caller's environment.") var cleanEnv = false

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        if cleanEnv { plan.options.insert(.cleanEnvironment) }
        for entry in env {
            if entry.contains("=") {
                plan.overrides.append(Array(entry.utf8))
            } else if let value = getenv(entry) {
                plan.overrides.append(EnvironmentBlock.entry(entry, String(cString: value)))
            }
        }
    }
}
