import LaunchPlan
import OCIModel

extension StoredImage {
    /// A root file system that lies in a directory, outside of any store: it has no manifest, so its
    /// record says only what was found in it.
    ///
    /// - Parameters:
    ///   - path: absolute.
    ///   - plan: with everything but layers and name.
    package static func directory(_ path: String, plan: LaunchPlan, mpi: [MPIInstallation]) -> StoredImage {
        var plan = plan
        plan.layers = [path]
        plan.imageName = path
        let none = Digest(hex: String(repeating: "0", count: 64)).unsafelyUnwrapped
        let record = ImageRecord(
            manifest: Descriptor(mediaType: "", digest: none, size: 0), configuration: none, platform: .current,
            created: nil, loaded: "", layers: [], mpi: mpi, skippedDevices: 0, droppedAttributes: 0)
        return StoredImage(
            name: path, record: record, plan: plan, planPath: "", lowerDirectories: [path],
            layout: StoreLayout(root: path))
    }
}
