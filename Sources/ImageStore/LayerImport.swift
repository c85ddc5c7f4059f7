import CLinux
import Glibc
import ImageFormats
import LinuxSystem
import OCIModel
import Synchronization

/// Where one layer's bytes lie in an archive, and what is claimed of them.
struct ArchivedLayer: Sendable {
    /// How the archive calls it, for messages.
    var name: String
    var offset: Int64
    var length: Int64
    var diffID: Digest
    /// Nil in a docker-archive, which names layers by file.
    var blobDigest: Digest?

    /// How it is compressed, from its first bytes in `archive`.
    func compression(_ archive: Int32) throws(ArchiveFault) -> Compression {
        let start = UnsafeMutableRawBufferPointer.allocate(byteCount: Compression.magicBytes, alignment: 1)
        defer { start.deallocate() }
        let n = try FileRange(archive, offset: offset, length: length).read(into: start)
        return try Compression.detect(start[..<n])
    }
}

/// A layer unpacked and stored, both verified.
struct ImportedLayer: Sendable {
    var diffID: Digest
    var blob: Descriptor
    var summary: ExtractionSummary
}

/// Why a layer was not taken.
enum LayerFault: Error {
    case archive(ArchiveFault)
    /// Which digest, what was claimed, what was found.
    case mismatch(what: String, claimed: Digest, found: Digest, because: ArchiveFault?)
}

/// Copies a layer's blob into the store's form and unpacks it, in one pass over the archive with
/// every costly step on its own thread:
///
///     file ── hash, copy ──────────────▶ blob
///        └─── decompress ──▶ ring ──┬──▶ hash (diffID)
///                                   └──▶ tar, files      (the calling thread)
///
/// A plain layer's blob digest is its diffID, so the second line is only the unpacking.
struct LayerImport {
    let archive: Int32
    let layer: ArchivedLayer
    /// The blob's file, to be made.
    let blobPath: String
    /// The layer's directory, to be made.
    let directory: String
    /// Unpacked lower layers, topmost first.
    let lower: [String]
    let limits: ExtractionLimits

    private final class Shared: Sendable {
        let isCancelled = Atomic<Bool>(false)
        let blob = Mutex<Result<Digest, ArchiveFault>?>(nil)
        let diffID = Mutex<Result<Digest, ArchiveFault>?>(nil)
    }

    func run() throws(LayerFault) -> ImportedLayer {
        let shared = Shared()
        let compression: Compression
        var summary = ExtractionSummary()
        var fault: ArchiveFault?
        do throws(ArchiveFault) {
            compression = try layer.compression(archive)
            do throws(ArchiveFault) {
                summary = try runThreads(compression, shared)
            } catch { fault = error }
        } catch { throw .archive(error) }
        // What was hashed tells more than where the parser stumbled over it.
        if let claimed = layer.blobDigest, case .success(let found) = shared.blob.withLock({ $0 }), found != claimed {
            throw .mismatch(what: "layer digest", claimed: claimed, found: found, because: fault)
        }
        if let fault { throw .archive(fault) }
        let plain = compression == .none ? shared.blob.withLock { $0 } : shared.diffID.withLock { $0 }
        guard case .success(let blob) = shared.blob.withLock({ $0 }), case .success(let diffID) = plain else {
            for result in [shared.blob.withLock { $0 }, plain] {
                if case .failure(let fault) = result { throw .archive(fault) }
            }
            throw .archive(ArchiveFault(.system, "a hashing thread ended without a result"))
        }
        guard diffID == layer.diffID else {
            throw .mismatch(what: "diff-id", claimed: layer.diffID, found: diffID, because: nil)
        }
        let type =
            switch compression {
            case .none: MediaType.layer
            case .gzip: MediaType.layerGzip
            case .zstd: MediaType.layerZstd
            }
        return ImportedLayer(
            diffID: diffID, blob: Descriptor(mediaType: type, digest: blob, size: layer.length), summary: summary)
    }

    private func runThreads(_ compression: Compression, _ shared: Shared) throws(ArchiveFault) -> ExtractionSummary {
        let copier = try Worker { [self] in
            do throws(ArchiveFault) {
                let digest = try copyBlob(shared)
                shared.blob.withLock { $0 = .success(digest) }
            } catch { shared.blob.withLock { $0 = .failure(error) } }
        }
        guard compression != .none else {
            let range = FileRange(archive, offset: layer.offset, length: layer.length)
            let result = unpack(BufferedChunks(range), shared, nil)
            copier.join()
            return try result.get()
        }
        let ring = ChunkRing(consumers: 2)
        let producer = try Worker { [archive, layer] in
            ring.pump(compression, FileRange(archive, offset: layer.offset, length: layer.length))
        }
        let hashed = ring.reader(0)
        let hasher: Worker
        do throws(ArchiveFault) {
            hasher = try Worker {
                do throws(ArchiveFault) {
                    var hash = ContentHash()
                    while let chunk = try hashed.nextChunk() { hash.update(chunk) }
                    let digest = hash.finish()
                    shared.diffID.withLock { $0 = .success(digest) }
                } catch { shared.diffID.withLock { $0 = .failure(error) } }
            }
        } catch {
            ring.cancel()
            throw error
        }
        let unpacked = ring.reader(1)
        let result = unpack(unpacked, shared, ring)
        // What may follow the archive's end is hashed, but not looked at.
        unpacked.leave()
        producer.join()
        hasher.join()
        copier.join()
        return try result.get()
    }

    private func unpack(_ source: any ChunkSource, _ shared: Shared, _ ring: ChunkRing?)
        -> Result<ExtractionSummary, ArchiveFault>
    {
        do throws(ArchiveFault) {
            let extractor = try makeExtractor()
            let reader = TarReader(source)
            try extractor.0.extract(reader)
            return .success(extractor.0.summary)
        } catch {
            // Corrupt bytes are hashed to their end, for the message; the rest stops here.
            if error.kind != .corrupt { shared.isCancelled.store(true, ordering: .relaxed) }
            ring?.cancel()
            return .failure(error)
        }
    }

    private final class OpenLayers {
        var descriptors: [Int32] = []
        deinit { descriptors.forEach { close($0) } }
    }

    private func makeExtractor() throws(ArchiveFault) -> (LayerExtractor, OpenLayers) {
        let open = OpenLayers()
        do throws(SyscallError) {
            try checked("mkdir", directory) { mkdir(directory, 0o755) }
            for path in [directory] + lower {
                open.descriptors.append(try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY).release())
            }
        } catch { throw ArchiveFault(error) }
        return (
            LayerExtractor(into: open.descriptors[0], lower: Array(open.descriptors[1...]), limits: limits), open
        )
    }

    private func copyBlob(_ shared: Shared) throws(ArchiveFault) -> Digest {
        let output: OwnedDescriptor
        do throws(SyscallError) {
            output = try OwnedDescriptor.open(blobPath, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
        } catch { throw ArchiveFault(error) }
        var hash = ContentHash()
        let source = BufferedChunks(FileRange(archive, offset: layer.offset, length: layer.length))
        while let chunk = try source.nextChunk() {
            if shared.isCancelled.load(ordering: .relaxed) { throw ArchiveFault(.system, "cancelled") }
            hash.update(chunk)
            try FileCopy.writeAll(chunk, to: output.raw)
        }
        return hash.finish()
    }
}

extension ChunkRing {
    /// Decompresses `range` into the ring; failing to start is a failure of the stream.
    fileprivate func pump(_ compression: Compression, _ range: FileRange) {
        do throws(ArchiveFault) { pump(try compression.decompressing(range, isVerified: true)) } catch { fail(error) }
    }
}
