import ContainerRuntime
import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem
import OCIModel

/// What `image convert` makes.
enum ConversionTarget {
    case singleFile
    case directory
    /// As `image save` writes it; with the name the image is to have in it, as skopeo spells it (`oci:PATH:NAME`).
    case layers(SaveFormat, path: String, name: ImageReference?)

    private static let fileSuffixes = [".sqfs", ".squashfs", ".sqsh"]
    private static let schemes: [(String, SaveFormat)] = [
        ("oci-archive:", .ociArchive), ("docker-archive:", .dockerArchive), ("oci:", .ociDirectory),
    ]

    /// - Throws: `conversion-refused` for a name that no image can have.
    init(_ text: String) throws(Diagnostic) {
        for (scheme, format) in ConversionTarget.schemes where text.hasPrefix(scheme) {
            let parts = text.dropFirst(scheme.count).split(separator: ":", maxSplits: 1).map(String.init)
            guard let path = parts.first else { break }
            let name = parts.count > 1 ? ImageReference(parts[1]) : nil
            guard parts.count == 1 || name != nil else {
                throw Diagnostic(
                    DiagnosticCode("conversion-refused"), text, reasons: ["'\(parts[1])' is not a name for an image"])
            }
            self = .layers(format, path: path, name: name)
            return
        }
        if text.lowercased().hasSuffix(".sif") {
            throw Diagnostic(
                DiagnosticCode("conversion-refused"), text, reasons: ["SIF files are read, not written"],
                remedies: [
                    "trireme image convert SOURCE \(text.dropLast(4)).sqfs    one file that trireme and apptainer run",
                    "apptainer build \(text) \(text.dropLast(4)).sqfs    makes a SIF file of that",
                ])
        }
        for suffix in [".tar", ".tar.gz", ".tgz", ".tar.zst"] where text.hasSuffix(suffix) {
            throw Diagnostic(
                DiagnosticCode("conversion-refused"), text, reasons: ["a tar file of which kind?"],
                remedies: ["oci-archive:\(text)    or docker-archive:\(text)"])
        }
        self = ConversionTarget.fileSuffixes.contains { text.hasSuffix($0) } ? .singleFile : .directory
    }
}

/// A directory for what a conversion needs on its way; `trireme clean` knows the name of one that was killed.
final class ConversionSpace {
    let path: String
    private let parent: String
    private var name: String { "trireme-convert-\(getpid())" }

    init(below parent: String) throws(Diagnostic) {
        self.parent = parent
        path = "\(parent)/trireme-convert-\(getpid())"
        guard mkdir(path, 0o700) == 0 else {
            throw Diagnostic(
                DiagnosticCode("conversion-refused"), path, reasons: [SyscallError("mkdir", path).sentence],
                remedies: ["set TRIREME_TMPDIR to a directory with room"])
        }
    }

    deinit {
        guard let directory = try? OwnedDescriptor.open(parent, O_RDONLY | O_DIRECTORY) else { return }
        try? DirectoryTree.remove(Array(name.utf8), in: directory.raw)
    }
}

/// A root file system as a tar file, and how it is run: what `image import` takes.
final class RootSource {
    /// From its beginning.
    let archive: OwnedDescriptor
    let configuration: ImageConfiguration

    /// - Parameter image: a single-file image, as `SingleFileImage` opens it.
    init(_ image: StoredImage, in space: ConversionSpace, limits: ExtractionLimits = ExtractionLimits())
        throws(Diagnostic)
    {
        guard let reader = image.file else {
            throw Diagnostic(DiagnosticCode("conversion-refused"), image.name, reasons: ["not a single-file image"])
        }
        let file: OwnedDescriptor
        do throws(SyscallError) {
            file = try OwnedDescriptor.open(space.path + "/root.tar", O_RDWR | O_CREAT | O_EXCL, mode: 0o600)
        } catch { throw Diagnostic(DiagnosticCode("conversion-refused"), image.name, reasons: [error.sentence]) }
        var writer = RootArchive(
            reader, to: file.raw, skipping: [Array(SingleFileImage.directory.utf8)], limits: limits)
        do throws(ArchiveFault) { _ = try writer.run() } catch { throw SingleFileImage.refused(error, image.name) }
        lseek(file.raw, 0, SEEK_SET)
        archive = file
        configuration = RootSource.configuration(image)
    }

    /// The image's own where it carries one, else what its plan says; what apptainer's layout says where that is silent.
    static func configuration(_ image: StoredImage) -> ImageConfiguration {
        func texts(_ words: [[UInt8]]) -> [String]? {
            words.isEmpty ? nil : words.map { String(decoding: $0, as: UTF8.self) }
        }
        let bytes = (try? image.tree())?.contents(of: SingleFileImage.configurationPath)
        if let bytes, var own = try? JSONDecoder().decode(ImageConfiguration.self, from: Data(bytes)) {
            guard image.plan.options.contains(.environmentScripts), let tree = try? image.tree() else { return own }
            var config = own.config ?? ImageConfiguration.Execution()
            config.labels = config.labels ?? ApptainerImage.labels(tree)
            if config.entrypoint == nil, config.command == nil { config.entrypoint = texts(image.plan.entrypoint) }
            own.config = config
            return own
        }
        var configuration = ImageConfiguration()
        configuration.architecture = image.record.platform.architecture
        configuration.operatingSystem = image.record.platform.operatingSystem
        var config = ImageConfiguration.Execution()
        config.environment = texts(image.plan.environment.filter { !ApptainerImage.isName($0) })
        config.entrypoint = texts(image.plan.entrypoint)
        config.command = texts(image.plan.command)
        config.workingDirectory = texts([image.plan.workingDirectory].filter { !$0.isEmpty })?.first
        config.user = texts([image.plan.user].filter { !$0.isEmpty })?.first
        config.labels = (try? image.tree()).flatMap(ApptainerImage.labels)
        configuration.config = config
        return configuration
    }
}
