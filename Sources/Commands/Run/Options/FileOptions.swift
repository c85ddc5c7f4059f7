import ArgumentParser
import Diagnostics
import LaunchPlan

/// Files: what of the host the container shows, and where it may write.
struct FileOptions: ContainerOptionGroup {
    static let longNames = [
        "--bind", "--volume", "--workdir", "--home", "--no-home", "--writable-tmpfs", "--read-only",
    ]

    @Option(name: [.customShort("B"), .customShort("v"), .long, .customLong("volume")], help: "SRC[:DST[:ro]]")
    var bind: [String] = []
    @Option(name: [.customShort("w"), .long], help: "Start directory.") var workdir: String?
    @Option(help: "'none' leaves the home directory out.") var home: String?
    @Flag(help: "The same as --home none.") var noHome = false
    @Flag(help: "A writable root that vanishes with the container.") var writableTmpfs = false
    @Flag(help: "A read-only root (the default).") var readOnly = false

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        if let directory = workdir { plan.workingDirectory = Array(directory.utf8) }
        if writableTmpfs { plan.options.insert(.writable) }
        if home == "none" || noHome { plan.options.insert(.noHome) }
        for typed in bind {
            // Relative to where it was typed; a job's nodes have no such place.
            let here = context.isJob ? nil : context.directory
            let text = typed.hasPrefix("/") || here == nil ? typed : (here ?? "") + "/" + typed
            let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard parts.count <= 3, parts[0].hasPrefix("/"), parts.count < 3 || ["ro", "rw"].contains(parts[2]) else {
                throw Diagnostic(
                    DiagnosticCode("option-value"), "--bind \(text)",
                    reasons: ["not /SRC[:/DST[:ro]] (in a job, sources are absolute: they are looked up on every node)"]
                )
            }
            plan.mounts.append(
                LaunchPlan.Mount(
                    source: parts[0], destination: parts.count > 1 ? parts[1] : parts[0],
                    isReadOnly: parts.count == 3 && parts[2] == "ro"))
        }
    }
}
