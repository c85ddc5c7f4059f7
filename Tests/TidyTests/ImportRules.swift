/// Which modules each target may import: the architecture's picture as a table
/// (Documentation/Design/architecture.md). The manifest says what is linked; this
/// says what is allowed, so that a new arrow is a decision and not an accident.
enum ImportRules {
    /// Every target may use these.
    static let common: Set<String> = ["Glibc"]

    /// Targets on the hot path or with a bounded memory: no Foundation, no concurrency.
    static let withoutFoundation: Set<String> = [
        "CLinux", "LinuxSystem", "LaunchPlan", "ContainerLaunch", "NodeAgent", "VirtualCluster", "JobModel",
        "JobNetwork",
        "ResourceManagers", "ProcessManagement", "Orchestrator", "trireme", "trireme-agent", "ImageMount",
        "trireme-mount",
    ]
    static let foundation: Set<String> = ["Foundation", "FoundationEssentials", "Dispatch", "_Concurrency"]

    /// The container half knows no jobs; the job half knows no images.
    static let containerHalf: Set<String> = [
        "ContainerRuntime", "RegistryClient", "ImageStore", "ImageFormats", "ImageMount", "ContainerLaunch", "OCIModel",
        "RegistryWire", "LaunchPlan",
    ]
    static let jobHalf: Set<String> = ["Orchestrator", "ResourceManagers", "JobModel"]

    static let allowed: [String: Set<String>] = [
        "Diagnostics": [],
        "LinuxSystem": ["CLinux", "Diagnostics"],
        "HostCheck": ["LinuxSystem", "CLinux", "SiteConfiguration"],
        "OCIModel": [],
        "RegistryWire": ["OCIModel"],
        "LaunchPlan": [],
        "JobModel": ["Diagnostics"],
        "JobNetwork": ["LinuxSystem", "CLinux"],
        "SiteConfiguration": ["LinuxSystem", "Diagnostics"],
        "ContainerLaunch": ["LaunchPlan", "LinuxSystem", "CLinux"],
        "ImageFormats": ["CCompression", "CLinux", "LinuxSystem", "OCIModel", "Diagnostics", "Synchronization"],
        "ImageMount": ["ImageFormats", "LinuxSystem", "CLinux"],
        "ResourceManagers": ["JobModel", "Diagnostics", "LinuxSystem"],
        "ImageStore": [
            "ImageFormats", "OCIModel", "LaunchPlan", "LinuxSystem", "CLinux", "Diagnostics", "Crypto",
            "FoundationEssentials", "Synchronization",
        ],
        "Orchestrator": ["JobModel", "Diagnostics"],
        "CoordinationStore": [
            "LinuxSystem", "CLinux", "AsyncHTTPClient", "NIOCore", "NIOHTTP1", "NIOSSL", "FoundationEssentials",
            "Synchronization",
        ],
        "Telemetry": ["JobModel", "LinuxSystem", "FoundationEssentials"],
        "RegistryClient": [
            "RegistryWire", "Crypto", "ImageStore", "ImageFormats", "OCIModel", "LinuxSystem", "CLinux", "Diagnostics",
            "AsyncHTTPClient",
            "NIOCore", "NIOPosix", "NIOHTTP1", "NIOSSL", "FoundationEssentials", "Synchronization", "Dispatch",
        ],
        "ContainerRuntime": [
            "ImageStore", "ImageFormats", "OCIModel", "LaunchPlan", "LinuxSystem", "CLinux", "CYAML", "Diagnostics",
            "FoundationEssentials",
        ],
        "ProcessManagement": [],
        "NodeAgent": [
            "ContainerLaunch", "LaunchPlan", "JobModel", "JobNetwork", "ProcessManagement", "LinuxSystem", "CLinux",
            "Diagnostics", "Crypto",
        ],
        "VirtualCluster": [
            "ImageStore", "JobNetwork", "LaunchPlan", "LinuxSystem", "CLinux", "SiteConfiguration", "Diagnostics",
        ],
        "Commands": [
            "ContainerRuntime", "RegistryClient", "ContainerLaunch", "ImageStore", "ImageFormats", "OCIModel",
            "LaunchPlan", "JobModel", "JobNetwork",
            "ResourceManagers", "Telemetry", "CoordinationStore", "Orchestrator", "NodeAgent", "VirtualCluster",
            "HostCheck",
            "SiteConfiguration",
            "LinuxSystem", "CLinux",
            "Diagnostics",
            "ArgumentParser", "FoundationEssentials", "Synchronization",
        ],
        "EmbeddedLibC": ["CLibC"],
        "trireme": ["ContainerLaunch", "LaunchPlan", "LinuxSystem", "CLinux"],
        "trireme-cli": ["Commands"],
        "trireme-agent": ["NodeAgent", "CLinux"],
        "trireme-mount": ["ImageMount"],
    ]

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
        guard let allowed = allowed[target] else {
            return ["\(file.path): target '\(target)' is not in ImportRules.allowed"]
        }
        return file.lines.enumerated().compactMap { number, line in
            guard let module = module(importedBy: line) else { return nil }
            return common.contains(module) || allowed.contains(module)
                ? nil : "\(file.path):\(number + 1): \(target) may not import \(module)"
        }
    }
}
