import ArgumentParser
import ContainerRuntime
import Diagnostics
import FoundationEssentials
import Glibc
import ImageStore
import LinuxSystem
import OCIModel
import RegistryClient

/// `trireme image sync`
package struct ImageSync: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "sync", abstract: "Bring the store's images up to date with their registries, as a file says.",
        discussion: """
            For cron and the like. What has a new digest is pulled; containers that run keep the image they \
            were started from. Exit status 1 when an image could not be brought.
            """)

    @Option(help: ArgumentHelp("Which images, and what becomes of their old versions.", valueName: "file"))
    var policy: String
    @OptionGroup var connection: ConnectionOptions
    @Flag(help: "Ask the registries, print what would be done, and change nothing.") var dryRun = false
    @Option(help: "table, json, jsonl or a template.") var format = RowFormat.table(nil)
    @Flag(name: .shortAndLong, help: "Print only what changed and what failed.") var quiet = false

    package init() {}

    struct Row: FormattedRow {
        enum State: String, Encodable { case new, updated, current, failed, removed }
        var name: String
        var state: State
        var digest: String?
        var previous: String?

        static let columns = [("Name", "NAME"), ("State", "STATE"), ("Digest", "DIGEST")].map {
            (field: $0.0, heading: $0.1)
        }
        static let furtherFields = ["Previous"]
        func text(_ field: String) -> String? {
            switch field {
            case "Name": name
            case "State": state.rawValue
            case "Digest": digest ?? ""
            case "Previous": previous ?? ""
            default: nil
            }
        }
    }

    package func run() throws {
        let file = try SyncFile(policy)
        let store = ImageStore.current()
        var rows: [Row] = []
        for entry in file.images {
            for name in try names(entry, &rows) {
                do throws(Diagnostic) { rows += try bring(name, entry, store) } catch {
                    Output.standard.diagnose(error)
                    rows.append(Row(name: name, state: .failed))
                }
            }
        }
        try Output.standard.rows(quiet ? rows.filter { $0.state != .current } : rows, as: format)
        if rows.contains(where: { $0.state == .failed }) { throw ExitCode(1) }
    }

    /// The names that an entry stands for; a registry that cannot be asked is one failure.
    private func names(_ entry: SyncFile.Entry, _ rows: inout [Row]) throws -> [String] {
        guard let patterns = entry.tags else { return [entry.name] }
        if patterns.allSatisfy({ !SyncFile.isPattern($0) }) { return patterns.map { "\(entry.name):\($0)" } }
        do throws(Diagnostic) {
            let question = RegistryQuestion(settings: connection.settings)
            let tags = try question.tags(of: try RegistryCommands.reference(entry.name))
            let wanted = tags.filter { tag in patterns.contains { fnmatch($0, tag, 0) == 0 } }
            if wanted.isEmpty {
                throw Diagnostic(
                    DiagnosticCode("registry-not-found"), entry.name,
                    reasons: ["none of its \(tags.count) tags is like \(patterns.joined(separator: ", "))"])
            }
            return wanted.map { "\(entry.name):\($0)" }
        } catch {
            Output.standard.diagnose(error)
            rows.append(Row(name: entry.name, state: .failed))
            return []
        }
    }

    private func bring(_ name: String, _ entry: SyncFile.Entry, _ store: ImageStore) throws(Diagnostic) -> [Row] {
        let reference = try RegistryCommands.reference(name)
        let platform = try ImageLoad.platform(entry.platform)
        let local = reference.localName?.description ?? reference.digest?.description ?? name
        let before = try store.ownImage(named: local)?.record.manifest.digest
        let after: Digest
        if dryRun {
            after = try RegistryQuestion(settings: connection.settings).digest(of: reference, platform: platform)
        } else {
            let report = TransferReport(isQuiet: true)
            after = try RegistryCommands.pull(name, platform, connection, report).image.record.manifest.digest
        }
        let state: Row.State = before == nil ? .new : before == after ? .current : .updated
        var rows = [
            Row(name: local, state: state, digest: after.description, previous: before?.description)
        ]
        if entry.removesOld, state == .updated, let before, let old = try removable(before, store) {
            if !dryRun { try store.remove([old]) }
            rows.append(Row(name: before.description, state: .removed, digest: before.description))
        }
        return rows
    }

    /// The version replaced, unless it has another name, a pin or a container.
    private func removable(_ digest: Digest, _ store: ImageStore) throws(Diagnostic) -> ImageUse? {
        try store.usage().first {
            $0.image.record.manifest.digest == digest && !$0.isPinned && !$0.isInUse
                && $0.names.allSatisfy { $0 == digest.description }
        }
    }
}

/// What `image sync` is told.
struct SyncFile {
    struct Entry: Decodable {
        var name: String
        /// Patterns of glob(7); nil when the name has its tag.
        var tags: [String]?
        var platform: String?
        var removesOld: Bool

        enum CodingKeys: String, CodingKey { case name, tags, platform, old }
        init(from decoder: any Decoder) throws {
            let values = try decoder.container(keyedBy: CodingKeys.self)
            name = try values.decode(String.self, forKey: .name)
            tags = try values.decodeIfPresent([String].self, forKey: .tags)
            platform = try values.decodeIfPresent(String.self, forKey: .platform)
            let old = try values.decodeIfPresent(String.self, forKey: .old) ?? "keep"
            guard old == "keep" || old == "remove" else {
                throw DecodingError.dataCorruptedError(
                    forKey: .old, in: values, debugDescription: "\"old\" is \"keep\" or \"remove\"")
            }
            removesOld = old == "remove"
        }
    }
    private struct Content: Decodable {
        var version: Int
        var images: [Entry]
    }
    let images: [Entry]

    init(_ path: String) throws(Diagnostic) {
        func invalid(_ reason: String) -> Diagnostic {
            Diagnostic(
                DiagnosticCode("sync-invalid"), path, reasons: [reason],
                remedies: [#"{"version":1,"images":[{"name":"docker.io/library/debian","tags":["12","12.*"]}]}"#])
        }
        let content: Content
        do {
            let bytes = try path == "-" ? OwnedDescriptor(owning: dup(0)).readAll(limit: 1 << 20) : Files.read(path)
            content = try JSONDecoder().decode(Content.self, from: Data(bytes))
        } catch let error as SyscallError { throw invalid(error.sentence) } catch {
            if case DecodingError.dataCorrupted(let context) = error { throw invalid(context.debugDescription) }
            throw invalid("not a list of images")
        }
        guard content.version == 1 else { throw invalid("version \(content.version); 1 is read here") }
        images = content.images
        for entry in images {
            let isTagged = entry.name.split(separator: "/").last?.contains(where: { $0 == ":" || $0 == "@" }) ?? false
            if entry.tags != nil, isTagged { throw invalid("'\(entry.name)' has a tag, and \"tags\" beside it") }
        }
    }

    static func isPattern(_ tag: String) -> Bool { tag.contains { "*?[".contains($0) } }
}
