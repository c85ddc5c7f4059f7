import ArgumentParser
import CLinux
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import NodeAgent
import Processes
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
            At an address of this machine alone only your own processes, and root's, may pull without a login. At others \
            whoever reaches it may. Pushing needs a login everywhere; its password is drawn once, printed, and kept in the \
            file 'token' of --data. On another address than this machine's own, pushes are refused unless --writable is given.
            """)

    @Option(help: "HOST:PORT; port 0 takes a free one.") var address = "127.0.0.1:5000"
    @Option(help: "Fetch from this registry what is not here, each blob once, and keep it.") var upstream: String?
    @Option(help: "Where to keep what the store has no place for (default: 'registry' in the store).") var data: String?
    @Flag(help: "Let every user of this machine pull.") var `public` = false
    @Flag(help: "Take pushes on any address.") var writable = false
    @Flag(help: "Take no pushes.") var readOnly = false
    @Option(help: "Speak TLS with this certificate (PEM).") var tlsCert: String?
    @Option(help: "The certificate's key (PEM).") var tlsKey: String?
    @Option(help: "Seconds after which a silent client is left.") var idleTimeout = 60.0
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
        options.isPublic = `public`
        guard idleTimeout > 0 else {
            throw Diagnostic(DiagnosticCode("usage"), "--idle-timeout", reasons: ["not a number of seconds above 0"])
        }
        options.idleSeconds = min(idleTimeout, 86400)
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
        let server = try RegistryServer(
            options, store: ImageStore(locations), settings: settings,
            preparer: PlanCompiler(account: .current(home: locations.home)))
        let (isQuiet, isReadOnly, login) = (quiet, options.isReadOnly, server.pushLogin)
        try server.run { url in
            if isQuiet { return Output.standard.line(url) }
            Output.standard.line("Serving at \(url)" + (isReadOnly ? " (pull only)" : ""))
            if let login { RegistryServe.tell(login.user, login.isNew ? login.password : nil, login.file, url) }
        }
    }
    /// How to log in. The password itself is said only when it is new.
    private static func tell(_ user: String, _ password: String?, _ file: String, _ url: String) {
        let host = url.split(separator: "/").last.map(String.init) ?? url
        if let password { Output.standard.line("To push: user \(user), password \(password) (kept in \(file))") }
        Output.standard.line("To push: trireme login \(host) -u \(user) --password-stdin <\(file)")
    }
}
