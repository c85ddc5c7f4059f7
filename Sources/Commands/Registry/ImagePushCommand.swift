import ArgumentParser
import ContainerLaunch
import ContainerRuntime
import Diagnostics
import ImageStore
import RegistryClient
import Synchronization

/// `trireme image push`, `trireme push`
package struct ImagePushCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "push", abstract: "Push an image to a registry; its digest stays the same.")

    @Argument(help: "An image of the store.") var name: String
    @Argument(help: "Where to: [HOST[:PORT]/]NAME[:TAG]; the image's own name when left out.") var destination: String?
    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var progress: ProgressOptions

    package init() {}

    package func run() throws {
        if !progress.quiet { DeviceOptions.tell(ForeignVariables.notices(for: .transfer)) }
        let store = ImageStore.current()
        let plain =
            name.hasPrefix(RemoteReference.scheme) ? String(name.dropFirst(RemoteReference.scheme.count)) : name
        let image = try ImageResolver(store: store).resolve(plain)
        guard destination != nil || image.hasName else {
            throw Diagnostic(
                DiagnosticCode("reference-invalid"), name,
                reasons: ["the image has no name, so it needs a destination"],
                remedies: ["trireme push \(name) HOST/NAME:TAG"])
        }
        let reference = try RegistryCommands.reference(destination ?? image.name)
        let report = Mutex(progress.report)
        let push = ImagePush(image, to: reference, store: store, settings: connection.settings) { event in
            report.withLock { $0.note(event) }
        }
        let digest = try push.run()
        report.withLock { $0.end() }
        Output.standard.line(progress.quiet ? "\(digest)" : "Pushed image: \(reference) \(digest)")
    }
}
