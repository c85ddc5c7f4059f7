import ArgumentParser
import Diagnostics
import FoundationEssentials
import ImageStore
import OCIModel

/// `trireme image ls`, `trireme images`
package struct ImageList: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List the images in the store.", aliases: ["list"])

    enum Format: String, ExpressibleByArgument, CaseIterable { case table, json, jsonl }
    @Option(help: "table, json or jsonl.") var format = Format.table
    @Flag(name: .shortAndLong, help: "Print image ids only.") var quiet = false

    package init() {}

    /// One image of `--format json`; the keys are documented and stable.
    struct Row: Encodable {
        var name: String?
        var id: String
        var digest: String
        var created: String?
        var loaded: String
        var size: Int64
        var platform: String
        var mpi: [String]

        init(_ image: StoredImage) {
            name = image.hasName ? image.name : nil
            id = image.record.configuration.description
            digest = image.record.manifest.digest.description
            created = image.record.created
            loaded = image.record.loaded
            size = image.record.unpackedBytes
            platform = image.record.platform.description
            mpi = image.record.mpi.map {
                $0.family == .openMPI && $0.major > 0 ? "openmpi\($0.major)" : $0.family.rawValue
            }
        }
    }

    package func run() throws {
        let images = try ImageStore.current().images()
        if quiet {
            var seen: Set<String> = []
            for image in images where seen.insert(image.record.configuration.hex).inserted {
                Output.standard.line(String(image.record.configuration.hex.prefix(12)))
            }
            return
        }
        let rows = images.map(Row.init)
        switch format {
        case .table: Output.standard.write(ImageList.table(rows))
        case .json: Output.standard.line(try json(rows, pretty: true))
        case .jsonl: for row in rows { Output.standard.line(try json(row, pretty: false)) }
        }
    }

    static func table(_ rows: [Row]) -> String {
        var cells = [["NAME", "IMAGE ID", "CREATED", "SIZE", "MPI"]]
        for row in rows {
            cells.append([
                row.name ?? "<none>", String(row.id.dropFirst(7).prefix(12)),
                row.created.map { String($0.prefix(10)) } ?? "-",
                ByteCount.text(row.size), row.mpi.isEmpty ? "-" : row.mpi.joined(separator: ","),
            ])
        }
        let widths = (0..<5).map { column in cells.map { $0[column].count }.max() ?? 0 }
        return cells.map { line in
            let padded = zip(line, widths).map { $0 + String(repeating: " ", count: max(0, $1 - $0.count)) }
            var text = padded.joined(separator: "   ")
            while text.last == " " { text.removeLast() }
            return text + "\n"
        }.joined()
    }
}

/// JSON as every command prints it: keys sorted, slashes plain.
func json(_ value: some Encodable, pretty: Bool) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting =
        pretty ? [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted] : [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}
