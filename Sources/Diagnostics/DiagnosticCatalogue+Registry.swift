extension DiagnosticCatalogue {
    /// What `pull`, `push`, `login` and `registry serve` say.
    static let registry: [Entry] = [
        Entry(
            "registry-unreachable", "the registry does not answer, or the connection kept breaking",
            "Check the name and the network; HTTPS_PROXY and NO_PROXY are honoured. What has arrived is kept for a week, and the next pull goes on from there."
        ),
        Entry(
            "registry-protocol", "the answer is not one a registry gives (OCI distribution specification)",
            "A proxy's login page or a web server answers so; check host and port."),
        Entry(
            "registry-authentication", "the registry wants a login, or does not accept the one it got",
            "'trireme login HOST'. Docker Hub and others answer so for names that do not exist, too."),
        Entry(
            "registry-not-found", "the registry has no such repository, tag or digest",
            "Check the spelling; tags are case-sensitive."),
        Entry(
            "registry-busy", "the registry kept asking to come back later (429) or failed on its side (5xx)",
            "Wait, log in (limits are often higher then), or name a mirror in TRIREME_REGISTRY_MIRRORS."),
        Entry(
            "registry-refused", "the registry refused the request", "The message is the registry's own."),
        Entry(
            "registry-untrusted", "the registry's certificate cannot be verified, or it speaks no TLS",
            "Give its authority with --cacert FILE or /etc/docker/certs.d/HOST/ca.crt; --insecure takes any, and plain HTTP."
        ),
        Entry(
            "content-mismatch", "what arrived is not what its digest or size says",
            "Nothing of it was stored. Try again; if it stays so, a proxy or mirror in between is damaged or hostile."),
        Entry(
            "not-an-image", "the reference names something else than a container image for Linux",
            "An artifact (chart, signature, SBOM), or an image of Docker's first format."
        ),
        Entry(
            "reference-invalid", "the name is not one a registry can have",
            "[HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST], lower case; 'docker://' in front is allowed."),
        Entry(
            "credentials", "the file or helper with registry logins cannot be used",
            "The file is ~/.docker/config.json, or config.json in DOCKER_CONFIG; helpers are docker-credential-NAME."),
        Entry(
            "registry-serve", "the registry could not be started or its data not be used",
            "The message names the address or the file."),
    ]
}
