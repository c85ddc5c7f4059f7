/// What an image's author recorded: how to run it, and which layers make its root (image-spec config.md).
package struct ImageConfiguration: Codable, Sendable {
    package var created: String?
    package var author: String?
    package var architecture: String?
    package var operatingSystem: String?
    package var variant: String?
    package var config: Execution?
    package var rootFileSystem: RootFileSystem?
    package var history: [Step]?

    package init() {}

    enum CodingKeys: String, CodingKey {
        case created, author, architecture, variant, config, history
        case operatingSystem = "os"
        case rootFileSystem = "rootfs"
    }

    package var platform: Platform? {
        architecture.map { Platform(operatingSystem: operatingSystem ?? "linux", architecture: $0, variant: variant) }
    }

    /// The layers' uncompressed digests, lowest first.
    package struct RootFileSystem: Codable, Sendable {
        package var type: String?
        package var diffIDs: [Digest]?
        package init(diffIDs: [Digest]) {
            type = "layers"
            self.diffIDs = diffIDs
        }
        enum CodingKeys: String, CodingKey {
            case type
            case diffIDs = "diff_ids"
        }
    }

    /// How one layer came about.
    package struct Step: Codable, Sendable {
        package var created: String?
        package var createdBy: String?
        package var author: String?
        package var comment: String?
        /// The step changed the configuration only and has no layer.
        package var isEmptyLayer: Bool?
        enum CodingKeys: String, CodingKey {
            case created, author, comment
            case createdBy = "created_by"
            case isEmptyLayer = "empty_layer"
        }
        package init(created: String?, createdBy: String? = nil, comment: String? = nil) {
            self.created = created
            self.createdBy = createdBy
            self.comment = comment
        }
    }

    /// How to run it.
    package struct Execution: Codable, Sendable {
        package var user: String?
        package var environment: [String]?
        package var entrypoint: [String]?
        package var command: [String]?
        package var workingDirectory: String?
        package var stopSignal: String?
        package var labels: [String: String]?
        package var exposedPorts: [String: Empty]?
        package var volumes: [String: Empty]?

        enum CodingKeys: String, CodingKey {
            case user = "User"
            case environment = "Env"
            case entrypoint = "Entrypoint"
            case command = "Cmd"
            case workingDirectory = "WorkingDir"
            case stopSignal = "StopSignal"
            case labels = "Labels"
            case exposedPorts = "ExposedPorts"
            case volumes = "Volumes"
        }
        package struct Empty: Codable, Sendable { package init() {} }
        package init() {}
    }
}
