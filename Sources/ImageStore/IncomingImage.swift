import ImageFormats
import OCIModel

/// An image described in full, on its way into the store: from an archive, a layout, a registry.
/// Its layers are read only when the store does not have them.
package struct IncomingImage {
    /// Empty when the source gives none; the image is then known by its digest.
    package var names: [ImageReference]
    /// The manifest as the source has it, and its descriptor, already checked against each other.
    /// Nil in a docker-archive: the manifest is made when the layers' digests are known.
    package var manifest: (bytes: [UInt8], descriptor: Descriptor)?
    /// The configuration as the source has it, already checked against its digest.
    package var configurationBytes: [UInt8]
    package var configurationDigest: Digest
    package var configuration: ImageConfiguration
    /// Lowest first.
    package var layers: [IncomingLayer]

    package init(
        names: [ImageReference], manifest: (bytes: [UInt8], descriptor: Descriptor)?, configurationBytes: [UInt8],
        configurationDigest: Digest, configuration: ImageConfiguration, layers: [IncomingLayer]
    ) {
        self.names = names
        self.manifest = manifest
        self.configurationBytes = configurationBytes
        self.configurationDigest = configurationDigest
        self.configuration = configuration
        self.layers = layers
    }
}

/// One layer's bytes, and what is claimed of them. Every claim is checked while they pass.
package struct IncomingLayer: Sendable {
    /// How the source calls it, for messages.
    package var name: String
    /// Bytes of the blob; more or fewer are refused.
    package var length: Int64
    /// Digest of the plain tar.
    package var diffID: Digest
    /// Digest of the blob as it comes; nil in a docker-archive, which names layers by file.
    package var blobDigest: Digest?
    /// The blob is known to be the plain tar, so its digest is `diffID`.
    package var isPlain = false
    /// What arrived of the blob before a failure is kept for the next load (`PartialBlobs`).
    package var keepsPartial = false
    /// Starts reading the blob from its beginning. Called at most once, on a thread of the import,
    /// when the layer's turn comes, and never for a layer the store has. `read` of the stream may block;
    /// it is called from one thread. A stream that can resume does so inside, unseen.
    package var open: @Sendable () throws(ArchiveFault) -> any ByteStream

    package init(
        name: String, length: Int64, diffID: Digest, blobDigest: Digest?,
        open: @escaping @Sendable () throws(ArchiveFault) -> any ByteStream
    ) {
        self.name = name
        self.length = length
        self.diffID = diffID
        self.blobDigest = blobDigest
        self.open = open
    }

    /// A layer that lies in `descriptor` from `offset` on; the descriptor must outlive the import.
    package init(
        name: String, in descriptor: Int32, offset: Int64, length: Int64, diffID: Digest, blobDigest: Digest? = nil
    ) {
        self.init(name: name, length: length, diffID: diffID, blobDigest: blobDigest) {
            FileRange(descriptor, offset: offset, length: length)
        }
    }
}
