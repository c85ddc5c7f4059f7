import Diagnostics
import Dispatch
import FoundationEssentials
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import OCIModel

/// Pushed images on their way into the store, one after the other, on a thread that may block.
final class ImportQueue: Sendable {
    private let queue = DispatchQueue(label: "trireme.registry.import")
    private let load: @Sendable (IncomingImage, String) throws(Diagnostic) -> Void

    init(store: ImageStore, preparer: some ImagePreparer) {
        load = { image, subject throws(Diagnostic) in
            _ = try store.load(image, subject: subject, preparer: preparer)
        }
    }

    /// Unpacks a pushed image that runs on this machine; nil for what is none, and when the import
    /// worked, else why not.
    func take(
        _ bytes: [UInt8], _ digest: Digest, type: String, name: ImageReference?, content: RegistryContent
    ) async -> Diagnostic? {
        guard let manifest = try? RemoteManifest(bytes: bytes, type: type, claimed: nil, expected: digest, what: ""),
            !manifest.isIndex, let image = try? ResolvedImage(manifest),
            let configurationBytes = content.bytes(image.configuration.digest),
            let configuration = try? JSONDecoder().decode(ImageConfiguration.self, from: Data(configurationBytes)),
            configuration.platform.map({ Platform.current.accepts($0) }) ?? true,
            let diffIDs = configuration.rootFileSystem?.diffIDs, diffIDs.count == image.layers.count
        else { return nil }
        var layers: [IncomingLayer] = []
        for (layer, diffID) in zip(image.layers, diffIDs) {
            guard let blob = content.blob(layer.digest), blob.size == layer.size else { return nil }
            layers.append(
                IncomingLayer(
                    name: layer.digest.description, length: layer.size, diffID: diffID, blobDigest: layer.digest
                ) { () throws(ArchiveFault) in
                    guard let blob = content.blob(layer.digest), blob.size == layer.size else {
                        throw ArchiveFault(.system, "the blob is gone")
                    }
                    return BlobFile(blob)
                })
        }
        let incoming = IncomingImage(
            names: name.map { [$0] } ?? [], manifest: (bytes, image.descriptor),
            configurationBytes: configurationBytes, configurationDigest: image.configuration.digest,
            configuration: configuration, layers: layers)
        let job = Job(incoming)
        let load = load
        return await withCheckedContinuation { continuation in
            queue.async {
                do throws(Diagnostic) {
                    try load(job.image, name?.description ?? digest.description)
                    content.share(image.layers.map(\.digest) + [image.configuration.digest, digest])
                    continuation.resume(returning: nil)
                } catch { continuation.resume(returning: error) }
            }
        }
    }

    /// Handed to the queue and used there alone.
    private final class Job: @unchecked Sendable {
        let image: IncomingImage
        init(_ image: IncomingImage) { self.image = image }
    }
}

/// A blob of the registry's own.
private final class BlobFile: ByteStream {
    private let blob: RegistryContent.Blob
    private let range: FileRange

    init(_ blob: RegistryContent.Blob) {
        self.blob = blob
        range = FileRange(blob.descriptor.raw, length: blob.size)
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int { try range.read(into: buffer) }
}
