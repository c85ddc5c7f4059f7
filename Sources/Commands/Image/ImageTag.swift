import ArgumentParser
import ContainerRuntime
import Diagnostics
import ImageStore
import OCIModel

/// `trireme image tag`
package struct ImageTag: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "tag", abstract: "Give an image one more name, taking it from the image that had it.")

    @Argument(help: "The image: a name or at least 6 digits of its digest.") var image: String
    @Argument(help: "The new names.") var names: [String]

    package init() {}

    package func run() throws {
        let store = ImageStore.current()
        let references = try names.map { try ImageTag.reference($0) }
        let found = try ImageResolver(store: store).resolve(image)
        for reference in references { try store.tag(found, as: reference) }
    }

    /// The name that `text` is; a digest or a malformed one cannot be given.
    static func reference(_ text: String) throws(Diagnostic) -> ImageReference {
        guard let reference = ImageReference(text) else {
            throw Diagnostic(
                DiagnosticCode("usage"), text, reasons: ["not a name for an image"],
                remedies: ["[HOST/]PATH[:TAG], the path in lower case letters, digits and inner . _ -"])
        }
        return reference
    }
}
