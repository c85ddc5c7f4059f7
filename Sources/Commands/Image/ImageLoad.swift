import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import OCIModel
import Quantities
import RegistryClient
import SiteConfiguration

/// `trireme image load`, `trireme load`
package struct ImageLoad: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "load",
        abstract: "Load images from an archive (docker save, podman save, OCI) or an OCI layout directory.",
        discussion: "The archive and its layers may be plain, gzip or zstd; which, is told from their content.")

    @Option(
        name: [.customShort("i"), .long], help: "The archive or layout directory; '-' or none reads standard input.")
    var input: String = "-"
    @Option(help: "The platform to take of an archive that offers several, as linux/amd64.")
    var platform: String?
    @OptionGroup var limits: ImportLimits
    @Flag(name: .shortAndLong, help: "Print image ids only.")
    var quiet = false

    @Argument(help: .hidden) var words: [String] = []

    package init() {}

    package func run() throws {
        if let file = words.first {
            throw Diagnostic(
                DiagnosticCode("usage"), file, reasons: ["the archive is named with -i"],
                remedies: ["trireme load -i \(file)"])
        }
        let wanted = try ImageLoad.platform(platform)
        let locations = Locations.current()
        let compiler = PlanCompiler(account: .current(home: locations.home))
        let report = LoadReport(isQuiet: quiet)
        let store = ImageStore(locations)
        let loaded = try store.load(
            archive: try ImageLoad.open(input, verb: "load"), subject: input == "-" ? "standard input" : input,
            platform: wanted, preparer: compiler, limits: try limits.limits(), progress: report.note)
        report.end()
        for item in loaded { report.finished(item) }
        if !quiet { ImageLoad.noteForeign(loaded.map(\.image)) }
        if RegistryPolicy.isAny { try noteUnsigned(loaded.map(\.image), store) }
    }

    /// Says which names will not be run: an archive vouches for nothing but what it brings signatures of.
    private func noteUnsigned(_ images: [StoredImage], _ store: ImageStore) throws(Diagnostic) {
        let names = try SignedNames(store: store, settings: RegistryCommands.settings())
        for image in images {
            let again = { () throws(Diagnostic) in try ImageLoad.open(input, verb: "load") }
            let policy =
                input == "-"
                ? names.took(image, from: nil, subject: input) : names.took(image, from: again, subject: input)
            guard let policy else { continue }
            Output.standard.line(
                "note: policy \(policy) wants \(image.name) signed, and the archive brings no signature by its keys: "
                    + "it is not run under this name (trireme explain image-unsigned)", to: .progress)
        }
    }

    /// Says which images can be handed on, but not run here.
    static func noteForeign(_ images: [StoredImage]) {
        for image in images where !Platform.current.accepts(image.record.platform) {
            Output.standard.line(
                "note: \(image.name) is made for \(image.record.platform); this machine is \(Platform.current)",
                to: .progress)
        }
    }

    /// `--platform`, or this machine's.
    static func platform(_ text: String?) throws(Diagnostic) -> Platform {
        guard let text else { return .current }
        guard let parsed = Platform(text) else {
            throw Diagnostic(
                DiagnosticCode("usage"), "--platform \(text)", reasons: ["not a platform"],
                remedies: ["--platform \(Platform.current)"])
        }
        return parsed
    }

    /// A file, a directory or standard input.
    static func open(_ path: String, verb: String) throws(Diagnostic) -> OwnedDescriptor {
        if path == "-", isatty(STDIN_FILENO) == 1 {
            throw Diagnostic(
                DiagnosticCode("usage"), verb, reasons: ["standard input is a terminal, not an archive"],
                remedies: [verb == "load" ? "trireme image load -i FILE" : "trireme image \(verb) FILE NAME"])
        }
        do throws(SyscallError) {
            if path != "-" { return try OwnedDescriptor.open(path, O_RDONLY) }
            return OwnedDescriptor(owning: try checked("dup") { fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) })
        } catch {
            throw Diagnostic(
                DiagnosticCode("archive-unreadable"), path == "-" ? "standard input" : path, reasons: [error.sentence])
        }
    }
}

/// How much an image may ask for before it is taken for a bomb.
struct ImportLimits: ParsableArguments {
    @Option(help: "Refuse images of more content than SIZE, all layers together (256G).") var maxSize: String?
    @Option(help: "Refuse images of more than COUNT files, all layers together (5000000).") var maxFiles: Int?

    func limits() throws(Diagnostic) -> ExtractionLimits {
        var limits = ExtractionLimits()
        if let maxSize {
            guard let bytes = TypedSize.bytes(maxSize) else {
                throw Diagnostic(
                    DiagnosticCode("usage"), "--max-size \(maxSize)", reasons: ["not a size"],
                    remedies: ["--max-size 20G"])
            }
            limits.bytes = bytes
        }
        if let maxFiles {
            guard maxFiles >= 0 else {
                throw Diagnostic(DiagnosticCode("usage"), "--max-files \(maxFiles)", reasons: ["not a count"])
            }
            limits.entries = maxFiles
        }
        return limits
    }
}

/// What a load says: results on standard output, the rest on standard error.
final class LoadReport {
    private let isQuiet: Bool
    private let isTerminal = isatty(STDERR_FILENO) == 1
    /// How it goes on is worth a line, not only what came of it.
    private let isTold: Bool
    private let transfer: TransferProgress

    init(isQuiet: Bool) {
        self.isQuiet = isQuiet
        isTold = !isQuiet && TransferProgress.isWanted
        transfer = TransferProgress(verb: "unpacked", isQuiet: isQuiet)
    }

    func note(_ event: LoadEvent) {
        guard isTold else { return }
        switch event {
        case .layer(let number, let count, let bytes, let wasPresent):
            // Without a terminal only what takes long is worth a line.
            guard isTerminal || bytes >= 100 << 20 else { return }
            Output.standard.line(
                "layer \(number) of \(count): \(ByteCount.text(bytes))" + (wasPresent ? ", already present" : ""),
                to: .progress)
        case .bytes(let layers):
            let running = layers.filter { $0.read < $0.of }
            let detail = running.prefix(4).map { "\($0.number): \($0.of > 0 ? $0.read * 100 / $0.of : 100)%" }
            transfer.note(
                layers.reduce(0) { $0 + $1.read }, layers.reduce(0) { $0 + $1.of },
                detail: detail.isEmpty ? "" : ", layer " + detail.joined(separator: ", "))
        case .summary(let summary):
            transfer.finish()
            if summary.skippedDevices > 0 {
                Output.standard.line(
                    "note: \(summary.skippedDevices) device nodes and FIFOs were left out; containers get the host's /dev",
                    to: .progress)
            }
            if summary.droppedAttributes > 0 {
                Output.standard.line(
                    "note: \(summary.droppedAttributes) extended attributes (file capabilities and the like) were left out",
                    to: .progress)
            }
            if summary.duplicates > 0 {
                Output.standard.line(
                    "note: \(summary.duplicates) entries stand twice in their layer; the later ones count",
                    to: .progress)
            }
        }
    }

    func end() { transfer.finish() }

    func finished(_ item: LoadedImage) {
        if item.wasPresent, isTold { Output.standard.line("\(item.image.name): already present", to: .progress) }
        let name = item.image.name
        if isQuiet { return Output.standard.line(item.image.record.configuration.description) }
        Output.standard.line(item.image.hasName ? "Loaded image: \(name)" : "Loaded image ID: \(name)")
    }
}
