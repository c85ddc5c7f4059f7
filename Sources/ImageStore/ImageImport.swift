import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LinuxSystem
import OCIModel

extension ImageStore {
    /// Makes an image of one layer from a root file system in a tar file, as `docker import` does.
    ///
    /// - Parameters:
    ///   - archive: plain, gzip or zstd; a pipe is spooled into the store's `tmp/` first. Its bytes become the layer's blob.
    ///   - configuration: architecture, command and the like; layers and history are added here.
    ///   - created: RFC 3339, for the configuration; equal input gives an equal image.
    /// - Throws: as `load(archive:)`.
    package func importRoot(
        archive: borrowing OwnedDescriptor, subject: String, name: ImageReference?, configuration: ImageConfiguration,
        created: String, comment: String, preparer: some ImagePreparer, limits: ExtractionLimits = ExtractionLimits(),
        progress: (LoadEvent) -> Void = { _ in }
    ) throws(Diagnostic) -> [LoadedImage] {
        do throws(SyscallError) { try layout.makeRoot() } catch { throw failure(error) }
        let mask = umask(0)
        defer { umask(mask) }
        let staging = try openStaging()
        let file = try stored(archive, staging, subject, limits)
        var status = stat()
        guard fstat(file.raw, &status) == 0, status.st_size > 0 else {
            throw Diagnostic(
                DiagnosticCode("archive-invalid"), subject, reasons: ["it is empty: no root file system in it"])
        }
        let length = Int64(status.st_size)
        let digests: (blob: Digest, plain: Digest)
        do throws(ArchiveFault) { digests = try ImageStore.digests(file.raw, length, limits) } catch {
            throw refused(error, subject)
        }
        var configuration = configuration
        configuration.created = created
        configuration.rootFileSystem = ImageConfiguration.RootFileSystem(diffIDs: [digests.plain])
        configuration.history = [ImageConfiguration.Step(created: created, comment: comment)]
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let bytes = try? Array(encoder.encode(configuration)) else {
            throw Diagnostic(DiagnosticCode("image-unsupported"), subject, reasons: ["its configuration is not text"])
        }
        let image = IncomingImage(
            names: name.map { [$0] } ?? [], manifest: nil, configurationBytes: bytes,
            configurationDigest: Digest(sha256: bytes), configuration: configuration,
            layers: [
                IncomingLayer(
                    name: subject, in: file.raw, offset: 0, length: length, diffID: digests.plain,
                    blobDigest: digests.blob)
            ])
        let loaded = try load(image, staging, LoadRequest(subject, limits), preparer, progress)
        withExtendedLifetime(file.raw) {}
        return loaded
    }

    /// `archive` as a file that can be read twice.
    private func stored(
        _ archive: borrowing OwnedDescriptor, _ staging: Staging, _ subject: String, _ limits: ExtractionLimits
    ) throws(Diagnostic) -> OwnedDescriptor {
        var status = stat()
        do throws(SyscallError) {
            let raw = archive.raw
            try checked("fstat", subject) { fstat(raw, &status) }
            if status.isDirectory { throw SyscallError("read", subject, errno: EISDIR) }
            if status.isFile { return OwnedDescriptor(owning: try checked("dup") { fcntl(raw, F_DUPFD_CLOEXEC, 0) }) }
        } catch { throw Diagnostic(DiagnosticCode("archive-unreadable"), subject, reasons: [error.sentence]) }
        do throws(ArchiveFault) { return try spool(archive.raw, staging, limits, isPlain: false) } catch {
            throw refused(error, subject)
        }
    }

    private static func digests(
        _ file: Int32, _ length: Int64, _ limits: ExtractionLimits
    ) throws(ArchiveFault) -> (blob: Digest, plain: Digest) {
        let start = UnsafeMutableRawBufferPointer.allocate(byteCount: Compression.magicBytes, alignment: 1)
        defer { start.deallocate() }
        let n = try FileRange(file, length: length).read(into: start)
        let compression = try Compression.detect(start[..<n])
        let blob = try digest(FileRange(file, length: length))
        if compression == .none { return (blob, blob) }
        let plain = try compression.decompressing(FileRange(file, length: length))
        return (blob, try digest(ExtractionBudget(limits).bounding(plain)))
    }

    static func digest(_ stream: any ByteStream) throws(ArchiveFault) -> Digest {
        var hash = ContentHash()
        let chunks = BufferedChunks(stream)
        while let chunk = try chunks.nextChunk() { hash.update(chunk) }
        return hash.finish()
    }
}
