import Diagnostics
import OCIModel
import RegistryWire
import Testing

@testable import RegistryClient

@Suite struct RemoteReferenceTests {
    static let hex = String(repeating: "ab", count: 32)

    @Test(arguments: [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("docker://user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/library/debian:x", "docker.io/library/debian:x", "debian:x"),
        ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x/y:1", "localhost:5000/x/y:1", "localhost:5000/x/y:1"),
        ("ghcr.io/o/a@sha256:\(hex)", "ghcr.io/o/a@sha256:\(hex)", nil),
        ("ghcr.io/o/a:1@sha256:\(hex)", "ghcr.io/o/a:1@sha256:\(hex)", "ghcr.io/o/a:1"),
    ])
    func accepted(_ text: String, _ full: String, _ local: String?) throws {
        let reference = try #require(RemoteReference(text))
        #expect(reference.description == full)
        #expect(reference.localName?.description == local)
    }

    @Test(arguments: [
        "", "Debian", "a b", "x@sha256:12", "x@md5:\(hex)", "-x", "host.io:bad/x", "a//b", "x:", "docker://",
    ])
    func refused(_ text: String) { #expect(RemoteReference(text) == nil) }

    @Test func digestDecides() throws {
        let reference = try #require(RemoteReference("ghcr.io/o/a:1@sha256:\(Self.hex)"))
        #expect(reference.manifestName == "sha256:" + Self.hex)
    }
}

@Suite struct EndpointTests {
    @Test(arguments: [
        ("docker.io", "https://registry-1.docker.io"), ("ghcr.io", "https://ghcr.io"),
        ("localhost:5000", "https://localhost:5000"),
    ])
    func ofReference(_ name: String, _ base: String) { #expect(RegistryEndpoint(name: name).base == base) }

    @Test(arguments: [
        ("http://mirror:5000", "http://mirror:5000"), ("https://m.example/cache/", "https://m.example/cache"),
        ("https://m.example/v2/", "https://m.example"), ("m.example", "https://m.example"),
    ])
    func ofMirror(_ url: String, _ base: String) { #expect(RegistryEndpoint(mirror: url).base == base) }

    @Test func loopback() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1"] { #expect(RegistryEndpoint.isLoopback(host)) }
        for host in ["127.0.0.1.evil.example", "localhost.evil", "128.0.0.1", "0.0.0.0"] {
            #expect(!RegistryEndpoint.isLoopback(host))
        }
    }

    @Test func proxies() {
        let environment = [
            "https_proxy": "http://p:3128", "HTTP_PROXY": "http://cgi:1",
            "no_proxy": "in.example, .b.example,h:443,*.c.d",
        ]
        let rules = ProxyRules { environment[$0] }
        func proxy(_ host: String, _ port: Int = 443) -> String? {
            rules.proxy(forHost: host, port: port, isSecure: true)
        }
        #expect(proxy("ghcr.io") == "http://p:3128")
        for direct in [
            "in.example", "x.in.example", "y.b.example", "b.example", "h", "z.c.d", "localhost", "127.0.0.1",
        ] {
            #expect(proxy(direct) == nil, "\(direct)")
        }
        #expect(proxy("h", 8443) != nil)
        #expect(proxy("notin.example") != nil)
        #expect(rules.proxy(forHost: "ghcr.io", port: 80, isSecure: false) == nil)
    }
}

@Suite struct PlatformChoiceTests {
    private static func entry(_ platform: String?, _ number: Int, type: String? = MediaType.manifest) -> Descriptor {
        let digits = String(number, radix: 16)
        return Descriptor(
            mediaType: type, digest: Digest(hex: String(repeating: "0", count: 64 - digits.count) + digits)!, size: 1,
            platform: platform.flatMap { Platform($0) })
    }

    private func chosen(_ entries: [Descriptor], _ platform: String) throws -> Int {
        let best = try PlatformChoice.choose(entries, for: Platform(platform)!)
        return Int(best.digest.hex, radix: 16)!
    }

    @Test func variants() throws {
        let arms = [
            Self.entry("linux/arm/v5", 1), Self.entry("linux/arm/v7", 2), Self.entry("linux/arm64/v8", 3),
            Self.entry("linux/amd64", 4), Self.entry("linux/amd64/v3", 5),
        ]
        #expect(try chosen(arms, "linux/arm64") == 3)
        #expect(try chosen(arms, "linux/arm/v6") == 1)
        #expect(try chosen(arms, "linux/arm/v7") == 2)
        // Not asked for, v3 may need what this machine lacks.
        #expect(try chosen(arms, "linux/amd64") == 4)
        #expect(try chosen(arms, "linux/amd64/v4") == 5)
    }

    @Test func attestationsAndRidersAreNoImages() throws {
        var rider = Self.entry("unknown/unknown", 1)
        rider.annotations = ["vnd.docker.reference.type": "attestation-manifest"]
        let other = Self.entry("linux/amd64", 2, type: "application/vnd.example.chart+json")
        #expect(
            try chosen([rider, other, Self.entry("linux/amd64", 3), Self.entry("linux/amd64", 4)], "linux/amd64") == 3)
        #expect(try chosen([rider, Self.entry(nil, 5)], "linux/amd64") == 5)
    }

    @Test func nothingFits() throws {
        do throws(RegistryFault) {
            _ = try PlatformChoice.choose(
                [Self.entry("linux/arm64", 1), Self.entry("windows/amd64", 2)], for: Platform("linux/amd64")!)
            Issue.record("an image was chosen")
        } catch {
            let fault = error
            #expect(fault.code.rawValue == "wrong-architecture")
            #expect(fault.reasons.joined().contains("linux/arm64, windows/amd64"))
        }
    }
}

@Suite struct RouteTests {
    private static let digest = "sha256:" + String(repeating: "0", count: 64)

    @Test func routes() throws {
        let digest = try #require(Digest(Self.digest))
        #expect(RegistryRoute(path: "/v2/") == .base)
        #expect(RegistryRoute(path: "/v2/a/b/tags/list") == .tags(repository: "a/b"))
        #expect(RegistryRoute(path: "/v2/a/manifests/x") == .manifest(repository: "a", reference: "x"))
        #expect(RegistryRoute(path: "/v2/a/b/c/blobs/\(Self.digest)") == .blob(repository: "a/b/c", digest: digest))
        #expect(RegistryRoute(path: "/v2/a/blobs/uploads/") == .startUpload(repository: "a"))
        #expect(RegistryRoute(path: "/v2/a/blobs/uploads/id") == .upload(repository: "a", id: "id"))
        #expect(RegistryRoute(path: "/v2/a/referrers/\(Self.digest)") == .referrers(repository: "a", digest: digest))
        #expect(
            RegistryRoute(path: "/v2/blobs/manifests/manifests")
                == .manifest(repository: "blobs", reference: "manifests"))
    }

    @Test(arguments: [
        "/", "/v1/x", "/v2/a", "/v2/a/b", "/v2/a/../../etc/manifests/x", "/v2/A/manifests/x", "/v2/..%2F/manifests/x",
    ])
    func nothing(_ path: String) {
        switch RegistryRoute(path: path) {
        case .unknown, .invalid: break
        case let route: Issue.record("\(path) is \(route)")
        }
    }
}
