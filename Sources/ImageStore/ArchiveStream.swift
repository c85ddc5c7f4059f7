import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LinuxSystem
import OCIModel

/// The image of an archive, read layer by layer, the topmost first, with nothing stored.
package final class ArchiveStream {
    private let store: ImageStore
    private let subject: String
    private let limits: ExtractionLimits
    private let contents: ArchiveContents
    private let image: IncomingImage
    /// The archive, or its plain bytes in a file without a name.
    private let input: Int32

    /// - Parameters:
    ///   - store: only what its messages speak of.
    ///   - archive: open for reading; a pipe, or one compressed as a whole, is spooled into `temporary` first.
    ///   - subject: the archive as the user named it.
    /// - Throws: as `ImageStore.load(archive:)`, `archive-invalid` when there is no image.
    package init(
        _ archive: borrowing OwnedDescriptor, store: ImageStore, temporary: String, subject: String,
        platform: Platform = .current, limits: ExtractionLimits = ExtractionLimits()
    ) throws(Diagnostic) {
        self.store = store
        self.subject = subject
        self.limits = limits
        do throws(ArchiveFault) {
            let file = try ArchiveStream.seekable(archive, temporary, limits)
            var status = stat()
            guard fstat(file.raw, &status) == 0 else { throw ArchiveFault(SyscallError("fstat")) }
            contents =
                status.isDirectory
                ? ArchiveContents(directory: file.raw)
                : try ArchiveContents(file.raw, length: Int64(status.st_size))
            guard let first = try contents.images(for: platform).first else {
                throw ArchiveFault(.corrupt, "it holds no image")
            }
            image = first
            input = file.release()
        } catch { throw store.refused(error, subject) }
    }

    deinit { close(input) }

    /// As its author wrote it.
    package var configuration: [UInt8] { image.configurationBytes }

    /// Gives `merge` every layer, verified against its digests while it passes. May be called again.
    package func read(into merge: LayerMerge) throws(Diagnostic) {
        let budget = ExtractionBudget(limits)
        for (number, layer) in image.layers.enumerated().reversed() {
            var job = LayerImport(
                layer: layer, blobPath: nil, directory: "", lower: { () throws(ArchiveFault) in [] }, budget: budget,
                progress: { _ in true })
            job.sink = { (archive) throws(ArchiveFault) in
                try merge.add(archive)
                return merge.summary
            }
            do throws(LayerFault) { _ = try job.run() } catch {
                throw store.refusal(layer, number: number + 1, of: image.layers.count, error, subject)
            }
        }
    }

    /// `archive` itself when it is a plain tar file or a directory, else its plain bytes.
    private static func seekable(
        _ archive: borrowing OwnedDescriptor, _ temporary: String, _ limits: ExtractionLimits
    ) throws(ArchiveFault) -> OwnedDescriptor {
        var status = stat()
        guard fstat(archive.raw, &status) == 0 else { throw ArchiveFault(SyscallError("fstat")) }
        var isPlain = status.isDirectory
        if status.isFile {
            var first = [UInt8](repeating: 0, count: Compression.magicBytes)
            let n = first.withUnsafeMutableBytes { pread(archive.raw, $0.baseAddress, $0.count, 0) }
            isPlain = try Compression.detect(first.prefix(max(0, n))) == .none
        }
        if isPlain {
            let copy = fcntl(archive.raw, F_DUPFD_CLOEXEC, 0)
            guard copy >= 0 else { throw ArchiveFault(SyscallError("dup")) }
            return OwnedDescriptor(owning: copy)
        }
        let path = "\(temporary)/trireme-archive-\(getpid())-\(UInt32.random(in: .min ... .max))"
        let file: OwnedDescriptor
        do throws(SyscallError) { file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o600) } catch
        {
            throw ArchiveFault(error)
        }
        unlink(path)
        try ImageStore.spool(archive.raw, to: file, limits, isPlain: true)
        return file
    }
}

extension ImageStore {
    /// Why layer `number` was not taken, in the user's words.
    func refusal(
        _ layer: IncomingLayer, number: Int, of count: Int, _ fault: LayerFault, _ subject: String
    ) -> Diagnostic {
        let place = "layer \(number) of \(count)"
        switch fault {
        case .archive(let fault):
            if fault.errno == ENOSPC || fault.errno == EDQUOT {
                return noSpace(needBytes: layer.length, reason: fault.reason)
            }
            return refused(fault, subject, layer: place)
        case .mismatch(let what, let claimed, let found, let because):
            let reasons = [
                "\(place), '\(ArchiveFault.printable(Array(layer.name.utf8)))'",
                "\(what) mismatch: expected \(claimed), found \(found)", because?.reason,
            ]
            return Diagnostic(
                DiagnosticCode("archive-invalid"), subject, reasons: reasons.compactMap { $0 },
                remedies: ["the archive is damaged: write or copy it again"])
        }
    }
}
