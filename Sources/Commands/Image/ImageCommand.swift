import ArgumentParser
import ContainerRuntime
import ImageStore
import SiteConfiguration

/// `trireme image`
package struct ImageCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "image", abstract: "Images: load them from archives, list, inspect and remove them.",
        subcommands: [ImageLoad.self, ImageList.self, ImageInspect.self, ImageRemove.self])
    package init() {}
}

extension ImageStore {
    /// The store of this invocation.
    static func current() -> ImageStore { ImageStore(root: Locations.current().store) }
}
