import Diagnostics
import ImageStore
import LinuxSystem
import OCIModel

/// What `require: signed` means for images that are in the store: a name that a policy wants signed is run only
/// with a signature that was kept when the image came in. It is checked here anew, by the keys of today, without
/// a network.
package struct SignedNames {
    private let policy: RegistryPolicy
    private let store: ImageStore

    /// - Throws: `policy-invalid`.
    package init(store: ImageStore, settings: RegistrySettings) throws(Diagnostic) {
        policy = try settings.policy()
        self.store = store
    }

    /// The policies whose demand `image` does not meet under its name. An image without a name, or a file, was
    /// chosen by its content.
    private func unmet(_ image: StoredImage) -> [String] {
        guard image.hasName, image.file == nil, let name = RemoteReference(image.name)?.name else { return [] }
        let demands = policy.demands(name)
        if demands.isEmpty { return [] }
        let kept = store.signatures(of: image)
        let digest = image.record.manifest.digest
        return demands.filter { demand in !kept.contains { $0.holds(for: digest, by: demand.keys) } }.map(\.policy)
    }

    package func covers(_ image: StoredImage) -> Bool { unmet(image).isEmpty }

    /// - Throws: `image-unsigned`.
    package func admit(_ image: StoredImage) throws(Diagnostic) {
        guard let path = unmet(image).first else { return }
        throw Diagnostic(
            .imageUnsigned, image.name,
            reasons: [
                "policy \(path) wants a signature by its keys under this name, and the store has none of "
                    + "\(image.record.manifest.digest)"
            ],
            remedies: [
                "trireme pull \(image.name) brings it, where the registry has one",
                "trireme image tag \(image.name) localhost/NAME and run that: a name of your own, that no registry vouches for",
            ])
    }

    /// Keeps the signatures of `image` that an archive brings along (`cosign save`), as far as a policy asks for any.
    ///
    /// - Parameter open: opens the archive or directory again; nil when it was a pipe, and is read.
    /// - Returns: the policy whose demand stays unmet; nil when there is none.
    package func took(
        _ image: StoredImage, from open: (() throws(Diagnostic) -> OwnedDescriptor)?, subject: String
    ) -> String? {
        guard let policy = unmet(image).first, let name = RemoteReference(image.name)?.name else { return nil }
        guard let open else { return policy }
        for key in self.policy.demands(name).flatMap(\.keys) {
            do throws(Diagnostic) {
                let layout = try open()
                let found = try store.signatures(
                    of: image.record.manifest.digest, by: key, in: layout, subject: subject)
                store.keep(found.map { KeptSignature($0, indexes: []) }, of: image)
            } catch { continue }  // an archive without an index, as docker's older ones, holds no signatures
        }
        return unmet(image).first
    }
}
