import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import LinuxSystem
import OCIModel

/// `trireme image save`, `trireme save`
package struct ImageSave: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "save", abstract: "Save images to an archive that docker, podman, skopeo and 'load' read.",
        discussion: "Blobs leave as they came in: digests are equal, and loading the archive gives the same image.")

    @Option(name: .shortAndLong, help: "The archive, or the directory of oci-dir; '-' or none writes standard output.")
    var output: String = "-"
    @Option(help: "docker-archive, oci-archive or oci-dir.") var format = SaveFormat.dockerArchive
    @Flag(name: .shortAndLong, help: "Say nothing but what fails.") var quiet = false
    @Argument(help: "Names of images.") var names: [String]

    package init() {}

    package func run() throws {
        let resolver = ImageResolver(store: .current())
        var images: [SavedImage] = []
        for name in names {
            let image = try resolver.resolve(name)
            // A digest that was typed is no name to give the image back under.
            let shown = image.hasName && !name.contains("@") && !ImageSave.isDigits(name, image) ? [image.name] : []
            if let known = images.firstIndex(where: { $0.image.record.manifest.digest == image.record.manifest.digest })
            {
                images[known].names += shown.filter { !images[known].names.contains($0) }
            } else {
                images.append(SavedImage(image: image, names: shown))
            }
        }
        guard format != .ociDirectory || output != "-" else {
            throw Diagnostic(
                DiagnosticCode("usage"), "--format oci-dir", reasons: ["a directory cannot go to standard output"],
                remedies: ["trireme image save --format oci-dir -o DIRECTORY \(names.joined(separator: " "))"])
        }
        if output == "-", isatty(STDOUT_FILENO) == 1 {
            throw Diagnostic(
                DiagnosticCode("usage"), "save", reasons: ["standard output is a terminal"],
                remedies: ["trireme image save -o FILE \(names.joined(separator: " "))"])
        }
        try ImageSave.write(images, as: format, to: output, isQuiet: quiet)
    }

    /// - Parameter output: a file, the directory of `oci-dir`, or `-`.
    static func write(_ images: [SavedImage], as format: SaveFormat, to output: String, isQuiet: Bool) throws {
        let progress = TransferProgress(verb: "saved", isQuiet: isQuiet)
        defer { progress.finish() }
        if format == .ociDirectory {
            return try ImageStore.current().save(images, toLayout: output, progress: progress.note)
        }
        try saveArchive(images, format, output, progress)
    }

    private static func isDigits(_ name: String, _ image: StoredImage) -> Bool {
        let digits = name.hasPrefix("sha256:") ? name.dropFirst(7) : name[...]
        return image.record.manifest.digest.hex.hasPrefix(digits) || image.record.configuration.hex.hasPrefix(digits)
    }

    private static func saveArchive(
        _ images: [SavedImage], _ format: SaveFormat, _ output: String, _ progress: TransferProgress
    ) throws {
        let store = ImageStore.current()
        if output == "-" {
            let target = try opened("standard output") { () throws(SyscallError) in
                OwnedDescriptor(owning: try checked("dup") { fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0) })
            }
            return try store.save(images, as: format, to: target, subject: "standard output", progress: progress.note)
        }
        var status = stat()
        if stat(output, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            let target = try opened(output) { () throws(SyscallError) in try OwnedDescriptor.open(output, O_WRONLY) }
            return try store.save(images, as: format, to: target, subject: output, progress: progress.note)
        }
        // A file is there whole or not at all.
        let partial: PartialFile
        do throws(SyscallError) { partial = try PartialFile(for: output, replaces: true) } catch {
            throw unwritable(output, error)
        }
        do {
            try store.save(images, as: format, to: partial.file, subject: output, progress: progress.note)
            do throws(SyscallError) { try partial.finish() } catch { throw unwritable(output, error) }
        } catch {
            partial.remove()
            throw error
        }
    }

    private static func opened(
        _ subject: String, _ open: () throws(SyscallError) -> OwnedDescriptor
    ) throws(Diagnostic) -> OwnedDescriptor {
        do throws(SyscallError) { return try open() } catch { throw unwritable(subject, error) }
    }

    private static func unwritable(_ subject: String, _ error: SyscallError) -> Diagnostic {
        Diagnostic(DiagnosticCode("archive-unwritable"), subject, reasons: [error.sentence])
    }
}

extension SaveFormat: ExpressibleByArgument {}
