import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import OCIModel
import SiteConfiguration

/// `trireme image load`, `trireme load`
package struct ImageLoad: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Load images from an archive: docker save, podman save, an OCI archive.",
        discussion: "The archive and its layers may be plain, gzip or zstd; which, is told from their content.")

    @Option(name: [.customShort("i"), .long], help: "The archive; '-' or none reads standard input.")
    var input: String = "-"
    @Option(help: "The platform to take of an archive that offers several, as linux/amd64.")
    var platform: String?
    @Flag(name: .shortAndLong, help: "Print names only.")
    var quiet = false

    package init() {}

    package func run() throws {
        let subject = input == "-" ? "standard input" : input
        var wanted = Platform.current
        if let platform {
            guard let parsed = Platform(platform) else {
                throw Diagnostic(
                    DiagnosticCode("usage"), "--platform \(platform)", reasons: ["not a platform"],
                    remedies: ["--platform \(Platform.current)"])
            }
            guard Platform.current.accepts(parsed) else {
                throw Diagnostic(
                    DiagnosticCode("wrong-architecture"), "--platform \(platform)",
                    reasons: ["this machine is \(Platform.current) and cannot run it"])
            }
            wanted = parsed
        }
        if input == "-", isatty(STDIN_FILENO) == 1 {
            throw Diagnostic(
                DiagnosticCode("usage"), "load", reasons: ["standard input is a terminal, not an archive"],
                remedies: ["trireme image load -i FILE"])
        }
        let archive: OwnedDescriptor
        do throws(SyscallError) {
            archive =
                input == "-"
                ? OwnedDescriptor(owning: try checked("dup") { fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) })
                : try OwnedDescriptor.open(input, O_RDONLY)
        } catch {
            throw Diagnostic(DiagnosticCode("archive-unreadable"), subject, reasons: [error.sentence])
        }
        let locations = Locations.current()
        let compiler = PlanCompiler(account: .current(home: locations.home))
        let report = LoadReport(isQuiet: quiet)
        let loaded = try ImageStore(root: locations.store).load(
            archive: archive, subject: subject, platform: wanted, preparer: compiler, progress: report.note)
        for item in loaded { report.finished(item) }
    }
}

/// What a load says: results on standard output, the rest on standard error.
private struct LoadReport {
    var isQuiet: Bool
    private let isTerminal = isatty(STDERR_FILENO) == 1

    init(isQuiet: Bool) { self.isQuiet = isQuiet }

    func note(_ event: LoadEvent) {
        guard !isQuiet else { return }
        switch event {
        case .layer(let number, let count, let bytes, let wasPresent):
            // Without a terminal only what takes long is worth a line.
            guard isTerminal || bytes >= 100 << 20 else { return }
            Output.standard.line(
                "layer \(number) of \(count): \(ByteCount.text(bytes))" + (wasPresent ? ", already present" : ""),
                to: .progress)
        case .bytes: break
        case .summary(let summary):
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
        }
    }

    func finished(_ item: LoadedImage) {
        if item.wasPresent, !isQuiet { Output.standard.line("\(item.image.name): already present", to: .progress) }
        let name = item.image.name
        if isQuiet { return Output.standard.line(name) }
        Output.standard.line(item.image.hasName ? "Loaded image: \(name)" : "Loaded image ID: \(name)")
    }
}
