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
        commandName: "convert", abstract: "Write an image as one file, or a single-file image as a directory.",
        discussion: """
            SOURCE is an image of the store, a directory with a root file system, an archive (docker save, OCI, - for \
            standard input) or a single-file image (.sqfs, .sif). TARGET ending in .sqfs is written as one file, which 'trireme run \
            ./TARGET' runs straight from; another TARGET is a directory, made for the content of a single-file image.
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

    private static let fileSuffixes = [".sqfs", ".squashfs", ".sqsh"]

    package func run() throws {
        let isToFile = ImageConvert.fileSuffixes.contains { target.hasSuffix($0) }
        if let file = try singleFile() {
            guard !isToFile else {
                throw Diagnostic(
                    DiagnosticCode("conversion-refused"), source, reasons: ["it is a single-file image already"],
                    remedies: ["cp \(source) \(target)"])
            }
            return try unpack(file)
        }
        guard isToFile else {
            throw Diagnostic(
                DiagnosticCode("conversion-refused"), target,
                reasons: ["only a single-file image is converted to a directory"],
                remedies: ["trireme image convert \(source) \(target).sqfs"])
        }
        let report = try write(SingleFileWriter(options: try options()))
        guard !quiet else { return }
        if report.skippedDevices > 0 {
            Output.standard.line(
                "note: \(report.skippedDevices) devices, pipes or sockets were left out", to: .progress)
        }
        Output.standard.line("\(target): \(ByteCount.text(report.bytes)), \(report.files) files")
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

    private func singleFile() throws(Diagnostic) -> SquashReader? {
        var status = stat()
        guard stat(source, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return try SingleFileImage.open(source)
    }

    private func write(_ writer: SingleFileWriter) throws(Diagnostic) -> SingleFileWriter.Report {
        let locations = Locations.current()
        for scheme in ["docker-archive:", "oci-archive:"] where source.hasPrefix(scheme) {
            return try convertArchive(String(source.dropFirst(scheme.count)), writer, locations)
        }
        if source == "-" { return try convertArchive("/dev/stdin", writer, locations) }
        var status = stat()
        let isPath = source.hasPrefix("/") || source.hasPrefix("./") || source.hasPrefix("../")
        let exists = stat(source, &status) == 0
        if exists, status.st_mode & S_IFMT == S_IFDIR {
            let configuration = "{\"architecture\":\"\(Platform.current.architecture)\",\"os\":\"linux\",\"config\":{}}"
            return try writer.write(
                .directory(source), configuration: Array(configuration.utf8), mpi: nil, to: target, subject: source)
        }
        if exists, isPath || source.hasSuffix(".tar") { return try convertArchive(source, writer, locations) }
        let store = ImageStore(root: locations.store)
        return try convert(try ImageResolver(store: store).resolve(source), in: store, writer)
    }

    private func convert(
        _ image: StoredImage, in store: ImageStore, _ writer: SingleFileWriter
    ) throws(Diagnostic) -> SingleFileWriter.Report {
        let configuration: [UInt8]
        do throws(SyscallError) { configuration = try Files.read(store.layout.blob(image.record.configuration)) } catch
        {
            throw Diagnostic(DiagnosticCode("store-damaged"), image.name, reasons: [error.sentence])
        }
        // The prepared layer is one user's; what it adds for everyone is added anew.
        let layers = image.plan.layers.filter { $0.hasPrefix("layers/") }.map { "\(store.layout.root)/\($0)" }
        return try writer.write(
            .layers(layers), configuration: configuration, mpi: image.record.mpi, to: target, subject: image.name)
    }

    /// As a stream: nothing of it is unpacked.
    private func convertArchive(
        _ path: String, _ writer: SingleFileWriter, _ locations: Locations
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
        do throws(SyscallError) {
            guard mkdir(target, 0o755) == 0 else { throw SyscallError("mkdir", target) }
            let directory = try OwnedDescriptor.open(target, O_RDONLY | O_DIRECTORY)
            var options = SquashExtraction.Options()
            options.skipping = [Array(SingleFileImage.directory.utf8)]
            var extraction = SquashExtraction(reader, into: directory.raw, options: options)
            let summary: ExtractionSummary
            do throws(ArchiveFault) { summary = try extraction.run() } catch {
                throw SyscallError(
                    "extract", "\(error.entry) \(error.reason)", errno: error.errno == 0 ? EBADMSG : error.errno)
            }
            guard !quiet else { return }
            if summary.skippedDevices > 0 {
                Output.standard.line("note: \(summary.skippedDevices) devices were left out", to: .progress)
            }
            Output.standard.line("\(target): \(summary.entries) files, \(ByteCount.text(summary.bytes))")
        } catch {
            throw Diagnostic(
                DiagnosticCode("conversion-refused"), target, reasons: [error.sentence],
                remedies: error.errno == EEXIST ? ["remove it first, or choose another name"] : [])
        }
    }
}
