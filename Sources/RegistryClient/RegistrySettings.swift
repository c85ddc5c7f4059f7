import Diagnostics
import LinuxSystem

/// How registries are spoken to, from the environment and the command line.
package struct RegistrySettings: Sendable {
    /// `HOST` → base URLs asked before it, in order; a mirror given as `http://` is spoken to so.
    package var mirrors: [String: [String]] = [:]
    /// Hosts whose certificate is not checked and that may speak plain HTTP.
    package var insecureHosts: Set<String> = []
    /// All hosts are such.
    package var isInsecure = false
    /// A PEM file with authorities trusted in addition to the system's.
    package var authority: String?
    /// Directories that hold `<host>/*.crt`, `*.cert` and `*.key`.
    package var certificateDirectories: [String]
    /// Seconds without a byte before a request counts as failed.
    package var idleSeconds: Double = 60
    /// Failures in a row of one request before it is given up.
    package var attempts = 6
    /// The longest `Retry-After` that is waited for, seconds.
    package var longestWait: Double = 120
    package var proxies: ProxyRules
    /// Between the nodes of a job: no policy is asked.
    package var isWithinJob = false
    /// The job's, of which its registries and their clients prove to each other that they know it (`JobProof`).
    package var jobSecret: String?
    /// Policies beside the site's own.
    package var policies: [String]
    /// docker's `config.json`.
    package var credentialFile: String
    /// What `DOCKER_AUTH_CONFIG` holds: such a file's text, asked before it (docker(1)).
    package var credentialText: String?
    /// Where podman, buildah and skopeo keep theirs, asked when docker's has none (containers-auth.json(5)).
    package var otherCredentialFiles: [String]
    /// Of those, the one in the user's runtime directory. A variable that came along from another user (su, sudo)
    /// names that user's.
    package var runtimeCredentialFile: String?

    package init(environment: (String) -> String?, home: String) {
        func value(_ name: String) -> String? { environment(name).flatMap { $0.isEmpty ? nil : $0 } }
        proxies = ProxyRules(environment: environment)
        policies = (value("TRIREME_POLICY") ?? "").split(separator: ":").map(String.init)
        credentialFile = (value("DOCKER_CONFIG") ?? home + "/.docker") + "/config.json"
        credentialText = value("DOCKER_AUTH_CONFIG")
        otherCredentialFiles =
            [value("REGISTRY_AUTH_FILE")].compactMap { $0 }
            + [value("XDG_RUNTIME_DIR"), value("XDG_CONFIG_HOME") ?? home + "/.config"].compactMap { $0 }
            .map { $0 + "/containers/auth.json" }
        runtimeCredentialFile = value("XDG_RUNTIME_DIR").map { $0 + "/containers/auth.json" }
        certificateDirectories = [
            home + "/.config/containers/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d",
        ]
        insecureHosts = Set((value("TRIREME_REGISTRY_INSECURE") ?? "").split(separator: ",").map(String.init))
        if let seconds = value("TRIREME_REGISTRY_TIMEOUT").flatMap(Double.init), seconds > 0 { idleSeconds = seconds }
        if let count = value("TRIREME_REGISTRY_ATTEMPTS").flatMap(Int.init), count > 0 { attempts = count }
        // HOST=URL[,URL…][;HOST=…]
        for rule in (value("TRIREME_REGISTRY_MIRRORS") ?? "").split(separator: ";") {
            guard let equals = rule.firstIndex(of: "=") else { continue }
            mirrors[String(rule[..<equals])] = rule[rule.index(after: equals)...].split(separator: ",").map(String.init)
        }
    }
}

extension RegistrySettings {
    /// Where a login for a repository comes from, once one is asked for.
    func credential(for host: String, _ repository: String) -> CredentialSource {
        if let jobSecret { return .job(secret: jobSecret) }
        return .stored(self, host: host, repository: repository)
    }

    /// The site's policy and the user's.
    func policy() throws(Diagnostic) -> RegistryPolicy {
        if isWithinJob { return RegistryPolicy() }
        return try RegistryPolicy(optional: RegistryPolicy.site, named: policies)
    }
}

/// Which proxy a request goes through: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`.
package struct ProxyRules: Sendable {
    private let http: String?
    private let https: String?
    private let exceptions: [String]

    package init(environment: (String) -> String?) {
        func value(_ names: String...) -> String? {
            for name in names { if let text = environment(name), !text.isEmpty { return text } }
            return nil
        }
        // HTTP_PROXY in capitals is not read: under CGI it would be the client's header `Proxy`.
        http = value("http_proxy", "all_proxy", "ALL_PROXY")
        https = value("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
        exceptions = (value("no_proxy", "NO_PROXY") ?? "").split(separator: ",")
            .map { $0.trimmingSpaces().lowercased() }
    }

    /// The proxy's URL; nil to go direct. This machine itself is never behind a proxy.
    package func proxy(forHost host: String, port: Int, isSecure: Bool) -> String? {
        guard let proxy = isSecure ? https : http, !RegistryEndpoint.isLoopback(host) else { return nil }
        let host = host.lowercased()
        for exception in exceptions where !exception.isEmpty {
            if exception == "*" || exception == host || exception == "\(host):\(port)" { return nil }
            let suffix = exception.hasPrefix("*.") ? String(exception.dropFirst()) : exception
            let dotted = suffix.hasPrefix(".") ? suffix : "." + suffix
            if host.hasSuffix(dotted) || host == dotted.dropFirst() { return nil }
        }
        return proxy
    }
}

extension Substring {
    fileprivate func trimmingSpaces() -> String {
        var text = self
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}

/// Where a registry is spoken to: `https://host:port`, without a path but a mirror's own.
package struct RegistryEndpoint: Hashable, Sendable {
    package var isSecure: Bool
    package var host: String
    /// Nil for the scheme's own.
    package var port: Int?
    /// In front of `/v2/`: empty, or as `/cache`.
    package var prefix = ""

    package var effectivePort: Int { port ?? (isSecure ? 443 : 80) }
    package var authority: String { host + (port.map { ":\($0)" } ?? "") }
    package var base: String { "\(isSecure ? "https" : "http")://\(authority)\(prefix)" }

    /// - Parameter name: `host[:port]` of a reference. Docker Hub's API has a host of its own.
    package init(name: String, isSecure: Bool = true) {
        let name = name == RemoteReference.dockerHub ? "registry-1.docker.io" : name
        let parts = name.split(separator: ":", maxSplits: 1).map(String.init)
        host = parts.first ?? name
        port = parts.count > 1 ? Int(parts[1]) : nil
        self.isSecure = isSecure
    }

    /// - Parameter url: `http[s]://host[:port][/prefix]`, or a host alone.
    package init(mirror url: String) {
        var rest = url[...]
        var isSecure = true
        if rest.hasPrefix("http://") {
            isSecure = false
            rest = rest.dropFirst(7)
        } else if rest.hasPrefix("https://") {
            rest = rest.dropFirst(8)
        }
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        self.init(name: String(rest[..<slash]), isSecure: isSecure)
        var prefix = rest[slash...]
        while prefix.last == "/" { prefix.removeLast() }
        if prefix.hasSuffix("/v2") { prefix = prefix.dropLast(3) }
        self.prefix = String(prefix)
    }

    /// `localhost` and 127.0.0.0/8, where docker, too, speaks plain HTTP.
    package static func isLoopback(_ host: String) -> Bool {
        host == "localhost" || host == "::1" || host == "[::1]"
            || (host.hasPrefix("127.") && host.utf8.allSatisfy { (48...57).contains($0) || $0 == 46 })
    }
}
