import Glibc
import JobModel

/// One line of a job's record. Which of the optional fields an event has is said in
/// Documentation/Reference/job-record.md; a reader passes over events and fields it does not know.
package struct JobEvent: Codable, Equatable, Sendable {
    /// RFC 3339 in UTC, with milliseconds.
    package var time: String
    /// Since the record was begun, on a clock that only goes forward.
    package var seconds: Double
    package var event: Kind
    package var node: String?
    package var rank: Int?
    /// For people: an address, a command, a sentence.
    package var text: String?
    /// Of a diagnostic.
    package var code: String?
    package var exitCode: Int32?
    package var signal: Int32?
    package var count: Int?
    package var usage: ResourceUsage?
    package var job: JobFacts?

    enum CodingKeys: String, CodingKey {
        case time, seconds, event, node, rank, text, code, signal, count, usage, job
        case exitCode = "exit_code"
    }

    package init(_ event: Kind) {
        time = ""
        seconds = 0
        self.event = event
    }

    /// Names of events, `subject.what-happened`; stable.
    package struct Kind: RawRepresentable, Codable, Hashable, Sendable {
        package var rawValue: String
        package init(rawValue: String) { self.rawValue = rawValue }
        init(_ name: StaticString) { rawValue = "\(name)" }

        package static let jobCreated = Kind("job.created")
        package static let allocationRead = Kind("alloc.read")
        package static let imageChecked = Kind("image.checked")
        package static let networkReserved = Kind("network.reserved")
        package static let agentsStarted = Kind("agents.started")
        package static let nodeJoined = Kind("node.joined")
        package static let nodePrepared = Kind("node.prepared")
        package static let containerStarted = Kind("container.started")
        package static let rendezvousComplete = Kind("rendezvous.complete")
        package static let applicationStarted = Kind("app.started")
        package static let rankStarted = Kind("rank.started")
        package static let rankUsage = Kind("rank.usage")
        package static let rankExited = Kind("rank.exited")
        package static let launcherExited = Kind("launcher.exited")
        package static let nodeLost = Kind("node.lost")
        package static let nodeFailed = Kind("node.failed")
        package static let nodeEmpty = Kind("node.empty")
        package static let nodeUsage = Kind("node.usage")
        package static let outputTruncated = Kind("output.truncated")
        package static let message = Kind("job.message")
        package static let diagnostic = Kind("job.diagnostic")
        package static let suspended = Kind("job.suspended")
        package static let resumed = Kind("job.resumed")
        package static let updated = Kind("job.updated")
        package static let interrupted = Kind("job.interrupted")
        package static let terminated = Kind("job.terminated")
        package static let attached = Kind("job.attached")
        package static let stopping = Kind("job.stopping")
        package static let teardownDone = Kind("teardown.done")
        package static let jobEnded = Kind("job.ended")
    }
}

/// What is known of a job before it begins.
package struct JobFacts: Codable, Equatable, Sendable {
    package struct Node: Codable, Equatable, Sendable {
        package var name: String
        package var ranks: Int
        package init(name: String, ranks: Int) {
            self.name = name
            self.ranks = ranks
        }
    }
    package var id: String
    package var image: String
    package var digest: String
    package var command: [String]
    package var model: String
    package var launcher: String
    /// The batch system's name and its own id of the allocation.
    package var system: String
    package var allocation: String
    package var size: Int
    package var nodes: [Node]
    package var directory: String
    package var user: String
    /// What of the host was put into the container, as destinations.
    package var injected: [String]
    package var labelsOutput: Bool
    package var leader: ProcessName

    enum CodingKeys: String, CodingKey {
        case id, image, digest, command, model, launcher, system, allocation, size, nodes, directory, user, injected
        case labelsOutput = "labels_output"
        case leader
    }

    package init(
        id: String, image: String, digest: String, command: [String], model: String, launcher: String,
        system: String, allocation: String, nodes: [Node], directory: String, user: String, injected: [String],
        labelsOutput: Bool, leader: ProcessName
    ) {
        self.id = id
        self.image = image
        self.digest = digest
        self.command = command
        self.model = model
        self.launcher = launcher
        self.system = system
        self.allocation = allocation
        size = nodes.reduce(0) { $0 + $1.ranks }
        self.nodes = nodes
        self.directory = directory
        self.user = user
        self.injected = injected
        self.labelsOutput = labelsOutput
        self.leader = leader
    }

    /// Of rank `rank`, in block order as `TaskMap` places them.
    package func node(of rank: Int) -> String? {
        var first = 0
        for node in nodes {
            if rank < first + node.ranks { return rank >= first ? node.name : nil }
            first += node.ranks
        }
        return nil
    }
}

/// A process, found again only from where its number means something.
package struct ProcessName: Codable, Equatable, Sendable {
    package var host: String
    package var pid: Int32
    /// proc(5), `/proc/PID/stat` field 22: tells it from a later one with its number.
    package var startTicks: UInt64
    /// Identity of kernel and pid namespace.
    package var space: String

    enum CodingKeys: String, CodingKey {
        case host, pid, space
        case startTicks = "start_ticks"
    }

    package static func own(host: String) -> ProcessName {
        ProcessName(host: host, pid: getpid(), startTicks: startTicks(of: getpid()) ?? 0, space: ownSpace())
    }

    /// Whether it lives; nil when that cannot be seen from here.
    package var isAlive: Bool? {
        guard space == Self.ownSpace() else { return nil }
        return Self.startTicks(of: pid) == startTicks
    }

    private static func ownSpace() -> String {
        var name = [CChar](repeating: 0, count: 128)
        let n = readlink("/proc/self/ns/pid", &name, name.count)
        let space = String(decoding: name[..<max(0, n)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let boot = RecordFile.bytes("/proc/sys/kernel/random/boot_id").map { String(decoding: $0, as: UTF8.self) }
        return (boot ?? "").filter { $0 != "\n" } + "/" + space
    }

    private static func startTicks(of pid: Int32) -> UInt64? {
        guard let stat = RecordFile.bytes("/proc/\(pid)/stat"), let close = stat.lastIndex(of: UInt8(ascii: ")")) else {
            return nil
        }
        let fields = stat[(close + 1)...].split(separator: UInt8(ascii: " "))
        guard fields.count > 19, fields[0].first != UInt8(ascii: "Z") else { return nil }
        return UInt64(String(decoding: fields[19], as: UTF8.self))
    }
}
