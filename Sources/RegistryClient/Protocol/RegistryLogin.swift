import Diagnostics

/// Logins at registries, kept where docker keeps them.
package struct RegistryLogin {
    private let host: String
    private let settings: RegistrySettings

    /// - Parameter host: `ghcr.io`, `localhost:5000`; an address is shortened to its host.
    package init(_ host: String, settings: RegistrySettings) {
        var text = host[...]
        for scheme in ["https://", "http://", RemoteReference.scheme] where text.hasPrefix(scheme) {
            text = text.dropFirst(scheme.count)
        }
        let name = String(text.prefix { $0 != "/" })
        self.host =
            ["index.docker.io", "registry-1.docker.io", "hub.docker.com"].contains(name)
            ? RemoteReference.dockerHub : name
        self.settings = settings
    }

    /// Checks the login at the registry and keeps it.
    ///
    /// - Returns: false when the registry let us in without asking for it.
    package func store(user: String, password: String) throws(Diagnostic) -> Bool {
        do throws(RegistryFault) {
            let transport = Transport(settings)
            defer { try? blocking { () throws(RegistryFault) in await transport.shutdown() } }
            let host = host
            let isAsked = try blocking { () throws(RegistryFault) in
                let endpoint = try await RegistryEndpoint.reachable(host, transport)
                let registry = Registry(
                    transport, endpoint, scope: "", repository: "", credential: .known(.password(user: user, password)))
                let request = RegistryRequest(url: endpoint.base + "/v2/")
                _ = try await registry.send(request, accepting: [200], what: "login")
                return await registry.asksForLogin
            }
            var configuration = try DockerConfiguration(path: settings.credentialFile)
            try configuration.store(user: user, password: password, for: host)
            return isAsked
        } catch {
            var fault = error
            if fault.code == .registryAuthentication { fault.remedies = ["check user and password"] }
            throw fault.diagnostic(host)
        }
    }

    /// Forgets the login; false when there was none.
    package func erase() throws(Diagnostic) -> Bool {
        do throws(RegistryFault) {
            var configuration = try DockerConfiguration(path: settings.credentialFile)
            return try configuration.erase(host)
        } catch { throw error.diagnostic(host) }
    }

    package var registry: String { host }
}
