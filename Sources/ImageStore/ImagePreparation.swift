import Diagnostics
import LaunchPlan
import OCIModel

/// An image all of whose layers are unpacked, not yet in the store.
package struct StagedImage: Sendable {
    package var configuration: ImageConfiguration
    /// Absolute, topmost first; where the layers lie now.
    package var layerDirectories: [String]
    /// Empty; becomes the top layer.
    package var preparedDirectory: String
    /// Others may enter the store.
    package var isShared: Bool
}

/// What running an image needs to know of it, found once when it enters the store.
package struct ImagePreparation: Sendable {
    /// Everything but layers, name and digest, which the store adds.
    package var plan: LaunchPlan
    package var mpi: [MPIInstallation]
    package init(plan: LaunchPlan, mpi: [MPIInstallation]) {
        self.plan = plan
        self.mpi = mpi
    }
}

/// Fills an image's top layer and compiles its plan. The store knows no more of running than this.
package protocol ImagePreparer: Sendable {
    func prepare(_ image: StagedImage) throws(Diagnostic) -> ImagePreparation
}
