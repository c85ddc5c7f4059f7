import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import OCIModel
import Quantities

/// `trireme image prune`
package struct ImagePrune: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Remove images nobody needs: those without a name, or by age and size.",
        discussion: """
            Without options only images without a name go. Images that a container on this machine runs \
            from, and pinned ones ('image pin'), always stay.
            """)

    @Flag(name: .shortAndLong, help: "All images, those with names, too.") var all = false
    @Option(help: "Images, with names or not, last used longer ago than this: 12h, 30d, 2w.") var olderThan: String?
    @Option(help: "The least recently used ones, until the store's images take no more than SIZE.") var keepSize:
        String?
    @Option(help: "until=24h, docker's way to say --older-than.") var filter: String?
    @Flag(help: "Print what would go, and remove nothing.") var dryRun = false
    @Flag(name: .shortAndLong, help: "Do not ask; on a terminal it is asked before anything goes.") var force = false
    @Flag(name: [.customShort("y"), .long], help: "The same.") var yes = false
    @Flag(name: .shortAndLong, help: "Print image ids only.") var quiet = false

    package init() {}

    package func run() throws {
        let store = ImageStore.current()
        let uses = try store.usage()
        let before = store.totalBytes(uses)
        let going = try chosen(uses, store)
        let names = Set(going.map(\.image.record.manifest.digest))
        let after = store.totalBytes(uses.filter { !names.contains($0.image.record.manifest.digest) })
        var reclaimed = before - after
        if !dryRun {
            if !going.isEmpty, !force, !yes {
                try Confirmation.ask(
                    "This removes \(going.count) images (\(ByteCount.text(reclaimed))).",
                    remedy: "trireme image prune --force, and --dry-run shows what would go")
            }
            try Confirmation.showing("removing \(going.count) images", isQuiet: quiet) { () throws(Diagnostic) in
                try store.remove(going)
            }
            // Downloads that broke off and could be continued.
            reclaimed += store.prunePartials(olderThan: 0)
        }
        for use in going {
            let id = use.image.record.configuration
            Output.standard.line(
                quiet ? id.description : "\(dryRun ? "Would delete" : "Deleted"): \(use.names.joined(separator: ", "))")
        }
        if !quiet {
            Output.standard.line(
                "\(dryRun ? "Would reclaim" : "Reclaimed"): \(ByteCount.text(reclaimed))", to: .progress)
        }
    }

    private func chosen(_ uses: [ImageUse], _ store: ImageStore) throws(Diagnostic) -> [ImageUse] {
        var age = olderThan
        if let filter {
            guard filter.hasPrefix("until=") else {
                throw Diagnostic(
                    DiagnosticCode("usage"), "--filter \(filter)", reasons: ["not a filter of 'image prune'"],
                    remedies: ["--filter until=24h"])
            }
            age = String(filter.dropFirst(6))
        }
        let removable = uses.filter { !$0.isPinned && !$0.isInUse }
        var going = removable.filter { all || !$0.image.hasName }
        if let age {
            guard
                let seconds = TypedDuration.milliseconds(age, bare: age == "0" ? .seconds : .nothing).map({ $0 / 1000 })
            else {
                throw Diagnostic(
                    DiagnosticCode("usage"), "--older-than \(age)", reasons: ["not a span of time"],
                    remedies: ["--older-than 30d"])
            }
            let limit = Int64(time(nil)) - Int64(seconds)
            going = (all || olderThan != nil ? removable : going).filter { $0.lastUsed < limit }
        }
        if let keepSize {
            guard let bytes = TypedSize.bytes(keepSize) else {
                throw Diagnostic(
                    DiagnosticCode("usage"), "--keep-size \(keepSize)", reasons: ["not a size"],
                    remedies: ["--keep-size 50G"])
            }
            if !all, age == nil { going = removable.filter { !$0.image.hasName } }
            var kept = uses.filter { use in !going.contains { $0.image.record.manifest == use.image.record.manifest } }
            while store.totalBytes(kept) > bytes,
                let oldest = kept.last(where: { !$0.isPinned && !$0.isInUse })
            {
                going.append(oldest)
                kept.removeAll { $0.image.record.manifest == oldest.image.record.manifest }
            }
        }
        return going
    }
}

/// `trireme image pin`
package struct ImagePin: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "pin", abstract: "Keep images from being pruned.")

    @Flag(help: "No longer.") var remove = false
    @Argument(help: "Names of images.") var names: [String]

    package init() {}

    package func run() throws {
        let store = ImageStore.current()
        for name in names { try store.setPin(try ImageResolver(store: store).resolve(name), !remove) }
    }
}

/// `trireme image df`
package struct ImageUsage: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "df", abstract: "Show what images take on disk, and what they share.")

    @Option(help: "table, json, jsonl or a template such as '{{.Name}} {{.UniqueSize}}'.")
    var format = RowFormat.table(nil)

    package init() {}

    struct Row: FormattedRow {
        var names: [String]
        var id: String
        var size: Int64
        var shared: Int64
        var unique: Int64
        var pinned: Bool
        var inUse: Bool

        static let columns = [
            ("Name", "NAME"), ("ID", "IMAGE ID"), ("Size", "SIZE"), ("SharedSize", "SHARED"), ("UniqueSize", "UNIQUE"),
            ("State", "STATE"),
        ].map { (field: $0.0, heading: $0.1) }

        func text(_ field: String) -> String? {
            switch field {
            case "Name": names.joined(separator: ", ")
            case "ID": String(id.dropFirst(7).prefix(12))
            case "Size": ByteCount.text(size)
            case "SharedSize": ByteCount.text(shared)
            case "UniqueSize": ByteCount.text(unique)
            case "State": ((inUse ? ["in use"] : []) + (pinned ? ["pinned"] : [])).joined(separator: ", ")
            default: nil
            }
        }
    }

    package func run() throws {
        let store = ImageStore.current()
        let uses = try store.usage()
        let rows = uses.map { use in
            Row(
                names: use.image.hasName ? use.names : ["<none>"], id: use.image.record.configuration.description,
                size: use.bytes, shared: use.sharedBytes, unique: use.uniqueBytes, pinned: use.isPinned,
                inUse: use.isInUse)
        }
        try Output.standard.rows(rows, as: format)
        if case .table(nil) = format {
            let total = ByteCount.text(store.totalBytes(uses))
            let free = store.freeBytes().map { ", \(ByteCount.text($0)) free in \(store.layout.root)" } ?? ""
            Output.standard.line("\(uses.count) images, \(total), shared layers counted once\(free)")
        }
    }
}
