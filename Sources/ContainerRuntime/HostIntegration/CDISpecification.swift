/// One specification of the Container Device Interface (cncf-tags/container-device-interface, SPEC.md).
package struct CDISpecification: Equatable, Sendable {
    package struct Node: Equatable, Sendable {
        package var path: String
        package var hostPath: String
        package var permissions: String
    }
    package struct Mount: Equatable, Sendable {
        package var hostPath: String
        package var containerPath: String
        package var options: [String]
        package var isTemporary: Bool
    }
    package struct Hook: Equatable, Sendable {
        package var name: String
        package var path: String
        package var arguments: [String]
    }
    package struct Edits: Equatable, Sendable {
        package var environment: [String] = []
        package var nodes: [Node] = []
        package var mounts: [Mount] = []
        package var hooks: [Hook] = []
        /// Keys that ask for something else (`intelRdt`, `additionalGids`, `netDevices`).
        package var others: [String] = []
    }

    package var version: String
    /// `nvidia.com/gpu`
    package var kind: String
    package var devices: [String: Edits]
    /// For every device of the specification.
    package var edits: Edits

    package struct Failure: Error, Equatable, Sendable {
        package var reason: String
    }

    /// The latest version whose meaning is known here.
    private static let latest = [1, 1]

    package init(_ value: YAMLValue) throws(Failure) {
        guard let version = value["cdiVersion"]?.text, let kind = value["kind"]?.text else {
            throw Failure(reason: "no CDI specification: cdiVersion or kind is missing")
        }
        let numbers = version.split(separator: ".").compactMap { Int($0) }
        guard numbers.count >= 2 else { throw Failure(reason: "cdiVersion \(version) is no version") }
        guard (numbers[0], numbers[1]) <= (Self.latest[0], Self.latest[1]) else {
            throw Failure(reason: "cdiVersion \(version) is newer than \(Self.latest[0]).\(Self.latest[1])")
        }
        guard kind.split(separator: "/", omittingEmptySubsequences: false).count == 2, !kind.hasPrefix("/"),
            !kind.hasSuffix("/")
        else { throw Failure(reason: "kind '\(kind)' is not VENDOR/CLASS") }
        self.version = version
        self.kind = kind
        edits = try Self.edits(value["containerEdits"])
        devices = [:]
        for device in value["devices"]?.items ?? [] {
            guard let name = device["name"]?.text, !name.isEmpty else { throw Failure(reason: "a device has no name") }
            guard devices.updateValue(try Self.edits(device["containerEdits"]), forKey: name) == nil else {
                throw Failure(reason: "device '\(name)' twice")
            }
        }
    }

    private static func edits(_ value: YAMLValue?) throws(Failure) -> Edits {
        var edits = Edits()
        guard case .map(let entries) = value else { return edits }
        for (key, value) in entries.sorted(by: { $0.key < $1.key }) {
            switch key {
            case "env":
                edits.environment = value.texts
                if let wrong = edits.environment.first(where: { !$0.contains("=") || $0.hasPrefix("=") }) {
                    throw Failure(reason: "env '\(wrong)' is not NAME=VALUE")
                }
            case "deviceNodes": for item in value.items { edits.nodes.append(try node(item)) }
            case "mounts": for item in value.items { edits.mounts.append(try mount(item)) }
            case "hooks":
                for item in value.items {
                    guard let name = item["hookName"]?.text, let path = item["path"]?.text else {
                        throw Failure(reason: "a hook has no hookName or path")
                    }
                    edits.hooks.append(Hook(name: name, path: path, arguments: item["args"]?.texts ?? []))
                }
            default: if !value.items.isEmpty || value["closID"] != nil { edits.others.append(key) }
            }
        }
        return edits
    }

    private static func node(_ value: YAMLValue) throws(Failure) -> Node {
        guard let path = value["path"]?.text, path.hasPrefix("/") else {
            throw Failure(reason: "a device node has no absolute path")
        }
        let hostPath = value["hostPath"]?.text ?? path
        guard hostPath.hasPrefix("/") else { throw Failure(reason: "hostPath '\(hostPath)' is not absolute") }
        return Node(path: path, hostPath: hostPath, permissions: value["permissions"]?.text ?? "rwm")
    }

    private static func mount(_ value: YAMLValue) throws(Failure) -> Mount {
        guard let path = value["containerPath"]?.text, path.hasPrefix("/"), let hostPath = value["hostPath"]?.text
        else {
            throw Failure(reason: "a mount has no hostPath or no absolute containerPath")
        }
        let type = value["type"]?.text ?? "bind"
        guard ["bind", "tmpfs", "none", ""].contains(type) else {
            throw Failure(reason: "mount of type '\(type)' at \(path): only bind and tmpfs are made")
        }
        guard type == "tmpfs" || hostPath.hasPrefix("/") else {
            throw Failure(reason: "hostPath '\(hostPath)' is not absolute")
        }
        return Mount(
            hostPath: hostPath, containerPath: path, options: value["options"]?.texts ?? [],
            isTemporary: type == "tmpfs")
    }
}
