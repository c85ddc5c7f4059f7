import ArgumentParser
import ContainerRuntime
import Diagnostics
import ImageStore

/// `trireme image rm`, `trireme rmi`
package struct ImageRemove: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove images; layers go with the last image that uses them.",
        aliases: ["remove"])

    @Argument(help: "Names of images.") var names: [String]

    package init() {}

    package func run() throws {
        let store = ImageStore.current()
        let resolver = ImageResolver(store: store)
        var first: Diagnostic?
        for name in names {
            // One that fails does not keep the others; the first failure is the one reported last.
            do throws(Diagnostic) {
                _ = try resolver.resolve(name)
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
