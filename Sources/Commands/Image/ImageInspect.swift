import ArgumentParser
import ContainerRuntime
import Diagnostics
import ImageFormats
import ImageStore
import LaunchPlan
import OCIModel
import SiteConfiguration

/// `trireme image inspect`
package struct ImageInspect: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Print everything known of an image.",
        discussion: """
            A single-file image (.sif, .sqfs) and a root file system in a directory are read where they lie; an \
            archive or an OCI layout is loaded into the store, as 'trireme run' does with it.
            """)

    @Option(
        name: .shortAndLong,
        help: "json, jsonl or a template such as '{{.Config.Env}}' or '{{json .Config}}', as docker's.")
    var format = InspectFormat.json
    @Argument(help: "Names of images; files and directories that are images.") var names: [String]

    package init() {}

    struct Facts: Encodable {
        var name: String?
        /// Of an image outside the store.
        var path: String?
        /// An image in a file or a directory has neither, unless it carries a configuration.
        var id: String?
        var digest: String?
        var created: String?
        var loaded: String?
        var architecture: String
        var os: String
        /// Bytes: unpacked, or of the file; a directory is not measured.
        var size: Int64?
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
        let locations = Locations.current()
        let store = ImageStore(locations)
        let resolver = ImageResolver(store: store, account: { [home = locations.home] in .current(home: home) }) {
            Output.standard.line("trireme: " + $0, to: .progress)
        }
        let facts = try names.map { name in
            let image = try resolver.resolve(name)
            if !image.isStored { return try ImageInspect.facts(ofPath: image) }
            return try ImageInspect.facts(image, try store.configuration(of: image))
        }
        switch format {
        case .json: Output.standard.line(try json(facts, pretty: true))
        case .jsonl: for fact in facts { Output.standard.line(try json(fact, pretty: false)) }
        case .template(let template): for fact in facts { Output.standard.line(try template.line(InspectTree(fact))) }
        }
    }

    /// Of a single file or a directory: how it is run is what its configuration or its apptainer layout says.
    private static func facts(ofPath image: StoredImage) throws -> Facts {
        var facts = try facts(image, RootSource.configuration(image))
        facts.name = nil
        facts.path = image.plan.imageFile.isEmpty ? image.name : image.plan.imageFile
        facts.loaded = nil
        facts.digest = nil
        let tree = image.file == nil ? nil : try image.tree()
        if tree?.find(SingleFileImage.configurationPath) == nil { facts.id = nil }
        facts.size = image.file.map(\.bytesUsed)
        return facts
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
