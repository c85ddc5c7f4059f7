import ArgumentParser
import Diagnostics
import LaunchPlan

/// Process: the command, its terminal and its life.
struct ProcessOptions: ContainerOptionGroup {
    static let longNames = ["--entrypoint", "--interactive", "--tty", "--quiet"]

    @Option(help: "Instead of the image's ENTRYPOINT; '' for none.") var entrypoint: String?
    @Flag(name: [.customShort("q"), .long], help: "No progress messages.") var quiet = false
    @Flag(name: [.customShort("i"), .long], help: "Accepted; standard input is always passed.") var interactive = false
    @Flag(name: [.customShort("t"), .long], help: "Accepted; the terminal is the caller's.") var tty = false

    /// `--entrypoint` also drops the image's CMD, as docker does.
    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        guard let entrypoint else { return }
        plan.entrypoint = entrypoint.isEmpty ? [] : [Array(entrypoint.utf8)]
        plan.command = []
    }
}
