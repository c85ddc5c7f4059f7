import ArgumentParser
import Diagnostics
import FoundationEssentials
import Glibc
import ImageStore
import OCIModel

/// `trireme image ls`, `trireme images`
package struct ImageList: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List the images in the store.", aliases: ["list"])

    @Option(help: "table, json, jsonl or a template such as '{{.Repository}}:{{.Tag}}'.")
    var format = RowFormat.table(nil)
    @Flag(name: .shortAndLong, help: "Print image ids only.") var quiet = false
    @Flag(help: "Show digests.") var digests = false
    @Flag(name: .customLong("no-trunc"), help: "Show whole ids.") var noTrunc = false
    @Flag(name: .shortAndLong, help: "For docker's users; every image is shown anyway.") var all = false
    @Option(name: [.customShort("f"), .long], help: "dangling=true, reference=PATTERN, label=KEY[=VALUE].")
    var filter: [String] = []
    @Argument(help: "Show only images of this name, with or without tag.") var name: String?

    package init() {}

    /// One image of `--format json`; the keys are documented and stable.
    struct Row: FormattedRow {
        var name: String?
        var id: String
        var digest: String
        var created: String?
        var loaded: String
        var size: Int64
        var platform: String
        var mpi: [String]
        var store: String
        var isTruncated = true
        var showsDigest = false
        enum CodingKeys: String, CodingKey { case name, id, digest, created, loaded, size, platform, mpi, store }

        init(_ image: StoredImage) {
            name = image.hasName ? image.name : nil
            id = image.record.configuration.description
            digest = image.record.manifest.digest.description
            created = image.record.created
            loaded = image.record.loaded
            size = image.record.unpackedBytes
            platform = image.record.platform.description
            store = image.layout.root
            mpi = image.record.mpi.map {
                $0.family == .openMPI && $0.major > 0 ? "openmpi\($0.major)" : $0.family.rawValue
            }
        }

        static let columns = [
            ("Repository", "REPOSITORY"), ("Tag", "TAG"), ("ID", "IMAGE ID"), ("CreatedSince", "CREATED"),
            ("Size", "SIZE"),
        ].map { (field: $0.0, heading: $0.1) }
        static let furtherFields = ["Digest", "CreatedAt", "Name", "Platform", "MPI", "Loaded", "Store"]

        func text(_ field: String) -> String? {
            let reference = name.flatMap { ImageReference($0) }
            return switch field {
            case "Repository": reference?.repository ?? "<none>"
            case "Tag": reference?.tag ?? "<none>"
            case "ID": isTruncated ? String(id.dropFirst(7).prefix(12)) : id
            case "CreatedSince": RelativeTime.since(created)
            case "CreatedAt": created ?? "N/A"
            case "Size": ByteCount.text(size)
            case "Digest": digest
            case "Name": name ?? "<none>"
            case "Platform": platform
            case "MPI": mpi.isEmpty ? "-" : mpi.joined(separator: ",")
            case "Loaded": loaded
            case "Store": store
            default: nil
            }
        }
    }

    package func run() throws {
        let store = ImageStore.current()
        var images = try store.images()
        for text in filter { images = try filtered(images, by: text, store) }
        if let name {
            let reference = ImageReference(name)
            images = images.filter { image in
                guard let reference, let own = ImageReference(image.name) else { return false }
                let hasTag = name.split(separator: "/").last?.contains(":") ?? false
                return [own, own.withoutLocalhost].contains { $0?.repository == reference.repository }
                    && (!hasTag || own.tag == reference.tag)
            }
        }
        if quiet {
            var seen: Set<String> = []
            for image in images where seen.insert(image.record.configuration.hex).inserted {
                let id = image.record.configuration
                Output.standard.line(noTrunc ? id.description : String(id.hex.prefix(12)))
            }
            return
        }
        var rows = images.map(Row.init)
        for index in rows.indices { rows[index].isTruncated = !noTrunc }
        if digests, case .table(nil) = format {
            let template = RowTemplate("{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}")
            return try Output.standard.rows(rows, as: .table(template))
        }
        try Output.standard.rows(rows, as: format)
    }

    private func filtered(_ images: [StoredImage], by text: String, _ store: ImageStore) throws -> [StoredImage] {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        switch (parts[0], parts.count > 1 ? parts[1] : "") {
        case ("dangling", "true"): return images.filter { !$0.hasName }
        case ("dangling", "false"): return images.filter(\.hasName)
        case ("reference", let pattern) where !pattern.isEmpty:
            return images.filter { image in
                guard let own = ImageReference(image.name) else { return false }
                let spellings: [String] = [own.description, own.repository]
                return spellings.contains { (text: String) in fnmatch(pattern, text, FNM_PATHNAME) == 0 }
            }
        case ("label", let wanted) where !wanted.isEmpty:
            let key = String(wanted.prefix { $0 != "=" })
            return try images.filter { image in
                guard let labels = try store.configuration(of: image).config?.labels, let value = labels[key] else {
                    return false
                }
                return !wanted.contains("=") || value == String(wanted.dropFirst(key.count + 1))
            }
        default:
            throw Diagnostic(
                DiagnosticCode("usage"), "--filter \(text)", reasons: ["not a filter of 'image ls'"],
                remedies: ["--filter dangling=true", "--filter 'reference=name*'", "--filter label=KEY=VALUE"])
        }
    }
}

/// JSON as every command prints it: keys sorted, slashes plain.
func json(_ value: some Encodable, pretty: Bool) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting =
        pretty ? [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted] : [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}
