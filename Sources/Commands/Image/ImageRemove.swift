import ArgumentParser
import ContainerRuntime
import Diagnostics
import ImageStore
import OCIModel

/// `trireme image rm`, `trireme rmi`
package struct ImageRemove: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove images; layers go with the last image that uses them.",
        aliases: ["remove"])

    @Flag(name: .shortAndLong, help: "Remove it even while a container runs from it; say nothing of a missing one.")
    var force = false
    @Argument(help: "Names of images.") var names: [String]

    package init() {}

    package func run() throws {
        let store = ImageStore.current()
        let resolver = ImageResolver(store: store)
        let used = force ? [] : ImageStore.imagesInUse()
        var first: Diagnostic?
        for name in names {
            // One that fails does not keep the others; the first failure is the one reported last.
            do throws(Diagnostic) {
                if force, try store.image(named: name) == nil { continue }
                let image = try resolver.resolve(name)
                if !force, used.contains(image.record.manifest.digest), try store.isLastName(image) {
                    throw Diagnostic(
                        DiagnosticCode("image-in-use"), name, reasons: ["a container on this machine runs from it"],
                        remedies: ["wait for it to end", "trireme image rm -f \(name)"])
                }
                let removal = try store.remove(named: name)
                for name in removal.untagged { Output.standard.line("Untagged: \(name)") }
                for digest in removal.deleted { Output.standard.line("Deleted: \(digest)") }
            } catch {
                if first != nil { Output.standard.diagnose(error) }
                first = first ?? error
            }
        }
        if let first { throw first }
    }
}
