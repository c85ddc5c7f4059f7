import CYAML

/// A YAML document without tags, as JSON could say it; JSON itself is read by the same parser.
package indirect enum YAMLValue: Equatable, Sendable {
    /// Any scalar, as written: what a number or a truth value is, its reader decides.
    case text(String)
    case list([YAMLValue])
    case map([String: YAMLValue])

    package struct Failure: Error, Equatable, Sendable {
        package var reason: String
    }

    private enum Limit {
        static let bytes = 16 << 20
        static let depth = 64
    }

    /// Reads one document.
    package init(_ bytes: [UInt8]) throws(Failure) {
        guard bytes.count <= Limit.bytes else { throw Failure(reason: "larger than \(Limit.bytes >> 20) MiB") }
        var parser = yaml_parser_t()
        guard yaml_parser_initialize(&parser) == 1 else { throw Failure(reason: "out of memory") }
        defer { yaml_parser_delete(&parser) }
        var result: Result<YAMLValue, Failure> = .failure(Failure(reason: "empty"))
        bytes.withUnsafeBufferPointer { buffer in
            yaml_parser_set_input_string(&parser, buffer.baseAddress, buffer.count)
            result = Result { () throws(Failure) in try Self.document(&parser) }
        }
        self = try result.get()
    }

    private static func document(_ parser: inout yaml_parser_t) throws(Failure) -> YAMLValue {
        while true {
            let event = try next(&parser)
            switch event.kind {
            case YAML_STREAM_START_EVENT, YAML_DOCUMENT_START_EVENT: continue
            case YAML_STREAM_END_EVENT: throw Failure(reason: "empty")
            default: return try value(event, &parser, depth: 0)
            }
        }
    }

    private static func value(
        _ event: Event, _ parser: inout yaml_parser_t, depth: Int
    ) throws(Failure) -> YAMLValue {
        guard depth < Limit.depth else { throw Failure(reason: "nested too deep") }
        switch event.kind {
        case YAML_SCALAR_EVENT: return .text(event.text)
        case YAML_SEQUENCE_START_EVENT:
            var items: [YAMLValue] = []
            while true {
                let item = try next(&parser)
                if item.kind == YAML_SEQUENCE_END_EVENT { return .list(items) }
                items.append(try value(item, &parser, depth: depth + 1))
            }
        case YAML_MAPPING_START_EVENT:
            var entries: [String: YAMLValue] = [:]
            while true {
                let key = try next(&parser)
                if key.kind == YAML_MAPPING_END_EVENT { return .map(entries) }
                guard key.kind == YAML_SCALAR_EVENT else { throw Failure(reason: "line \(key.line): a key is no text") }
                let item = try next(&parser)
                guard entries.updateValue(try value(item, &parser, depth: depth + 1), forKey: key.text) == nil else {
                    throw Failure(reason: "line \(key.line): '\(key.text)' twice")
                }
            }
        // An alias could make a small file endless; vendors' tools write none.
        case YAML_ALIAS_EVENT: throw Failure(reason: "line \(event.line): aliases are not read")
        default: throw Failure(reason: "line \(event.line): unexpected end")
        }
    }

    private struct Event {
        var kind: yaml_event_type_t
        var text: String
        var line: Int
    }

    private static func next(_ parser: inout yaml_parser_t) throws(Failure) -> Event {
        var event = yaml_event_t()
        guard yaml_parser_parse(&parser, &event) == 1 else {
            let words = parser.problem.map { String(cString: $0) } ?? "not YAML"
            throw Failure(reason: "line \(parser.problem_mark.line + 1): \(words)")
        }
        defer { yaml_event_delete(&event) }
        var text = ""
        if event.type == YAML_SCALAR_EVENT, let start = event.data.scalar.value {
            text = String(decoding: UnsafeBufferPointer(start: start, count: event.data.scalar.length), as: UTF8.self)
        }
        return Event(kind: event.type, text: text, line: Int(event.start_mark.line) + 1)
    }
}

extension YAMLValue {
    package subscript(_ key: String) -> YAMLValue? { if case .map(let entries) = self { entries[key] } else { nil } }
    package var text: String? { if case .text(let text) = self { text } else { nil } }
    /// The items of a list; empty for anything else, as for a key left out.
    package var items: [YAMLValue] { if case .list(let items) = self { items } else { [] } }
    package var texts: [String] { items.compactMap(\.text) }
}
