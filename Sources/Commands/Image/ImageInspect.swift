import ArgumentParser
import ContainerRuntime
import Diagnostics
import ImageStore
import LaunchPlan
import OCIModel

/// `trireme image inspect`
package struct ImageInspect: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Print everything known of an image.")

    @Option(
        name: .shortAndLong,
        help: "json, jsonl or a template such as '{{.Config.Env}}' or '{{json .Config}}', as docker's.")
    var format = InspectFormat.json
    @Argument(help: "Names of images.") var names: [String]

    package init() {}

    struct Facts: Encodable {
        var name: String?
        var id: String
        var digest: String
        var created: String?
        var loaded: String
        var architecture: String
        var os: String
        var size: Int64
        var config: ImageConfiguration.Execution
        var userID: UInt32?
        var groupID: UInt32?
        var layers: [Layer]
        var directories: [String]
        var mountPoints: [String]
        var mpi: [MPIInstallation]
        var skippedDevices: Int
        var droppedAttributes: Int
    }
    struct Layer: Encodable {
        var diffID: String
        var digest: String
        var mediaType: String?
        var size: Int64
        var unpackedSize: Int64
    }

    package func run() throws {
        let store = ImageStore.current()
        let resolver = ImageResolver(store: store)
        var facts: [Facts] = []
        for name in names {
            let image = try resolver.resolve(name)
            facts.append(try ImageInspect.facts(image, try store.configuration(of: image)))
        }
        switch format {
        case .json: Output.standard.line(try json(facts, pretty: true))
        case .jsonl: for fact in facts { Output.standard.line(try json(fact, pretty: false)) }
        case .template(let template): for fact in facts { Output.standard.line(try template.line(InspectTree(fact))) }
        }
    }

    static func facts(_ image: StoredImage, _ configuration: ImageConfiguration) throws -> Facts {
        let record = image.record
        return Facts(
            name: image.hasName ? image.name : nil, id: record.configuration.description,
            digest: record.manifest.digest.description, created: record.created, loaded: record.loaded,
            architecture: record.platform.architecture, os: record.platform.operatingSystem, size: record.unpackedBytes,
            config: configuration.config ?? ImageConfiguration.Execution(), userID: image.plan.userID,
            groupID: image.plan.groupID,
            layers: record.layers.map {
                Layer(
                    diffID: $0.diffID.description, digest: $0.blob.digest.description, mediaType: $0.blob.mediaType,
                    size: $0.blob.size, unpackedSize: $0.unpackedBytes)
            },
            directories: image.lowerDirectories, mountPoints: image.plan.mountPoints, mpi: record.mpi,
            skippedDevices: record.skippedDevices, droppedAttributes: record.droppedAttributes)
    }
}
