import ArgumentParser
import ContainerLaunch
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import OCIModel
import RegistryClient
import SiteConfiguration

/// `trireme image pull`, `trireme pull`
package struct ImagePullCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "pull", abstract: "Pull an image from a registry.",
        discussion: """
            NAME is what docker takes: 'debian', 'user/app:1.2', 'ghcr.io/org/app@sha256:…'; a name without a host \
            is Docker Hub's. Logins are docker's own ('trireme login'). 'oras://HOST/NAME:TAG' and \
            'https://HOST/FILE#sha256=DIGEST' bring a file: a single-file image is written to the current \
            directory, an archive goes into the store.
            """)

    @Argument(help: "[HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]") var name: String
    @Option(
        help:
            "The platform to take where several are offered, as linux/amd64; default: DOCKER_DEFAULT_PLATFORM, else this one."
    ) var platform: String?
    @Option(name: .shortAndLong, help: "Of oras:// and https://: write the file here.") var output: String?
    @Option(help: "Of https://: the file must be signed with this public key (PEM).") var key: String?
    @Option(help: "Of https://: where the signature is; the address with .sig behind it when left out.")
    var signature: String?
    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var progress: ProgressOptions
    @Flag(help: .hidden) var onlyName = false

    package init() {}

    package func run() throws {
        if !progress.quiet { DeviceOptions.tell(ForeignVariables.notices(for: .transfer)) }
        if let source = FileSource(name) {
            return try FilePullCommand(
                typed: name, source: source, output: output, key: key, signature: signature,
                settings: connection.settings, isQuiet: progress.quiet
            ).run()
        }
        for (option, value) in [("--output", output), ("--key", key), ("--signature", signature)] where value != nil {
            throw Diagnostic(
                DiagnosticCode("usage"), option, reasons: ["it goes with oras:// and https:// alone"],
                remedies: ["trireme image save -o FILE NAME", "trireme image verify --key KEY NAME"])
        }
        // docker's own default, for its own verb (docker(1)).
        let byDefault = getenv("DOCKER_DEFAULT_PLATFORM").map { String(cString: $0) }
        let wanted = try ImageLoad.platform(platform ?? byDefault.flatMap { $0.isEmpty ? nil : $0 })
        let pulled = try RegistryCommands.pull(name, wanted, connection, progress.report)
        if onlyName { return Output.standard.line(pulled.image.name) }
        if !progress.quiet { ImageLoad.noteForeign([pulled.image]) }
        if pulled.wasPresent, !progress.quiet {
            if TransferProgress.isWanted {
                Output.standard.line("\(pulled.image.name): already present", to: .progress)
            }
        }
        Output.standard.line(progress.quiet ? pulled.image.name : "Pulled image: \(pulled.image.name)")
    }
}

/// How a registry is spoken to, where the environment does not say.
package struct ConnectionOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Trust the authorities in FILE, too (PEM).", valueName: "file")) var cacert: String?
    @Flag(name: [.long, .customLong("tls-verify-off")], help: "Take any certificate, and plain HTTP.")
    var insecure = false

    package init() {}

    var settings: RegistrySettings {
        let environment = { (name: String) in getenv(name).map { String(cString: $0) } }
        var settings = RegistrySettings(environment: environment, home: Locations.current().home)
        settings.authority = cacert
        settings.isInsecure = insecure
        return settings
    }
}

/// Steps that `pull` and `run docker://…` share.
enum RegistryCommands {
    /// What the environment says.
    static func settings() -> RegistrySettings {
        RegistrySettings(
            environment: { name in getenv(name).map { String(cString: $0) } }, home: Locations.current().home)
    }

    static func reference(_ name: String) throws(Diagnostic) -> RemoteReference {
        if let reference = RemoteReference(name) { return reference }
        var remedies = ["[HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]"]
        if let lower = RemoteReference(name.lowercased()) { remedies.insert("did you mean '\(lower)'?", at: 0) }
        throw Diagnostic(
            DiagnosticCode("reference-invalid"), name, reasons: ["not a name a registry can have"], remedies: remedies)
    }

    static func pull(
        _ name: String, _ platform: Platform, _ connection: ConnectionOptions, _ report: TransferReport
    ) throws(Diagnostic) -> PulledImage {
        let locations = Locations.current()
        let pull = ImagePull(
            try reference(name), into: ImageStore(locations), platform: platform,
            settings: connection.settings, report: report.note)
        defer { report.end() }
        return try pull.run(preparer: PlanCompiler(account: .current(home: locations.home)))
    }
}
