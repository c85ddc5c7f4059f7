import Glibc
import LinuxSystem

/// What `cluster.json` says about a running cluster.
package struct ClusterRecord: Equatable, Sendable {
    package var name: String
    package var scheduler: ClusterScheduler
    /// RFC 3339, UTC.
    package var created: String
    /// The machine it runs on: a home directory may be shared between several.
    package var host: String
    package var image: String
    package var cpusPerNode: Int
    package var memoryPerNodeMiB: Int
    /// The account inside.
    package var user: String
    package var home: String
    package var supervisor: ProcessIdentity
    package var nodes: [Node]
    /// The cluster in whose node it was made; nil on a machine itself.
    package var outer: String?

    package struct Node: Equatable, Sendable {
        package var name: String
        package var address: String
        /// Its init, as the host counts.
        package var process: ProcessIdentity
        package init(name: String, address: String, process: ProcessIdentity) {
            self.name = name
            self.address = address
            self.process = process
        }
    }

    package init(
        name: String, scheduler: ClusterScheduler = .slurm, created: String, host: String, image: String,
        cpusPerNode: Int, memoryPerNodeMiB: Int, user: String, home: String, supervisor: ProcessIdentity, nodes: [Node],
        outer: String? = nil
    ) {
        self.outer = outer
        self.name = name
        self.scheduler = scheduler
        self.created = created
        self.host = host
        self.image = image
        self.cpusPerNode = cpusPerNode
        self.memoryPerNodeMiB = memoryPerNodeMiB
        self.user = user
        self.home = home
        self.supervisor = supervisor
        self.nodes = nodes
    }

    /// The node of that name; the controller has two.
    package func node(named name: String) -> Node? {
        let own = name == ClusterNode.controllerAlias ? ClusterNode(index: 0).name : name
        return nodes.first { $0.name == own }
    }

    package var json: JSONText {
        let fields = JSONText.record([
            "name": .string(name), "scheduler": .string(scheduler.rawValue), "created": .string(created),
            "host": .string(host), "image": .string(image),
            "cpus_per_node": .number(Int64(cpusPerNode)), "memory_per_node_mib": .number(Int64(memoryPerNodeMiB)),
            "user": .string(user), "home": .string(home), "boot_id": .string(supervisor.bootID),
            "pid": .number(Int64(supervisor.pid)), "start_ticks": .number(Int64(supervisor.startTicks)),
            "nodes": .array(
                nodes.map { node in
                    .record([
                        "name": .string(node.name), "address": .string(node.address),
                        "pid": .number(Int64(node.process.pid)),
                        "start_ticks": .number(Int64(node.process.startTicks)),
                    ])
                }),
        ])
        guard let outer, case .object(let members) = fields else { return fields }
        return .object(members + [JSONText.Member(key: "outer", value: .string(outer))])
    }

    /// nil when a field is missing or of another type.
    package init?(json: JSONText) {
        guard let name = json["name"]?.text, let created = json["created"]?.text, let host = json["host"]?.text,
            let image = json["image"]?.text, let cpus = json["cpus_per_node"]?.integer,
            let memory = json["memory_per_node_mib"]?.integer, let user = json["user"]?.text,
            let home = json["home"]?.text, let boot = json["boot_id"]?.text,
            let supervisor = Self.process(json, boot), let list = json["nodes"],
            let scheduler = ClusterScheduler(rawValue: json["scheduler"]?.text ?? "slurm")
        else { return nil }
        var nodes: [Node] = []
        for element in list.elements {
            guard let name = element["name"]?.text, let address = element["address"]?.text,
                let process = Self.process(element, boot)
            else { return nil }
            nodes.append(Node(name: name, address: address, process: process))
        }
        self.init(
            name: name, scheduler: scheduler, created: created, host: host, image: image, cpusPerNode: Int(cpus),
            memoryPerNodeMiB: Int(memory), user: user, home: home, supervisor: supervisor, nodes: nodes,
            outer: json["outer"]?.text)
    }

    /// Where a node says which cluster it belongs to.
    static let surroundingPath = "/run/trireme/cluster"

    /// The cluster in one of whose nodes this process stands; nil for none.
    package static func surrounding() -> String? {
        guard let bytes = try? OwnedDescriptor.open(surroundingPath, O_RDONLY).readAll(limit: 256) else { return nil }
        let name = String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
        return name.isEmpty ? nil : name
    }

    private static func process(_ json: JSONText, _ bootID: String) -> ProcessIdentity? {
        guard let pid = json["pid"]?.integer, let ticks = json["start_ticks"]?.integer, pid > 0, ticks > 0,
            pid <= Int64(Int32.max)
        else { return nil }
        return ProcessIdentity(pid: Int32(pid), startTicks: UInt64(ticks), bootID: bootID)
    }

    package static func timestamp() -> String {
        var now = time(nil)
        var parts = tm()
        gmtime_r(&now, &parts)
        var buffer = [CChar](repeating: 0, count: 32)
        let n = strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        return String(decoding: buffer[..<n].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
