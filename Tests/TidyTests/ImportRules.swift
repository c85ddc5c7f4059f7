/// Which modules each target may import, and in which part of the house it stands
/// (Documentation/Design/architecture.md, whose picture is made from this table).
/// The manifest says what is linked and the sources what is used: both equal this
/// table, so that a new arrow is a decision and not an accident.
enum ImportRules {
    /// A target is in exactly one: what containers need and what jobs need never meet but where a meeting is declared.
    enum Group: CaseIterable { case base, container, meeting, job }

    /// One target: imports go to lower levels only.
    struct Room {
        var group: Group
        var level: Int
        /// Targets of this package and products of others, as `import` spells them.
        var imports: Set<String>
        /// A target on the hot path or with a bounded memory: no Foundation, no concurrency.
        var isSmall = false
    }

    /// Every target may use these.
    static let common: Set<String> = ["Glibc", "Synchronization"]
    /// Part of the toolchain: the table names them where they are used, the manifest links none of them.
    static let foundation: Set<String> = ["Foundation", "FoundationEssentials", "Dispatch", "_Concurrency"]

    static let rooms: [String: Room] = [
        // The kernel, and how a failure is said.
        "CLinux": Room(group: .base, level: 0, imports: [], isSmall: true),
        "CCompression": Room(group: .base, level: 0, imports: []),
        "CYAML": Room(group: .base, level: 0, imports: []),
        "Diagnostics": Room(group: .base, level: 0, imports: []),
        "Quantities": Room(group: .base, level: 0, imports: []),
        "LinuxSystem": Room(group: .base, level: 1, imports: ["CLinux"], isSmall: true),
        "Processes": Room(group: .base, level: 2, imports: ["LinuxSystem", "CLinux"], isSmall: true),
        "SiteConfiguration": Room(group: .base, level: 2, imports: ["LinuxSystem"]),
        "HostCheck": Room(group: .base, level: 3, imports: ["LinuxSystem", "CLinux", "SiteConfiguration"]),

        // What one container needs.
        "OCIModel": Room(group: .container, level: 1, imports: []),
        "LaunchPlan": Room(group: .container, level: 1, imports: [], isSmall: true),
        "RegistryWire": Room(group: .container, level: 2, imports: ["OCIModel"]),
        "ContainerLaunch": Room(
            group: .container, level: 2, imports: ["LaunchPlan", "LinuxSystem", "CLinux"], isSmall: true),
        "ImageFormats": Room(group: .container, level: 2, imports: ["CCompression", "CLinux", "LinuxSystem"]),
        "ImageMount": Room(
            group: .container, level: 3, imports: ["ImageFormats", "LinuxSystem", "CLinux"], isSmall: true),
        "ImageStore": Room(
            group: .container, level: 3,
            imports: [
                "ImageFormats", "OCIModel", "LaunchPlan", "LinuxSystem", "CLinux", "Diagnostics", "Crypto",
                "FoundationEssentials",
            ]),
        "RegistryClient": Room(
            group: .container, level: 4,
            imports: [
                "RegistryWire", "ImageStore", "ImageFormats", "OCIModel", "Processes", "LinuxSystem", "CLinux",
                "Diagnostics",
                "Crypto", "AsyncHTTPClient", "NIOCore", "NIOPosix", "NIOHTTP1", "NIOSSL", "FoundationEssentials",
                "Dispatch",
            ]),
        "ContainerRuntime": Room(
            group: .container, level: 4,
            imports: [
                "ImageStore", "ImageFormats", "OCIModel", "LaunchPlan", "LinuxSystem", "CLinux", "CYAML", "Diagnostics",
                "Quantities", "Processes", "FoundationEssentials",
            ]),
        "trireme": Room(group: .container, level: 7, imports: ["ContainerLaunch"], isSmall: true),
        "trireme-mount": Room(group: .container, level: 7, imports: ["ImageMount"], isSmall: true),

        // What a job needs.
        "JobModel": Room(group: .job, level: 1, imports: [], isSmall: true),
        "ProcessManagement": Room(group: .job, level: 2, imports: [], isSmall: true),
        "JobNetwork": Room(group: .job, level: 2, imports: ["LinuxSystem", "CLinux"], isSmall: true),
        "ResourceManagers": Room(
            group: .job, level: 2, imports: ["JobModel", "Diagnostics", "Quantities"], isSmall: true),
        "Telemetry": Room(group: .job, level: 2, imports: ["JobModel", "LinuxSystem", "FoundationEssentials"]),
        "CoordinationStore": Room(group: .job, level: 1, imports: []),
        "EtcdStore": Room(
            group: .job, level: 2,
            imports: [
                "CoordinationStore", "LinuxSystem", "CLinux", "AsyncHTTPClient", "NIOCore", "NIOHTTP1", "NIOSSL",
                "FoundationEssentials",
            ]),
        "JobWire": Room(
            group: .job, level: 3, imports: ["JobModel", "Processes", "LinuxSystem", "CLinux", "Crypto"], isSmall: true),
        "Orchestrator": Room(group: .job, level: 3, imports: ["JobModel", "Diagnostics"], isSmall: true),
        "VirtualCluster": Room(
            group: .job, level: 3,
            imports: ["JobNetwork", "Processes", "LinuxSystem", "CLinux", "SiteConfiguration", "Diagnostics"],
            isSmall: true),

        // Where a job's node becomes a container, and where the user's words become both.
        "NodeAgent": Room(
            group: .meeting, level: 5,
            imports: [
                "ContainerLaunch", "LaunchPlan", "JobModel", "JobNetwork", "JobWire", "ProcessManagement", "Processes",
                "LinuxSystem", "CLinux",
            ], isSmall: true),
        "Commands": Room(
            group: .meeting, level: 6,
            imports: [
                "ContainerRuntime", "RegistryClient", "ContainerLaunch", "ImageStore", "ImageFormats", "OCIModel",
                "LaunchPlan", "JobModel", "JobNetwork", "ResourceManagers", "Telemetry", "CoordinationStore",
                "EtcdStore", "Orchestrator", "JobWire", "NodeAgent", "VirtualCluster", "HostCheck", "SiteConfiguration",
                "Quantities",
                "Processes",
                "LinuxSystem",
                "CLinux", "Diagnostics", "ArgumentParser", "FoundationEssentials",
            ]),
        "trireme-cli": Room(group: .meeting, level: 7, imports: ["Commands"]),
        "trireme-agent": Room(group: .meeting, level: 7, imports: ["NodeAgent", "CLinux"], isSmall: true),
    ]

    /// Folders of Sources/ that the package's manifest does not know: C programs and the launcher's own library,
    /// built by Scripts/build-launcher and its like.
    static let outsideTheManifest: Set<String> = ["trireme", "EmbeddedLibC", "InflateServer", "PMIxServer"]

    /// The module named by an import line, if it is one.
    static func module(importedBy line: String) -> String? {
        var words = line.split(separator: " ")
        while let first = words.first, first.hasPrefix("@") || first == "package" || first == "public" {
            words.removeFirst()
        }
        guard words.first == "import", words.count >= 2 else { return nil }
        let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "func", "typealias", "let", "var"]
        let name = kinds.contains(words[1]) && words.count > 2 ? words[2] : words[1]
        return String(name.prefix { $0 != "." })
    }

    static func violations(in file: TextFile) -> [String] {
        guard let target = file.target, file.path.hasSuffix(".swift") else { return [] }
        guard let room = rooms[target] else {
            return outsideTheManifest.contains(target) ? [] : ["\(file.path): target '\(target)' is in no room"]
        }
        return file.lines.enumerated().compactMap { number, line in
            guard let module = module(importedBy: line), !common.contains(module), !room.imports.contains(module) else {
                return nil
            }
            return "\(file.path):\(number + 1): \(target) may not import \(module)"
        }
    }

    /// Everything of this package that a target brings along, itself left out.
    static func closure(of target: String, in rooms: [String: Room] = rooms) -> Set<String> {
        var (reached, open): (Set<String>, [String]) = ([], [target])
        while let next = open.popLast() {
            for module in rooms[next]?.imports ?? [] where rooms[module] != nil && reached.insert(module).inserted {
                open.append(module)
            }
        }
        return reached
    }

    /// What is wrong with a table: an arrow that goes up or across, over any number of steps.
    static func faults(in rooms: [String: Room]) -> [String] {
        rooms.flatMap { target, room in
            closure(of: target, in: rooms).compactMap { module in
                guard let other = rooms[module] else { return nil }
                if other.level >= room.level {
                    return "\(target) (L\(room.level)) reaches \(module) (L\(other.level)): imports point down"
                }
                let isAllowed = other.group == .base || other.group == room.group || room.group == .meeting
                return isAllowed ? nil : "\(target) (\(room.group)) reaches \(module) (\(other.group))"
            }
        }.sorted()
    }
}
