import Foundation
import ImageStore
import OCIModel
import Synchronization
import TestSupport

/// A small image as a registry holds it: two gzip layers, one of a megabyte of noise.
struct TestImage: Sendable {
    struct Blob: Sendable {
        var digest: String
        var bytes: [UInt8]
        init(_ bytes: [UInt8]) {
            self.bytes = bytes
            digest = Digest(sha256: bytes).description
        }
    }
    var layers: [Blob]
    var configuration: Blob
    var manifest: Blob
    static let manifestType = "application/vnd.oci.image.manifest.v1+json"

    var blobs: [Blob] { layers + [configuration] }

    /// - Parameter marker: makes images differ.
    static func make(_ marker: String = "one", architecture: String = Platform.current.architecture) throws -> TestImage
    {
        var generator = SystemRandomNumberGenerator()
        let noise = (0..<(1 << 17)).map { _ in generator.next() as UInt64 }
        let first = try layer([
            ("big", noise.withUnsafeBytes { Array($0) }), ("etc/os-release", Array("ID=test\n".utf8)),
        ])
        let second = try layer([("marker", Array(marker.utf8))])
        let configuration = Blob(
            Array(
                """
                {"architecture":"\(architecture)","os":"linux","config":{"Cmd":["/bin/true"]},\
                "rootfs":{"type":"layers","diff_ids":["\(first.plain)","\(second.plain)"]}}
                """.utf8))
        let manifest = Blob(Array(text([first.blob, second.blob], configuration).utf8))
        return TestImage(layers: [first.blob, second.blob], configuration: configuration, manifest: manifest)
    }

    static func text(_ layers: [Blob], _ configuration: Blob, type: String = MediaType.configuration) -> String {
        let list = layers.map {
            #"{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"\#($0.digest)","size":\#($0.bytes.count)}"#
        }
        return """
            {"schemaVersion":2,"mediaType":"\(manifestType)",\
            "config":{"mediaType":"\(type)","digest":"\(configuration.digest)","size":\(configuration.bytes.count)},\
            "layers":[\(list.joined(separator: ","))]}
            """
    }

    private static func layer(_ files: [(String, [UInt8])]) throws -> (blob: Blob, plain: String) {
        let directory = try TemporaryDirectory()
        for (name, bytes) in files {
            let path = directory.path + "/tree/" + name
            try FileManager.default.createDirectory(
                atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
            try Data(bytes).write(to: URL(fileURLWithPath: path))
        }
        let tar = try runProgram(["tar", "-C", directory.path + "/tree", "--owner=0", "--group=0", "-c", "."])
        let zipped = try runProgram(["gzip", "-1", "-n"], input: tar.output)
        return (Blob(Array(zipped.output)), Digest(sha256: Array(tar.output)).description)
    }

    /// The right answer to a request for this image as `/v2/<name>/…`, under any tag.
    func reply(_ request: SeenRequest, name: String = "x") -> Reply {
        let path = request.path
        if path == "/v2/" { return .json("{}") }
        if path.hasPrefix("/v2/\(name)/manifests/") {
            let last = path.split(separator: "/").last ?? ""
            guard !last.hasPrefix("sha256:") || last == manifest.digest else { return .notFound }
            return Reply(headers: ["Content-Type": Self.manifestType], body: manifest.bytes)
        }
        guard path.hasPrefix("/v2/\(name)/blobs/"),
            let blob = blobs.first(where: { path.hasSuffix($0.digest) })
        else { return .notFound }
        if let range = request.headers["range"], let start = Int(range.dropFirst(6).prefix { $0 != "-" }) {
            return Reply(
                status: 206,
                headers: ["Content-Range": "bytes \(start)-\(blob.bytes.count - 1)/\(blob.bytes.count)"],
                body: Array(blob.bytes[start...]))
        }
        return Reply(headers: ["Content-Type": "application/octet-stream"], body: blob.bytes)
    }

    func blobPath(_ index: Int, name: String = "x") -> String { "/v2/\(name)/blobs/\(blobs[index].digest)" }
}

/// A store and a docker configuration of a test's own, and the program under test in them.
struct Sandbox: Sendable {
    let directory: TemporaryDirectory
    var store: String { directory.path + "/store" }
    var dockerConfiguration: String { directory.path + "/docker/config.json" }

    init() throws { directory = try TemporaryDirectory() }

    var environment: [String: String?] {
        [
            "TRIREME_STORE": store, "DOCKER_CONFIG": directory.path + "/docker", "HOME": directory.path,
            "TRIREME_REGISTRY_MIRRORS": nil, "TRIREME_REGISTRY_INSECURE": nil, "TRIREME_REGISTRY_TIMEOUT": "20",
            "TRIREME_REGISTRY_ATTEMPTS": "3", "http_proxy": nil, "https_proxy": nil, "all_proxy": nil,
            "HTTPS_PROXY": nil, "ALL_PROXY": nil, "no_proxy": nil, "NO_PROXY": nil, "SSL_CERT_FILE": nil,
        ]
    }

    func trireme(_ words: String..., with extra: [String: String?] = [:], input: String = "") throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme-cli")] + words, environment: environment.merging(extra) { $1 },
            input: Data(input.utf8))
    }

    /// Several at once, each in a store of its own or all in this one.
    func together(_ commands: [(words: [String], extra: [String: String?])]) throws -> [ProgramRun] {
        let runs = Mutex<[Result<ProgramRun, any Error>]>([])
        let program = try Programs.path("trireme-cli")
        let threads = DispatchGroup()
        for (words, extra) in commands {
            threads.enter()
            Thread.detachNewThread {
                let run = Result {
                    try runProgram([program] + words, environment: environment.merging(extra) { $1 })
                }
                runs.withLock { $0.append(run) }
                threads.leave()
            }
        }
        threads.wait()
        return try runs.withLock { try $0.map { try $0.get() } }
    }

    /// Names in the store; empty also when there is no store.
    func images() throws -> [String] {
        let run = try trireme("image", "ls", "--format", "jsonl")
        struct Row: Decodable { var name: String?; var digest: String }
        return try run.lines.map { line in
            let row = try JSONDecoder().decode(Row.self, from: Data(line.utf8))
            return row.name ?? row.digest
        }
    }

    func logIn(_ host: String, _ user: String, _ password: String) throws {
        try FileManager.default.createDirectory(
            atPath: directory.path + "/docker", withIntermediateDirectories: true)
        let encoded = Data("\(user):\(password)".utf8).base64EncodedString()
        try Data(#"{"auths":{"\#(host)":{"auth":"\#(encoded)"}}}"#.utf8)
            .write(to: URL(fileURLWithPath: dockerConfiguration))
    }
}
