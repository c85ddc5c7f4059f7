import ArgumentParser
import Diagnostics
import FoundationEssentials

/// `image inspect --format`, in docker's words.
enum InspectFormat: ExpressibleByArgument {
    case json, jsonl
    case template(RowTemplate)

    init?(argument: String) {
        switch argument {
        case "json": self = .json
        case "jsonl": self = .jsonl
        default:
            guard let template = RowTemplate(argument) else { return nil }
            self = .template(template)
        }
    }
}

/// What is known of an image as a tree that a template's path leads into: `.Config.Env`, in any case of letters.
struct InspectTree: FormattedRow {
    static let columns: [(field: String, heading: String)] = []
    static let furtherFields = [
        "Name", "Path", "ID", "Digest", "Created", "Loaded", "Architecture", "Os", "Size", "Config", "Layers",
    ]
    private let root: Value

    init(_ facts: ImageInspect.Facts) throws {
        root = try JSONDecoder().decode(Value.self, from: JSONEncoder().encode(facts))
    }

    func encode(to encoder: any Encoder) throws { try root.encode(to: encoder) }

    func text(_ field: String) -> String? {
        var value = root
        for part in field.split(separator: ".") {
            guard case .object(let members) = value else { return nil }
            let name = part.lowercased()
            guard let member = members.first(where: { $0.key.lowercased() == name }) else {
                // Left out when empty, as an image's labels are.
                return field.contains(".") || Self.furtherFields.contains { $0.lowercased() == name } ? "" : nil
            }
            value = member.value
        }
        return value.text
    }

    func json(_ field: String) throws -> String? {
        var value = root
        for part in field.split(separator: ".") {
            guard case .object(let members) = value,
                let member = members.first(where: { $0.key.lowercased() == part.lowercased() })
            else { return text(field).map { _ in "null" } }
            value = member.value
        }
        return try Commands.json(value, pretty: false)
    }

    indirect enum Value: Codable {
        case null
        case flag(Bool)
        case number(Int64)
        case string(String)
        case list([Value])
        case object([String: Value])

        init(from decoder: any Decoder) throws {
            let box = try decoder.singleValueContainer()
            if box.decodeNil() {
                self = .null
            } else if let flag = try? box.decode(Bool.self) {
                self = .flag(flag)
            } else if let number = try? box.decode(Int64.self) {
                self = .number(number)
            } else if let text = try? box.decode(String.self) {
                self = .string(text)
            } else if let list = try? box.decode([Value].self) {
                self = .list(list)
            } else {
                self = .object(try box.decode([String: Value].self))
            }
        }

        func encode(to encoder: any Encoder) throws {
            var box = encoder.singleValueContainer()
            switch self {
            case .null: try box.encodeNil()
            case .flag(let flag): try box.encode(flag)
            case .number(let number): try box.encode(number)
            case .string(let text): try box.encode(text)
            case .list(let list): try box.encode(list)
            case .object(let members): try box.encode(members)
            }
        }

        /// As Go prints it: `[a b]`, `map[k:v]`.
        var text: String {
            switch self {
            case .null: "<nil>"
            case .flag(let flag): "\(flag)"
            case .number(let number): "\(number)"
            case .string(let text): text
            case .list(let list): "[" + list.map(\.text).joined(separator: " ") + "]"
            case .object(let members):
                "map["
                    + members.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value.text)" }.joined(separator: " ")
                    + "]"
            }
        }
    }
}
