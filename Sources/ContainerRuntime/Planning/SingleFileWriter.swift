import CLinux
import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem
import OCIModel

/// Writes single-file images: a root file system, and in `/.trireme` what is needed to run it as its author meant.
package struct SingleFileWriter {
    package struct Options: Sendable {
        package var squash = SquashWriter.Options()
        package init() { squash.threadCount = Processors.count }
    }
    private let options: Options

    package init(options: Options = Options()) { self.options = options }

    /// What was written.
    package struct Report: Sendable {
        package var bytes: Int64
        package var files: Int
        package var duplicates: Int
        package var skippedDevices: Int
    }

    /// Where an image's content comes from.
    package enum Source {
        /// Unpacked layers of a store, topmost first.
        case layers([String])
        /// A root file system.
        case directory(String)
        /// An archive's layers, as they are read.
        case archive((LayerMerge) throws(Diagnostic) -> Void)
    }

    /// Writes `path`, which must not exist; nothing is left there after a failure.
    ///
    /// - Parameters:
    ///   - configuration: as its author wrote it.
    ///   - subject: the source as the user named it.
    package func write(
        _ source: Source, configuration: [UInt8], mpi: [MPIInstallation]?, to path: String, subject: String
    ) throws(Diagnostic) -> Report {
        let partial: PartialFile
        do throws(SyscallError) {
            if access(path, F_OK) == 0 { throw SyscallError("open", path, errno: EEXIST) }
            partial = try PartialFile(for: path)
        } catch { throw refusedTarget(error, path) }
        let report: Report
        do throws(Diagnostic) { report = try fill(partial.file.raw, source, configuration, mpi, subject) } catch {
            partial.remove()
            throw error
        }
        do throws(SyscallError) { try partial.finish() } catch {
            partial.remove()
            throw refusedTarget(error, path)
        }
        return report
    }

    private func refusedTarget(_ error: SyscallError, _ path: String) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("conversion-refused"), path, reasons: [error.sentence],
            remedies: error.errno == EEXIST ? ["remove it first, or choose another name"] : [])
    }

    private func fill(
        _ file: Int32, _ source: Source, _ configuration: [UInt8], _ mpi: [MPIInstallation]?, _ subject: String
    ) throws(Diagnostic) -> Report {
        var paths: [String] = []
        var imports = DirectoryImport.Options()
        switch source {
        case .layers(let layers):
            paths = layers
            imports.isLayered = true
        case .directory(let directory): paths = [directory]
        case .archive(let read): return try fill(file, reading: read, configuration, subject)
        }
        var opened: [Int32] = []
        defer { opened.forEach { close($0) } }
        do throws(SyscallError) {
            for path in paths { opened.append(try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY).release()) }
        } catch { throw Diagnostic(DiagnosticCode("conversion-refused"), subject, reasons: [error.sentence]) }
        let writer = SquashWriter(file, options: options.squash)
        let importer = DirectoryImport(writer, options: imports)
        do throws(ArchiveFault) { try importer.run(opened) } catch { throw refused(error, subject) }
        let tree: MergedTree
        do throws(SyscallError) { tree = try MergedTree(paths) } catch {
            throw Diagnostic(DiagnosticCode("conversion-refused"), subject, reasons: [error.sentence])
        }
        return try finish(
            writer, tree, configuration, mpi ?? MPIDetection.installations(in: tree), importer.summary, subject)
    }

    /// From an archive. What its plan needs to know of the content is read back from the image.
    private func fill(
        _ file: Int32, reading read: (LayerMerge) throws(Diagnostic) -> Void, _ configuration: [UInt8],
        _ subject: String
    ) throws(Diagnostic) -> Report {
        var writer = SquashWriter(file, options: options.squash)
        var merge = LayerMerge(writer)
        do throws(Diagnostic) { try read(merge) } catch {
            guard merge.needsHidden else { throw error }
            // A file that does not show has a link that does: rare enough to begin again for it.
            guard ftruncate(file, 0) == 0 else { throw error }
            writer = SquashWriter(file, options: options.squash)
            merge = LayerMerge(writer, keepsHidden: true)
            try read(merge)
        }
        let tree: MergedTree
        do throws(ArchiveFault) {
            try merge.finish()
            tree = MergedTree(try SquashReader(file, length: try writer.finish()))
        } catch { throw refused(error, subject) }
        let mpi = MPIDetection.installations(in: tree)
        writer.reopen()
        return try finish(writer, tree, configuration, mpi, merge.summary, subject)
    }

    /// Adds what makes it run, and the tables.
    func finish(
        _ writer: SquashWriter, _ tree: MergedTree, _ configuration: [UInt8], _ mpi: [MPIInstallation],
        _ summary: ExtractionSummary, _ subject: String
    ) throws(Diagnostic) -> Report {
        let time = Int64(options.squash.fixedTime ?? options.squash.created)
        for path in PreparedRoot.directories {
            let mode: UInt32 = path == "/tmp" || path == "/var/tmp" ? 0o1777 : 0o755
            writer.root.make(path, .directory, SquashMetadata(mode: mode, modified: time))
        }
        for path in PreparedRoot.files {
            writer.root.make(path, .file, SquashMetadata(mode: 0o644, modified: time))
        }
        let decoded: ImageConfiguration
        do { decoded = try JSONDecoder().decode(ImageConfiguration.self, from: Data(configuration)) } catch {
            throw Diagnostic(
                DiagnosticCode("conversion-refused"), subject, reasons: ["its configuration is not valid JSON"])
        }
        var plan = PlanCompiler.plan(decoded, in: tree)
        plan.layers = ["."]
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            let files: [(String, [UInt8])] = [
                (SingleFileImage.configurationPath, configuration), (SingleFileImage.planPath, try plan.encoded()),
                (SingleFileImage.mpiPath, Array(try encoder.encode(mpi))),
            ]
            for (path, bytes) in files {
                let node = SquashNode(.file, SquashMetadata(mode: 0o644, modified: time))
                guard let directory = writer.root.make(SingleFileImage.directory, .directory, SquashMetadata()) else {
                    throw ArchiveFault(.hostile, "'/\(SingleFileImage.directory)' is not a directory")
                }
                writer.beginFile(node)
                try bytes.withUnsafeBytes { try writer.append($0) }
                try writer.endFile()
                try writer.add(
                    node, named: Array(path.utf8.drop { $0 != UInt8(ascii: "/") }.dropFirst()), to: directory)
            }
            return Report(
                bytes: try writer.finish(), files: summary.entries, duplicates: writer.duplicateFiles,
                skippedDevices: summary.skippedDevices)
        } catch let fault as ArchiveFault { throw refused(fault, subject) } catch {
            throw Diagnostic(
                DiagnosticCode("conversion-refused"), subject, reasons: ["its configuration cannot be a plan: \(error)"]
            )
        }
    }

    func refused(_ fault: ArchiveFault, _ subject: String) -> Diagnostic {
        guard fault.kind == .system else { return SingleFileImage.refused(fault, subject) }
        let reasons = [fault.entry.isEmpty ? nil : "entry '\(fault.entry)'", fault.reason].compactMap { $0 }
        return Diagnostic(DiagnosticCode("conversion-refused"), subject, reasons: reasons)
    }
}

/// This process's share of the machine.
package enum Processors {
    package static var count: Int {
        var mask = [UInt64](repeating: 0, count: 128)
        let bytes = Int(linux_sched_getaffinity(0, 1024, &mask))
        return max(1, mask.prefix(max(0, bytes) / 8).reduce(0) { $0 + $1.nonzeroBitCount })
    }
}
