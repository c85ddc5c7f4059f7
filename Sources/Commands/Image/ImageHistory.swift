import ArgumentParser
import ContainerRuntime
import Diagnostics
import ImageStore
import OCIModel

/// `trireme image history`
package struct ImageHistory: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "history", abstract: "Show the steps an image was made in, the last one first.")

    @Option(help: "table, json, jsonl or a template such as '{{.CreatedBy}}'.") var format = RowFormat.table(nil)
    @Flag(name: .customLong("no-trunc"), help: "Show whole commands.") var noTrunc = false
    @Flag(name: .shortAndLong, help: "Print image ids only.") var quiet = false
    @Argument(help: "The image.") var image: String

    package init() {}

    struct Row: FormattedRow {
        var id: String?
        var created: String?
        var createdBy: String
        var size: Int64
        var comment: String
        var layer: String?
        var isTruncated = true
        enum CodingKeys: String, CodingKey { case id, created, createdBy, size, comment, layer }

        static let columns = [
            ("ID", "IMAGE"), ("CreatedSince", "CREATED"), ("CreatedBy", "CREATED BY"), ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ].map { (field: $0.0, heading: $0.1) }
        static let furtherFields = ["CreatedAt", "Layer"]

        func text(_ field: String) -> String? {
            switch field {
            case "ID": id.map { isTruncated ? String($0.dropFirst(7).prefix(12)) : $0 } ?? "<missing>"
            case "CreatedSince": RelativeTime.since(created)
            case "CreatedAt": created ?? "N/A"
            case "CreatedBy":
                isTruncated && createdBy.count > 45 ? String(createdBy.prefix(44)) + "…" : createdBy
            case "Size": ByteCount.text(size)
            case "Comment": comment
            case "Layer": layer ?? ""
            default: nil
            }
        }
    }

    package func run() throws {
        let store = ImageStore.current()
        let found = try ImageResolver(store: store).resolve(image)
        var rows = ImageHistory.rows(found, try store.configuration(of: found))
        for index in rows.indices { rows[index].isTruncated = !noTrunc }
        if quiet {
            for row in rows { Output.standard.line(row.text("ID") ?? "") }
            return
        }
        try Output.standard.rows(rows, as: format)
    }

    /// One row per step; layers no step speaks of (of tools that write no history) get one each.
    static func rows(_ image: StoredImage, _ configuration: ImageConfiguration) -> [Row] {
        var layers = image.record.layers[...]
        var rows: [Row] = []
        func row(_ step: ImageConfiguration.Step, _ layer: ImageRecord.Layer?) -> Row {
            Row(
                id: nil, created: step.created, createdBy: step.createdBy ?? "", size: layer?.unpackedBytes ?? 0,
                comment: step.comment ?? "", layer: layer?.diffID.description)
        }
        for step in configuration.history ?? [] {
            rows.append(row(step, step.isEmptyLayer == true ? nil : layers.popFirst()))
        }
        while let layer = layers.popFirst() {
            rows.append(row(ImageConfiguration.Step(created: configuration.created), layer))
        }
        if !rows.isEmpty { rows[rows.count - 1].id = image.record.configuration.description }
        return rows.reversed()
    }
}
