import ArgumentParser
import ContainerRuntime
import ImageStore
import SiteConfiguration

/// `trireme image`
package struct ImageCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "image", abstract: "Images: in and out of the store, listed, inspected, checked and removed.",
        subcommands: [
            ImagePullCommand.self, ImagePushCommand.self, ImageLoad.self, ImageSave.self, ImageImport.self,
            ImageList.self, ImageInspect.self, ImageHistory.self,
            ImageTag.self, ImageRemove.self, ImagePrune.self, ImagePin.self, ImageUsage.self, ImageVerify.self,
            ImageLint.self, ImageCheck.self, ImageSync.self, ImageSpread.self, ImageReceive.self,
            ImageConvert.self,
        ])
    package init() {}
}

extension ImageStore {
    /// The store of this invocation.
    static func current() -> ImageStore { ImageStore(.current()) }

    init(_ locations: Locations) { self.init(root: locations.store, sites: locations.siteStores) }
}
