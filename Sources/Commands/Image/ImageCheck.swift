import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem
import OCIModel

/// `trireme image check`
package struct ImageCheck: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Can this host run the image: kernel, processor, GPU driver, C library.",
        discussion: "Exit status 1 when it cannot; warnings alone are none.")

    @Option(help: "table, json, jsonl or a template.") var format = RowFormat.table(nil)
    @Flag(name: .shortAndLong, help: "Print only what is wrong.") var quiet = false
    @Argument(help: "The image.") var image: String

    package init() {}

    struct Row: FormattedRow {
        var level: String
        var rule: String
        var message: String

        static let columns = [("Level", "LEVEL"), ("Rule", "RULE"), ("Message", "MESSAGE")].map {
            (field: $0.0, heading: $0.1)
        }
        func text(_ field: String) -> String? {
            switch field {
            case "Level": level
            case "Rule": rule
            case "Message": message
            default: nil
            }
        }
    }

    package func run() throws {
        let found = try ImageResolver(store: ImageStore.current()).resolve(image)
        let fit: HostFit
        do throws(SyscallError) {
            // The prepared layer on top is ours, not the image's.
            let tree =
                found.file == nil ? try MergedTree(Array(found.lowerDirectories.dropFirst())) : try found.tree()
            let libraries = HostLibraries(
                root: try HostRoot(ImageCheck.variable("TRIREME_HOST_ROOT") ?? "/"), first: [],
                extra: NvidiaDriver.libraryDirectories)
            fit = HostFit(
                tree, platform: found.record.platform,
                environment: found.plan.environment.map { String(decoding: $0, as: UTF8.self) }, on: libraries,
                release: ImageCheck.release())
        } catch {
            throw Diagnostic(DiagnosticCode("layer-missing"), found.name, reasons: [error.sentence])
        }
        let rows = fit.findings.filter { !quiet || $0.level != .info }.map {
            Row(level: $0.level.rawValue, rule: $0.rule, message: Diagnostic.harmless($0.message))
        }
        try Output.standard.rows(rows, as: format)
        if fit.findings.contains(where: { $0.level == .error }) { throw ExitCode(1) }
    }

    private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    /// uname(2); the host root of a test or a driver container may say otherwise (proc(5), `osrelease`).
    private static func release() -> String {
        if let root = variable("TRIREME_HOST_ROOT"),
            let text = try? Files.read(root + "/proc/sys/kernel/osrelease", limit: 256)
        {
            return String(decoding: text, as: UTF8.self).split(separator: "\n").first.map(String.init) ?? ""
        }
        var facts = utsname()
        uname(&facts)
        return withUnsafeBytes(of: &facts.release) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
