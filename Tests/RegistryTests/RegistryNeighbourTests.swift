import Foundation
import Glibc
import TestSupport
import Testing

/// What another ordinary account of the machine tries with a served registry and what it keeps.
@Suite(.enabled(if: hasSecondUser, "the tests were started by one account alone"))
struct RegistryNeighbourTests {
    let sandbox: Sandbox
    let image: TestImage

    init() throws {
        sandbox = try Sandbox()
        // As homes are on many machines: others may pass.
        chmod(sandbox.directory.path, 0o755)
        try FileManager.default.createDirectory(
            atPath: sandbox.store, withIntermediateDirectories: true)
        chmod(sandbox.store, 0o755)
        image = try TestImage.make()
    }

    private func push(to registry: ServedRegistry) throws {
        for blob in image.blobs {
            let target = "/v2/a/blobs/uploads/?digest=\(blob.digest)"
            #expect(try registry.send("POST", target, body: blob.bytes).status == 201)
        }
        let put = try registry.send(
            "PUT", "/v2/a/manifests/1", headers: ["Content-Type": TestImage.manifestType],
            body: image.manifest.bytes)
        #expect(put.status == 201)
    }

    /// The status that the other account is answered with.
    private func ask(
        _ registry: ServedRegistry, _ method: String, _ target: String, headers: String = "",
        body: String = ""
    ) throws -> Int {
        let script = """
            exec 3<>/dev/tcp/127.0.0.1/\(registry.port)
            printf '%s' "$0" >&3; head -n 1 <&3 | cut -d' ' -f2
            """
        let request =
            "\(method) \(target) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(headers)"
            + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
        let run = try asSecondUser(["bash", "-c", script, request])
        return try #require(
            Int(run.outputText.trimmingCharacters(in: .whitespacesAndNewlines)),
            "\(run.outputText)\(run.errorText)")
    }

    @Test("It writes nothing, plants nothing and sees nothing where a registry keeps its files")
    func directories() throws {
        let registry = try ServedRegistry(sandbox, umask: "0")
        try push(to: registry)
        _ = try registry.send("POST", "/v2/a/blobs/uploads/")
        let data = sandbox.store + "/registry"
        let victim = sandbox.directory.path + "/.bashrc"
        try "mine\n".write(toFile: victim, atomically: true, encoding: .utf8)
        // Whatever this process's umask is.
        chmod(victim, 0o644)
        let before = try runProgram(["find", sandbox.store, "-printf", "%P %i %s %m\n"]).lines.sorted()
        let run = try asSecondUser([
            "sh", "-c",
            """
            for d in "$0" "$0"/registry "$0"/registry/uploads "$0"/registry/blobs; do
                echo evil >"$d/new"; ln -s "$1" "$d/link"; mkdir "$d/made"; mv "$d" "$d.gone"; ls "$d" && echo listed
            done
            for f in "$0"/registry/uploads/* "$0"/registry/blobs/* "$1"; do echo evil >>"$f"; done
            cat "$0/registry/token"; echo tried
            """, sandbox.store, victim,
        ])
        // Those who may pass may list the store itself.
        #expect(
            run.lines.filter { $0 == "listed" }.count == 1 && run.lines.last == "tried",
            "\(run.outputText)")
        #expect(
            try runProgram(["find", sandbox.store, "-printf", "%P %i %s %m\n"]).lines.sorted() == before)
        #expect(try String(contentsOfFile: victim, encoding: .utf8) == "mine\n")
        let password = try registry.password
        #expect(!run.outputText.contains(password))
        #expect(!data.isEmpty && registry.isRunning)
    }

    @Test("A directory or a link that it made first is not used")
    func takenDirectories() throws {
        let drop = sandbox.directory.path + "/drop"
        let home = sandbox.directory.path + "/own"
        for made in [drop, home] {
            try FileManager.default.createDirectory(atPath: made, withIntermediateDirectories: true)
        }
        chmod(drop, 0o1777)
        try asSecondUser(["sh", "-c", "mkdir -m 777 \"$0/made\"; ln -s \"$1\" \"$0/link\"", drop, home])
        #expect(FileManager.default.fileExists(atPath: drop + "/made"))
        for name in ["made", "link"] {
            let run = try sandbox.trireme(
                "registry", "serve", "--address", "127.0.0.1:0", "--data", "\(drop)/\(name)")
            #expect(
                run.status == 125 && run.errorText.contains("[registry-serve]"), "\(name): \(run.errorText)"
            )
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: home) == [])
        #expect(try FileManager.default.contentsOfDirectory(atPath: drop + "/made") == [])
    }

    @Test("It neither reads nor pushes over loopback without the login")
    func loopback() throws {
        let registry = try ServedRegistry(sandbox)
        try push(to: registry)
        let layer = image.layers[0].digest
        for (method, target) in [
            ("GET", "/v2/"), ("GET", "/v2/_catalog"), ("GET", "/v2/a/tags/list"),
            ("GET", "/v2/a/manifests/1"),
            ("HEAD", "/v2/a/blobs/\(layer)"), ("GET", "/v2/a/blobs/\(layer)"), ("GET", "/token"),
            ("POST", "/v2/a/blobs/uploads/"), ("PUT", "/v2/a/manifests/1"),
            ("DELETE", "/v2/a/manifests/1"),
        ] {
            #expect(try ask(registry, method, target) == 401, "\(method) \(target)")
            #expect(try ask(registry, method, target, headers: "Authorization: Bearer x\r\n") == 401)
        }
        let pull = try asSecondUser([
            "env", "TRIREME_STORE=/tmp/trireme-neighbour-\(getpid())", try Programs.path("trireme-cli"),
            "pull", "-q",
            "\(registry.host)/a:1",
        ])
        #expect(
            pull.status == 125 && pull.errorText.contains("[registry-authentication]"),
            "\(pull.errorText)")
        // The owner is answered, and whoever was given the login.
        #expect(try registry.send("GET", "/v2/a/manifests/1", isLoggedIn: false).status == 200)
        let login = "Authorization: \(ServedRegistry.basic("any", try registry.password))\r\n"
        #expect(try ask(registry, "GET", "/v2/a/manifests/1", headers: login) == 200)
    }

    @Test("With --public it reads, and pushes nothing")
    func open() throws {
        let registry = try ServedRegistry(sandbox, "--public")
        try push(to: registry)
        #expect(try ask(registry, "GET", "/v2/a/manifests/1") == 200)
        let put = "Content-Type: \(TestImage.manifestType)\r\n"
        #expect(try ask(registry, "PUT", "/v2/a/manifests/1", headers: put, body: "{}") == 401)
        #expect(try ask(registry, "POST", "/v2/a/blobs/uploads/") == 401)
        let kept = try registry.send("GET", "/v2/a/manifests/1")
        #expect(kept.body == image.manifest.bytes)
    }
}
