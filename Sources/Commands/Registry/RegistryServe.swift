import ArgumentParser
import CLinux
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import NodeAgent
import RegistryClient
import SiteConfiguration

/// `trireme registry`
package struct RegistryCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "registry", abstract: "Serve the store's images to docker, podman and skopeo.",
        subcommands: [RegistryServe.self])
    package init() {}
}

/// `trireme registry serve`
package struct RegistryServe: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve the store's images as a registry, until it is ended.",
        discussion: """
            Whoever reaches the address can pull, and push where that is allowed: there are no logins. On another \
            address than this machine's own, pushes are therefore refused unless --writable is given.
            """)

    @Option(help: "HOST:PORT; port 0 takes a free one.") var address = "127.0.0.1:5000"
    @Option(help: "Fetch from this registry what is not here, each blob once, and keep it.") var upstream: String?
    @Option(help: "Where to keep what the store has no place for (default: 'registry' in the store).") var data: String?
    @Flag(help: "Take pushes on any address.") var writable = false
    @Flag(help: "Take no pushes.") var readOnly = false
    @Option(help: "Speak TLS with this certificate (PEM).") var tlsCert: String?
    @Option(help: "The certificate's key (PEM).") var tlsKey: String?
    @Flag(help: .hidden) var withinJob = false
    @OptionGroup var connection: ConnectionOptions
    @Flag(name: .shortAndLong, help: "Print the address only.") var quiet = false

    package init() {}

    package func run() throws {
        let locations = Locations.current()
        var options = RegistryServer.Options(dataDirectory: data ?? locations.store + "/registry")
        options.address = address
        options.upstream = upstream
        options.isReadOnly = readOnly || !(writable || RegistryServer.isLocal(address))
        options.certificate = tlsCert
        options.key = tlsKey
        var settings = connection.settings
        if withinJob {
            guard let secret = AgentProgram.jobSecret("-") else {
                throw Diagnostic(
                    DiagnosticCode("registry-serve"), "--within-job", reasons: ["the job's secret is missing"])
            }
            options.secret = RandomBytes.hex(secret)
            settings.jobSecret = options.secret
        }
        // Whoever starts a server may block signals; it must hear the one that ends it.
        _ = linux_sigprocmask(SIG_SETMASK, 0, nil)
        // Modes of unpacked layers are the images' own.
        umask(0)
        let server = try RegistryServer(
            options, store: ImageStore(locations), settings: settings,
            preparer: PlanCompiler(account: .current(home: locations.home)))
        let (isQuiet, isReadOnly) = (quiet, options.isReadOnly)
        try server.run { url in
            if isQuiet { return Output.standard.line(url) }
            Output.standard.line("Serving at \(url)" + (isReadOnly ? " (pull only)" : ""))
        }
    }
}
