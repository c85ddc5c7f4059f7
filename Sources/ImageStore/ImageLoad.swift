import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LaunchPlan
import LinuxSystem
import OCIModel

/// One image a load brought in, or found already there.
package struct LoadedImage: Sendable {
    package var image: StoredImage
    /// Nothing had to be unpacked or renamed.
    package var wasPresent: Bool
}

/// What a load says while it works.
package enum LoadEvent: Sendable {
    /// Once per layer, before any is read.
    case layer(number: Int, of: Int, bytes: Int64, wasPresent: Bool)
    /// Several times a second while layers are read: of each that is, the bytes so far.
    case bytes([(number: Int, read: Int64, of: Int64)])
    case summary(ExtractionSummary)
}

extension ImageStore {
    /// Stores the images of an archive: docker-archive or OCI archive, plain or compressed as a whole.
    ///
    /// - Parameters:
    ///   - archive: open for reading; a pipe is spooled into the store's `tmp/` first.
    ///   - subject: the archive as the user named it.
    /// - Throws: `archive-invalid`, `wrong-architecture`, `no-space`, `store-unusable`; nothing is stored then.
    package func load(
        archive: borrowing OwnedDescriptor, subject: String, platform: Platform = .current,
        preparer: some ImagePreparer, limits: ExtractionLimits = ExtractionLimits(),
        progress: (LoadEvent) -> Void = { _ in }
    ) throws(Diagnostic) -> [LoadedImage] {
        do throws(SyscallError) { try layout.makeRoot() } catch { throw failure(error) }
        // Modes are the archive's own; the mask would thin them.
        let mask = umask(0)
        defer { umask(mask) }
        let staging = try openStaging()
        raiseDescriptorLimit()
        var status = stat()
        guard fstat(archive.raw, &status) == 0 else { throw failure(SyscallError("fstat", subject)) }
        if status.isDirectory {
            let contents = ArchiveContents(directory: archive.raw)
            return try load(contents, staging, platform, LoadRequest(subject, limits), preparer, progress)
        }
        let input = try seekable(archive, status, staging, LoadRequest(subject, limits))
        let contents: ArchiveContents
        do throws(ArchiveFault) {
            contents = try ArchiveContents(input.raw, length: ImageStore.length(input.raw))
        } catch { throw refused(error, subject) }
        return try load(contents, staging, platform, LoadRequest(subject, limits), preparer, progress)
    }

    private func load(
        _ contents: ArchiveContents, _ staging: Staging, _ platform: Platform, _ request: LoadRequest,
        _ preparer: some ImagePreparer, _ progress: (LoadEvent) -> Void
    ) throws(Diagnostic) -> [LoadedImage] {
        // The layers are read from its open files.
        defer { withExtendedLifetime(contents) {} }
        let images: [IncomingImage]
        do throws(ArchiveFault) { images = try contents.images(for: platform) } catch {
            throw refused(error, request.subject)
        }
        var loaded: [LoadedImage] = []
        for image in images { loaded += try load(image, staging, request, preparer, progress) }
        return loaded
    }

    /// A layout's layers are a descriptor each; many systems start programs with 1024.
    private func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = min(limit.rlim_max, 65536)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// Stores one image from any source. What the store has is not read again; nothing is visible before
    /// all of it is verified and in place.
    ///
    /// - Parameters:
    ///   - subject: the source as the user named it.
    ///   - progress: called on the calling thread only.
    /// - Throws: as `load(archive:)`. A fault thrown by a layer's stream becomes the reason; one of kind
    ///   `.system` without errno is reported as `store-unusable`, so a remote source should rather remember
    ///   its own failure and report that when this throws.
    package func load(
        _ image: IncomingImage, subject: String, preparer: some ImagePreparer,
        limits: ExtractionLimits = ExtractionLimits(), progress: (LoadEvent) -> Void = { _ in }
    ) throws(Diagnostic) -> [LoadedImage] {
        do throws(SyscallError) { try layout.makeRoot() } catch { throw failure(error) }
        let mask = umask(0)
        defer { umask(mask) }
        let staging = try openStaging()
        return try load(image, staging, LoadRequest(subject, limits), preparer, progress)
    }

    struct LoadRequest {
        var subject: String
        var limits: ExtractionLimits
        init(_ subject: String, _ limits: ExtractionLimits) {
            self.subject = subject
            self.limits = limits
        }
    }

    func load(
        _ image: IncomingImage, _ staging: Staging, _ request: LoadRequest, _ preparer: some ImagePreparer,
        _ progress: (LoadEvent) -> Void
    ) throws(Diagnostic) -> [LoadedImage] {
        var attempts = 3
        while true {
            let job = try StagedLoad(store: self, image: image, staging: staging)
            try job.importLayers(request, progress)
            try job.prepare(preparer)
            if let loaded = try job.commit() { return loaded }
            // A layer found in the store was removed by another command before this one could use it.
            attempts -= 1
            guard attempts > 0 else {
                throw Diagnostic(
                    DiagnosticCode("store-busy"), request.subject,
                    reasons: ["layers are being removed while they are loaded"])
            }
        }
    }

    /// Makes the store where it is missing, finishes and removes what dead commands left, and gives this one its
    /// directory.
    func openStaging() throws(Diagnostic) -> Staging {
        do throws(SyscallError) {
            try layout.create()
            let lock = try StoreLock(layout)
            if !Files.exists(layout.marker) {
                try Files.write(Array("{\"imageLayoutVersion\":\"1.0.0\"}".utf8), to: layout.marker)
            }
            let dead = try Staging.dead(layout, holding: lock)
            let staging = try Staging(layout, holding: lock)
            if !dead.isEmpty {
                // Killed between a name and the index or the garbage, it left those as they were; as long as
                // its directory is there, whoever is killed here in turn has the next command do it again.
                try writeIndex(staging, holding: lock)
                try collectGarbage(staging, holding: lock)
                staging.remove(dead, holding: lock)
            }
            return staging
        } catch { throw failure(error) }
    }

    private static func length(_ descriptor: Int32) -> Int64 {
        var status = stat()
        return fstat(descriptor, &status) == 0 ? Int64(status.st_size) : 0
    }

    /// `archive` itself when it is a plain tar file, else its plain bytes in a file.
    private func seekable(
        _ archive: borrowing OwnedDescriptor, _ status: stat, _ staging: Staging, _ request: LoadRequest
    ) throws(Diagnostic) -> OwnedDescriptor {
        do throws(ArchiveFault) {
            var first = [UInt8](repeating: 0, count: Compression.magicBytes)
            if status.isFile {
                let n = first.withUnsafeMutableBytes { pread(archive.raw, $0.baseAddress, $0.count, 0) }
                if try Compression.detect(first.prefix(max(0, n))) == .none {
                    let copy = fcntl(archive.raw, F_DUPFD_CLOEXEC, 0)
                    guard copy >= 0 else { throw ArchiveFault(SyscallError("dup")) }
                    return OwnedDescriptor(owning: copy)
                }
            }
            return try spool(archive.raw, staging, request.limits)
        } catch { throw refused(error, request.subject) }
    }

    /// Writes a pipe's bytes to a file, decompressed unless `isPlain` is false.
    func spool(
        _ input: Int32, _ staging: Staging, _ limits: ExtractionLimits, isPlain: Bool = true
    ) throws(ArchiveFault) -> OwnedDescriptor {
        let file: OwnedDescriptor
        do throws(SyscallError) {
            file = try OwnedDescriptor.open(staging.path + "/archive", O_RDWR | O_CREAT | O_EXCL, mode: 0o600)
        } catch { throw ArchiveFault(error) }
        try ImageStore.spool(input, to: file, limits, isPlain: isPlain)
        return file
    }

    static func spool(
        _ input: Int32, to file: borrowing OwnedDescriptor, _ limits: ExtractionLimits, isPlain: Bool
    ) throws(ArchiveFault) {
        let start = PeekedStream(DescriptorStream(input))
        guard isPlain else {
            let chunks = BufferedChunks(ExtractionBudget(limits).bounding(start))
            while let chunk = try chunks.nextChunk() { try FileCopy.writeAll(chunk, to: file.raw) }
            return
        }
        let plain = PeekedStream(
            ExtractionBudget(limits).bounding(
                try Compression.detect(try start.peek(Compression.magicBytes)).decompressing(start)))
        // What does not begin like an archive is not waited for: /dev/zero has no end.
        if try !TarReader.mayBegin(try plain.peek(TarReader.blockBytes)) {
            throw ArchiveFault(.corrupt, "not an image archive: it does not begin with a tar header")
        }
        let chunks = BufferedChunks(plain)
        while let chunk = try chunks.nextChunk() { try FileCopy.writeAll(chunk, to: file.raw) }
    }

    /// A fault of the archive in the user's words.
    func refused(_ fault: ArchiveFault, _ subject: String, layer: String? = nil) -> Diagnostic {
        if fault.errno == ENOSPC || fault.errno == EDQUOT { return noSpace(needBytes: nil, reason: fault.reason) }
        var reasons = [layer, fault.entry.isEmpty ? nil : "entry '\(fault.entry)'", fault.reason].compactMap { $0 }
        let code: DiagnosticCode =
            switch fault.kind {
            case .unsupported where fault.reason.contains("; the archive offers "): DiagnosticCode("wrong-architecture")
            case .unsupported: DiagnosticCode("archive-unsupported")
            case .limit: DiagnosticCode("archive-limit")
            case .system: DiagnosticCode("store-unusable")
            case .corrupt, .hostile: DiagnosticCode("archive-invalid")
            }
        if fault.kind == .hostile { reasons.insert("refused", at: 0) }
        var remedies: [String] = []
        if code.rawValue == "wrong-architecture" { remedies = ["load an image made for \(Platform.current)"] }
        if code.rawValue == "archive-invalid", fault.kind == .corrupt {
            remedies = [
                "write the archive again: skopeo copy docker://NAME oci-archive:FILE:NAME, or docker save -o FILE NAME"
            ]
        }
        return Diagnostic(code, subject, reasons: reasons, remedies: remedies)
    }
}
