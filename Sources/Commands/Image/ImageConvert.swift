import ArgumentParser
import ContainerRuntime
import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem
import OCIModel
import SiteConfiguration

/// `trireme image convert`
package struct ImageConvert: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Write an image in another form: one file, a directory, OCI.",
        discussion: """
            SOURCE is an image of the store, a directory with a root file system, an archive (docker save, OCI, - for \
            standard input) or a single-file image (.sqfs, .sif). TARGET ending in .sqfs is written as one file, which 'trireme run \
            ./TARGET' runs straight from; oci:DIRECTORY, oci-archive:FILE and docker-archive:FILE, each with :NAME \
            behind it if you like, are what 'image save' writes; any other TARGET is a directory, made for the content.
            """)

    @Argument(help: "What to convert.") var source: String
    @Argument(help: "The file (.sqfs) or directory to make; it must not exist.") var target: String
    @Option(help: "How files are compressed: zstd or gzip.") var compression: String = "zstd"
    @Option(help: "The compressor's level: zstd 1 to 19 (default 3), gzip 1 to 9 (default 6).") var level: Int?
    @Option(help: "Bytes of a block, a power of two from 4096 to 1048576.") var blockSize: Int = 128 << 10
    @Option(help: "Give every file this time (seconds since 1970); SOURCE_DATE_EPOCH is the default.")
    var fixedTime: UInt32?
    @Flag(name: .shortAndLong, help: "Print nothing.") var quiet = false

    package init() {}

    package func run() throws {
        let locations = Locations.current()
        switch try ConversionTarget(target) {
        case .singleFile:
            guard try singleFile(source) == nil else {
                throw Diagnostic(
                    DiagnosticCode("conversion-refused"), source, reasons: ["it is a single-file image already"],
                    remedies: ["cp \(source) \(target)"])
            }
            let report = try write(SingleFileWriter(options: try options()), to: target)
            guard !quiet else { return }
            if report.skippedDevices > 0 {
                Output.standard.line(
                    "note: \(report.skippedDevices) devices, pipes or sockets were left out", to: .progress)
            }
            Output.standard.line("\(target): \(ByteCount.text(report.bytes)), \(report.files) files")
        case .directory:
            guard access(target, F_OK) != 0 else { throw exists(target) }
            try unpack(try merged(locations))
        case .layers(let format, let path, let name): try save(format, to: path, as: name, locations)
        }
    }

    private func exists(_ path: String) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("conversion-refused"), path, reasons: ["it exists"],
            remedies: ["remove it first, or choose another name"])
    }

    /// The source as a single-file image; what is none yet is made one, where nobody sees it.
    private func merged(_ locations: Locations) throws -> SquashReader {
        if let file = try singleFile(source) { return file }
        let space = try ConversionSpace(below: locations.temporary)
        let passing = space.path + "/merged.sqfs"
        var options = SingleFileWriter.Options()
        // It is read once, right away.
        options.squash.compression = .zstd
        options.squash.level = 1
        _ = try write(SingleFileWriter(options: options), to: passing)
        defer { withExtendedLifetime(space) {} }
        guard let file = try singleFile(passing) else {
            throw Diagnostic(DiagnosticCode("conversion-refused"), source, reasons: ["it could not be merged"])
        }
        return file
    }

    /// What has layers keeps them, byte for byte; what has none becomes one.
    private func save(_ format: SaveFormat, to path: String, as name: ImageReference?, _ locations: Locations) throws {
        guard format == .ociDirectory || access(path, F_OK) != 0 else { throw exists(path) }
        let space = try ConversionSpace(below: locations.temporary)
        defer { withExtendedLifetime(space) {} }
        var file = try singleFileImage(source, locations)
        if file == nil, isDirectory, access(source + "/oci-layout", F_OK) != 0 {
            let passing = space.path + "/merged.sqfs"
            _ = try write(SingleFileWriter(options: try options()), to: passing)
            file = try singleFileImage(passing, locations)
        }
        let store = ImageStore(locations)
        let image: StoredImage
        if let file {
            image = try imported(file, in: space, locations)
        } else if let archive = archivePath {
            image = try loaded(archive, in: space, locations)
        } else {
            image = try ImageResolver(store: store).resolve(source)
        }
        let names = name.map { [$0.description] } ?? (image.hasName ? [image.name] : [])
        try ImageSave.write([SavedImage(image: image, names: names)], as: format, to: path, isQuiet: quiet)
        if !quiet { Output.standard.line("\(path): \(image.record.manifest.digest)") }
    }

    private func imported(
        _ source: StoredImage, in space: ConversionSpace, _ locations: Locations
    ) throws(Diagnostic) -> StoredImage {
        let root = try RootSource(source, in: space)
        let loaded = try ImageStore(root: space.path + "/store").importRoot(
            archive: root.archive, subject: self.source, name: nil, configuration: root.configuration,
            created: try ImageImport.created(), comment: "Converted from \(self.source)",
            preparer: PlanCompiler(account: .current(home: locations.home)))
        return try only(loaded)
    }

    private func loaded(
        _ archive: String, in space: ConversionSpace, _ locations: Locations
    ) throws(Diagnostic) -> StoredImage {
        try only(
            try ImageStore(root: space.path + "/store").load(
                archive: try ImageLoad.open(archive, verb: "convert"), subject: source,
                preparer: PlanCompiler(account: .current(home: locations.home))))
    }

    private func only(_ loaded: [LoadedImage]) throws(Diagnostic) -> StoredImage {
        guard let first = loaded.first, Set(loaded.map(\.image.record.manifest.digest)).count == 1 else {
            throw Diagnostic(
                DiagnosticCode("conversion-refused"), source, reasons: ["it holds \(loaded.count) images"],
                remedies: ["trireme image load -i \(source), then convert one by its name"])
        }
        return first.image
    }

    private func options() throws(Diagnostic) -> SingleFileWriter.Options {
        var options = SingleFileWriter.Options()
        func refused(_ option: String, _ reason: String) -> Diagnostic {
            Diagnostic(DiagnosticCode("option-value"), option, reasons: [reason])
        }
        switch compression {
        case "zstd": options.squash.compression = .zstd
        case "gzip": options.squash.compression = .gzip
        default: throw refused("--compression \(compression)", "one of: zstd, gzip")
        }
        let isZstd = options.squash.compression == .zstd
        let level = self.level ?? (isZstd ? 3 : 6)
        guard (1...(isZstd ? 19 : 9)).contains(level) else {
            throw refused("--level \(level)", "\(compression) takes 1 to \(isZstd ? 19 : 9)")
        }
        options.squash.level = Int32(level)
        guard blockSize >= 4096, blockSize <= SquashFormat.maximumBlockBytes, blockSize.nonzeroBitCount == 1 else {
            throw refused("--block-size \(blockSize)", "a power of two from 4096 to 1048576")
        }
        options.squash.blockBytes = blockSize
        // https://reproducible-builds.org/specs/source-date-epoch/
        let epoch = getenv("SOURCE_DATE_EPOCH").flatMap { UInt32(String(cString: $0)) }
        options.squash.fixedTime = fixedTime ?? epoch
        options.squash.created = UInt32(clamping: time(nil))
        return options
    }

    private var isDirectory: Bool {
        var status = stat()
        return stat(source, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// The archive that the source is; nil when it is something else.
    private var archivePath: String? {
        for scheme in ["docker-archive:", "oci-archive:", "oci:"] where source.hasPrefix(scheme) {
            return String(source.dropFirst(scheme.count))
        }
        if source == "-" { return "/dev/stdin" }
        if isDirectory { return access(source + "/oci-layout", F_OK) == 0 ? source : nil }
        let isPath = source.hasPrefix("/") || source.hasPrefix("./") || source.hasPrefix("../")
        return access(source, F_OK) == 0 && (isPath || source.hasSuffix(".tar")) ? source : nil
    }

    private func singleFile(_ path: String) throws(Diagnostic) -> SquashReader? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return try SingleFileImage.open(path)
    }

    private func singleFileImage(_ path: String, _ locations: Locations) throws(Diagnostic) -> StoredImage? {
        let spelled = path.contains("/") ? path : "./" + path
        return try SingleFileImage.named(
            spelled, account: { .current(home: locations.home) }, layout: ImageStore(locations).layout)
    }

    private func write(_ writer: SingleFileWriter, to target: String) throws(Diagnostic) -> SingleFileWriter.Report {
        let locations = Locations.current()
        if let archive = archivePath {
            return try convertArchive(archive, writer, locations, to: target)
        }
        if isDirectory {
            let configuration = "{\"architecture\":\"\(Platform.current.architecture)\",\"os\":\"linux\",\"config\":{}}"
            return try writer.write(
                .directory(source), configuration: Array(configuration.utf8), mpi: nil, to: target, subject: source)
        }
        return try convert(try ImageResolver(store: ImageStore(locations)).resolve(source), writer, to: target)
    }

    private func convert(
        _ image: StoredImage, _ writer: SingleFileWriter, to target: String
    ) throws(Diagnostic) -> SingleFileWriter.Report {
        let configuration: [UInt8]
        do throws(SyscallError) { configuration = try Files.read(image.layout.blob(image.record.configuration)) } catch
        {
            throw Diagnostic(DiagnosticCode("store-damaged"), image.name, reasons: [error.sentence])
        }
        // The prepared layer is one user's; what it adds for everyone is added anew.
        let prepared = image.layout.root + "/" + image.layout.relativePrepared(image.record.manifest.digest)
        return try writer.write(
            .layers(image.lowerDirectories.filter { $0 != prepared }), configuration: configuration,
            mpi: image.record.mpi, to: target, subject: image.name)
    }

    /// As a stream: nothing of it is unpacked.
    private func convertArchive(
        _ path: String, _ writer: SingleFileWriter, _ locations: Locations, to target: String
    ) throws(Diagnostic) -> SingleFileWriter.Report {
        let archive: OwnedDescriptor
        do throws(SyscallError) { archive = try OwnedDescriptor.open(path, O_RDONLY) } catch {
            throw Diagnostic(DiagnosticCode("archive-unreadable"), source, reasons: [error.sentence])
        }
        let stream = try ArchiveStream(
            archive, store: ImageStore(root: locations.store), temporary: locations.temporary, subject: source)
        return try writer.write(
            .archive { (merge) throws(Diagnostic) in try stream.read(into: merge) },
            configuration: stream.configuration,
            mpi: nil, to: target, subject: source)
    }

    private func unpack(_ reader: SquashReader) throws(Diagnostic) {
        let partial: PartialDirectory
        do throws(SyscallError) { partial = try PartialDirectory(for: target) } catch {
            throw Diagnostic(DiagnosticCode("conversion-refused"), target, reasons: [error.sentence])
        }
        do throws(SyscallError) {
            var options = SquashExtraction.Options()
            options.skipping = [Array(SingleFileImage.directory.utf8)]
            var extraction = SquashExtraction(reader, into: partial.directory.raw, options: options)
            let summary: ExtractionSummary
            do throws(ArchiveFault) { summary = try extraction.run() } catch {
                throw SyscallError(
                    "extract", "\(error.entry) \(error.reason)", errno: error.errno == 0 ? EBADMSG : error.errno)
            }
            try partial.finish()
            guard !quiet else { return }
            if summary.skippedDevices > 0 {
                Output.standard.line("note: \(summary.skippedDevices) devices were left out", to: .progress)
            }
            Output.standard.line(
                "\(target): \(summary.entries) files, \(ByteCount.text(summary.bytes))\(Self.dropped(summary))")
        } catch {
            // Half a directory is not left behind.
            partial.remove()
            throw Diagnostic(DiagnosticCode("conversion-refused"), target, reasons: [error.sentence])
        }
    }

    /// What files cannot have whose owner is the caller; in words for the end of the summary line.
    private static func dropped(_ summary: ExtractionSummary) -> String {
        var words: [String] = []
        if summary.droppedSetID > 0 { words.append("set-id bits of \(summary.droppedSetID)") }
        if summary.droppedAttributes > 0 { words.append("\(summary.droppedAttributes) privileged attributes") }
        return words.isEmpty ? "" : ", without " + words.joined(separator: " and ") + " (recorded: user.trireme.mode)"
    }
}
