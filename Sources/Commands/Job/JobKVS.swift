import ArgumentParser
import CoordinationStore
import Diagnostics
import EtcdStore
import FoundationEssentials
import Glibc
import JobWire
import LinuxSystem
import Telemetry

/// `trireme job kvs …`: the keys a job's nodes meet at.
struct JobKVS: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kvs", abstract: "The keys a job's nodes meet at, while it runs.",
        subcommands: [JobKVSList.self, JobKVSGet.self, JobKVSWatch.self])

    /// A key below the job's own when it does not begin with `/`.
    static func whole(_ key: String, _ id: String) -> String {
        key.hasPrefix("/") ? key : JobKeys(job: id).prefix + key
    }

    static func entries(_ reader: JobRecordReader, _ prefix: String) throws -> [StoreEntry] {
        if let settings = ControlAddress(reading: reader.directory)?.etcd { return try etcd(settings, prefix) }
        let text = try ControlClient(reader).ask(["kvs-list", prefix])
        return try JSONDecoder().decode([StoreEntry].self, from: Data(text))
    }

    private static func etcd(_ settings: EtcdSettings, _ prefix: String) throws(Diagnostic) -> [StoreEntry] {
        do throws(StoreFault) { return try EtcdReader.list(settings, prefix) } catch {
            throw Diagnostic(
                DiagnosticCode("store-unreachable"), settings.endpoints.joined(separator: ","), reasons: [error.reason])
        }
    }
}

/// `trireme job kvs ls`
struct JobKVSList: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List a job's keys.")
    @Option(help: "table, json, jsonl or a template such as '{{.Key}}={{.Value}}'.") var format = RowFormat.table(nil)
    @Flag(name: .shortAndLong, help: "For etcdctl's users; the whole tree is shown anyway.") var recursive = false
    @Argument(help: "The job.") var id: String
    @Argument(help: "Only keys that begin so.") var prefix: String?

    struct Row: FormattedRow {
        var key: String
        var value: String
        var revision: Int64
        static let columns = [("Key", "KEY"), ("Value", "VALUE")].map { (field: $0.0, heading: $0.1) }
        static let furtherFields = ["Revision"]
        func text(_ field: String) -> String? {
            switch field {
            case "Key": key
            case "Value": value
            case "Revision": "\(revision)"
            default: nil
            }
        }
    }

    func run() throws {
        let reader = try JobFinder.reader(id)
        let entries = try JobKVS.entries(reader, JobKVS.whole(prefix ?? "", reader.id))
        try Output.standard.rows(
            entries.map { Row(key: $0.key, value: $0.value, revision: $0.revision) }, as: format)
    }
}

/// `trireme job kvs get`
struct JobKVSGet: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get", abstract: "Print one key's value.", discussion: "Exits with 1 when there is no such key.")
    @Argument(help: "The job.") var id: String
    @Argument(help: "The key: NODE/READY, FINISH, or whole.") var key: String

    func run() throws {
        let reader = try JobFinder.reader(id)
        let whole = JobKVS.whole(key, reader.id)
        guard let entry = try JobKVS.entries(reader, whole).first(where: { $0.key == whole }) else {
            throw ArgumentParser.ExitCode(1)
        }
        Output.standard.line(entry.value)
    }
}

/// `trireme job kvs watch`
struct JobKVSWatch: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "watch", abstract: "Print a job's keys as they change, until it ends.",
        discussion: "One JSON object a line: key, value (none when the key went) and revision.")
    @Argument(help: "The job.") var id: String
    @Argument(help: "Only keys that begin so.") var prefix: String?

    /// etcd is asked again that often.
    private static let pauseMicroseconds: UInt32 = 50_000

    func run() throws {
        let reader = try JobFinder.reader(id)
        let prefix = JobKVS.whole(prefix ?? "", reader.id)
        if ControlAddress(reading: reader.directory)?.etcd != nil { return try watchEtcd(reader, prefix) }
        let client = try ControlClient(reader)
        try client.ask(["kvs-watch", prefix, "0"])
        while !client.connection.isClosed {
            for message in try client.receive(milliseconds: 1000) {
                guard case .output(_, _, let bytes) = message else { continue }
                Output.standard.write(bytes: bytes)
            }
        }
    }

    private func watchEtcd(_ reader: JobRecordReader, _ prefix: String) throws {
        var known: [String: StoreEntry] = [:]
        while true {
            let job = try JobFinder.summary(reader)
            let hasEnded = job.state == .ended
            // The last change may have come and gone between two looks.
            let finish = JobKeys(job: reader.id).finish
            if hasEnded, finish.hasPrefix(prefix), let seen = known[finish], seen.value == "FALSE" {
                let change = StoreChange(key: finish, value: "\(job.exitCode ?? 0)", revision: seen.revision + 1)
                Output.standard.line(try json(change, pretty: false))
            }
            guard let entries = try? JobKVS.entries(reader, prefix), !hasEnded else { return }
            let fresh = Dictionary(uniqueKeysWithValues: entries.map { ($0.key, $0) })
            for entry in entries where known[entry.key]?.revision != entry.revision {
                let change = StoreChange(key: entry.key, value: entry.value, revision: entry.revision)
                Output.standard.line(try json(change, pretty: false))
            }
            for (key, entry) in known where fresh[key] == nil {
                Output.standard.line(
                    try json(StoreChange(key: key, value: nil, revision: entry.revision), pretty: false))
            }
            known = fresh
            usleep(Self.pauseMicroseconds)
        }
    }
}
