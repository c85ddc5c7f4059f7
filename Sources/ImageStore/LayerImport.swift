import CLinux
import Glibc
import ImageFormats
import LinuxSystem
import OCIModel
import Synchronization

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

/// Copies a layer's blob into the store's form and unpacks it, in one pass over its bytes with
/// every costly step on its own thread:
///
///     source ── hash, copy to blob ──▶ ring ── decompress ──▶ ring ──┬──▶ hash (diffID)
///                                                                    └──▶ tar, files   (the calling thread)
///
/// A plain layer's blob digest is its diffID, so it is unpacked from the first ring.
struct LayerImport {
    let layer: IncomingLayer
    /// The blob's file, to be made; nil when its bytes are only verified.
    let blobPath: String?
    /// The layer's directory, to be made.
    let directory: String
    /// The unpacked lower layers' directories, topmost first; asked for only when an entry speaks of
    /// them, and may wait until they are there.
    let lower: @Sendable () throws(ArchiveFault) -> [String]
    let budget: ExtractionBudget
    /// Others may enter the store.
    var isShared = true
    /// Told of every piece read, in bytes; false ends the import.
    let progress: @Sendable (Int) -> Bool
    /// Takes the plain tar in the place of a directory.
    var sink: (@Sendable (TarReader) throws(ArchiveFault) -> ExtractionSummary)?

    private final class Shared: Sendable {
        /// What is still unread need not be hashed for a message.
        let isAbandoned = Atomic<Bool>(false)
        let blob = Mutex<Result<Digest, ArchiveFault>?>(nil)
        let diffID = Mutex<Result<Digest, ArchiveFault>?>(nil)
    }

    func run() throws(LayerFault) -> ImportedLayer {
        let shared = Shared()
        let input: PeekedStream
        let compression: Compression
        var summary = ExtractionSummary()
        var fault: ArchiveFault?
        do throws(ArchiveFault) {
            input = PeekedStream(try layer.open())
            compression = try Compression.detect(try input.peek(Compression.magicBytes))
            do throws(ArchiveFault) {
                summary = try runThreads(input, compression, shared)
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

    private func runThreads(
        _ input: PeekedStream, _ compression: Compression, _ shared: Shared
    ) throws(ArchiveFault) -> ExtractionSummary {
        let blob = try BlobCopy(input, to: blobPath, expecting: layer.length, progress: progress)
        let raw = ChunkRing(slots: 8, consumers: 1)
        let copier = try Worker {
            raw.pump(blob)
            shared.blob.withLock { $0 = blob.outcome }
        }
        let first = raw.reader(0)
        guard compression != .none else {
            let result = unpack(first, shared)
            drain(first, shared)
            copier.join()
            return try result.get()
        }
        let result = unpackCompressed(first, compression, shared)
        // On success this thread has ended; on failure nobody reads the ring any more.
        if case .failure = result { raw.cancel() }
        copier.join()
        return try result.get()
    }

    private func unpackCompressed(
        _ first: ChunkRing.Reader, _ compression: Compression, _ shared: Shared
    ) -> Result<ExtractionSummary, ArchiveFault> {
        let ring = ChunkRing(slots: 8, consumers: 2)
        let hashed = ring.reader(0)
        let unpacked = ring.reader(1)
        do throws(ArchiveFault) {
            let decompressor = try Worker { [self] in
                ring.pump(compression, first, bytes: layer.length, budget)
                drain(first, shared)
            }
            let result: Result<ExtractionSummary, ArchiveFault>
            do throws(ArchiveFault) {
                let hasher = try Worker { LayerImport.hash(hashed, shared) }
                result = unpack(unpacked, shared)
                if case .failure = result { ring.cancel() }
                // What may follow the archive's end is hashed, but not looked at.
                unpacked.leave()
                hasher.join()
            } catch {
                shared.isAbandoned.store(true, ordering: .relaxed)
                ring.cancel()
                result = .failure(error)
            }
            decompressor.join()
            return result
        } catch { return .failure(error) }
    }

    private static func hash(_ source: ChunkRing.Reader, _ shared: Shared) {
        do throws(ArchiveFault) {
            var hash = ContentHash()
            while let chunk = try source.nextChunk() { hash.update(chunk) }
            let digest = hash.finish()
            shared.diffID.withLock { $0 = .success(digest) }
        } catch { shared.diffID.withLock { $0 = .failure(error) } }
    }

    /// Lets the rest of the blob pass, so that it is hashed to its end, and lets go.
    private func drain(_ source: ChunkRing.Reader, _ shared: Shared) {
        while !shared.isAbandoned.load(ordering: .relaxed), (try? source.nextChunk()) != nil {}
        source.leave()
    }

    private func unpack(_ source: any ChunkSource, _ shared: Shared) -> Result<ExtractionSummary, ArchiveFault> {
        do throws(ArchiveFault) {
            if let sink { return .success(try sink(TarReader(source))) }
            let open = OpenLayers()
            do throws(SyscallError) {
                try checked("mkdir", directory) { mkdir(directory, 0o755) }
                try open.append(directory)
            } catch { throw ArchiveFault(error) }
            let extractor = LayerExtractor(into: open.descriptors[0], isShared: isShared, budget: budget) {
                () throws(ArchiveFault) in
                let below = try self.lower()
                do throws(SyscallError) { for path in below { try open.append(path) } } catch {
                    throw ArchiveFault(error)
                }
                return Array(open.descriptors[1...])
            }
            try extractor.extract(TarReader(source))
            return .success(extractor.summary)
        } catch {
            // Corrupt bytes are hashed to their end, for the message; the rest stops here.
            if error.kind != .corrupt { shared.isAbandoned.store(true, ordering: .relaxed) }
            return .failure(error)
        }
    }

    private final class OpenLayers {
        private(set) var descriptors: [Int32] = []
        func append(_ path: String) throws(SyscallError) {
            descriptors.append(try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY).release())
        }
        deinit { descriptors.forEach { close($0) } }
    }
}

/// A blob's bytes on their way past: hashed, counted, written to a file.
private final class BlobCopy: ByteStream, @unchecked Sendable {
    // Used by one thread; its owner reads `outcome` after that thread's last step.
    private let input: any ByteStream
    /// -1 for none.
    private let output: Int32
    private let expected: Int64
    private let progress: @Sendable (Int) -> Bool
    private var hash = ContentHash()
    private var passed: Int64 = 0
    private var isFinished = false
    private var fault: ArchiveFault?

    init(
        _ input: any ByteStream, to path: String?, expecting expected: Int64,
        progress: @escaping @Sendable (Int) -> Bool
    ) throws(ArchiveFault) {
        self.input = input
        self.expected = expected
        self.progress = progress
        guard let path else {
            output = -1
            return
        }
        do throws(SyscallError) {
            output = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644).release()
        } catch { throw ArchiveFault(error) }
    }

    deinit { if output >= 0 { close(output) } }

    /// The blob's digest, when all of it has passed.
    var outcome: Result<Digest, ArchiveFault> {
        if let fault { return .failure(fault) }
        guard isFinished else { return .failure(ArchiveFault(.system, "cancelled")) }
        return .success(hash.finish())
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        do throws(ArchiveFault) {
            let n = try input.read(into: buffer)
            guard n > 0 else {
                guard passed == expected else {
                    throw ArchiveFault(.corrupt, "truncated: \(passed) bytes came, \(expected) were announced")
                }
                isFinished = true
                return 0
            }
            passed += Int64(n)
            guard passed <= expected else {
                throw ArchiveFault(.corrupt, "more bytes than the \(expected) that were announced")
            }
            guard progress(n) else { throw ArchiveFault(.system, "cancelled") }
            let piece = UnsafeRawBufferPointer(rebasing: buffer[..<n])
            hash.update(piece)
            if output >= 0 { try FileCopy.writeAll(piece, to: output) }
            return n
        } catch {
            fault = error
            throw error
        }
    }
}

extension ChunkRing {
    /// Decompresses `source` into the ring; failing to start is a failure of the stream.
    fileprivate func pump(
        _ compression: Compression, _ source: any ChunkSource, bytes: Int64, _ budget: ExtractionBudget
    ) {
        do throws(ArchiveFault) {
            pump(budget.bounding(try compression.decompressing(ChunkStream(source), bytes: bytes)))
        } catch { fail(error) }
    }
}
