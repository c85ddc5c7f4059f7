import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import NodeAgent
import OCIModel
import RegistryClient
import SiteConfiguration

/// `trireme image receive`: one node's part of `image spread`, started by it.
///
/// Nodes are a tree of two branches, by their numbers. A node that has others below it serves them from a
/// read-through registry, so that they receive while it still does; it goes when it is told to.
package struct ImageReceive: ParsableCommand {
    package static let configuration = CommandConfiguration(commandName: "receive", shouldDisplay: false)

    @Option var nodes: String
    @Option var port: UInt16
    @Option var digest: String
    @Option var to: String
    @Option var name: String
    @Argument var number: Int
    @Argument var addresses: String

    package init() {}

    /// Before a node's number and where it has the image from, on standard output: it is there.
    static let done = "spread-done"

    package func run() throws {
        let all = nodes.split(separator: ",").map(String.init)
        let here = HostName.current.prefix { $0 != "." }
        guard let index = number >= 0 ? number : all.firstIndex(where: { $0.prefix { $0 != "." } == here }),
            all.indices.contains(index), let digest = Digest(digest)
        else {
            throw Diagnostic(DiagnosticCode("spread-failed"), String(here), reasons: ["is none of \(nodes)"])
        }
        // The signals that end this are waited for; a thread of the transfer must not take them.
        var ending = sigset_t()
        sigemptyset(&ending)
        for signal in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&ending, signal) }
        sigprocmask(SIG_BLOCK, &ending, nil)
        let leader = addresses.split(separator: ",").map(String.init)
        let parents = (index == 0 ? [] : ["\(all[(index - 1) / 2]):\(port)"]) + leader
        let store = ImageStore(root: to)
        var server: HelperProcess?
        let data = "\(to)/registry-spread-\(getpid())"
        defer {
            if let server {
                server.end(SIGKILL)
                _ = waitpid(server.pid, nil, 0)
                if let parent = try? OwnedDescriptor.open(to, O_RDONLY | O_DIRECTORY) {
                    try? DirectoryTree.remove(Array("registry-spread-\(getpid())".utf8), in: parent.raw)
                }
            }
        }
        let isThere = try store.ownImage(named: digest.description) != nil
        var upstream: String?
        if 2 * index + 1 < all.count {
            if !isThere { upstream = ImageReceive.reachable(parents) }
            server = try serve(from: upstream, data)
        }
        var origin = "itself"
        if !isThere {
            let own = server == nil ? [] : ["127.0.0.1:\(port)"]
            let place = try receive(digest, from: own + parents, into: store)
            origin = place == own.first ? upstream ?? place : place
        }
        if let image = try store.ownImage(named: digest.description), let reference = ImageReference(name) {
            try store.tag(image, as: reference)
        }
        Output.standard.line("\(ImageReceive.done) \(index) \(origin)")
        guard server != nil else { return }
        awaitEnd(ending)
    }

    /// A registry for the nodes below, which has from `parent` what it does not have.
    private func serve(from parent: String?, _ data: String) throws -> HelperProcess {
        var words = [
            "registry", "serve", "-q", "--address", "0.0.0.0:\(port)", "--read-only", "--data", data,
        ]
        if let parent { words += ["--upstream", "http://\(parent)"] }
        var environment = EnvironmentBlock.merged(
            EnvironmentBlock.current(), [EnvironmentBlock.entry("TRIREME_STORE", to)])
        environment = EnvironmentBlock.merged(
            environment, [EnvironmentBlock.entry("TRIREME_REGISTRY_ATTEMPTS", "12")])
        do throws(SyscallError) {
            let server = try HelperProcess([try SiteProgram.path("trireme-cli")] + words, environment: environment)
            _ = try SpreadPort.read(server)
            return server
        } catch {
            throw Diagnostic(DiagnosticCode("spread-failed"), HostName.current, reasons: [error.sentence])
        }
    }

    /// The first of `addresses` that takes a connection; for the first, the nearest, half a minute is waited.
    private static func reachable(_ addresses: [String]) -> String? {
        for (place, address) in addresses.enumerated() {
            for attempt in 0..<(place == 0 && addresses.count > 1 ? 150 : 5) {
                if attempt > 0 { usleep(200_000) }
                if answers(address) { return address }
            }
        }
        return nil
    }

    /// - Parameter address: `HOST:PORT`; a name is looked up (getaddrinfo(3)).
    private static func answers(_ address: String) -> Bool {
        let parts = address.split(separator: ":").map(String.init)
        var hints = addrinfo()
        hints.ai_family = AF_INET
        var found: UnsafeMutablePointer<addrinfo>?
        guard parts.count == 2, getaddrinfo(parts[0], nil, &hints, &found) == 0, let found else { return false }
        defer { freeaddrinfo(found) }
        var text = [CChar](repeating: 0, count: Int(INET_ADDRSTRLEN))
        let isNumeric = found.pointee.ai_addr.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
            var number = $0.pointee.sin_addr
            return inet_ntop(AF_INET, &number, &text, socklen_t(INET_ADDRSTRLEN)) != nil
        }
        let number = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return isNumeric && (try? TCPSocket.connect("\(number):\(parts[1])", milliseconds: 3000)) != nil
    }

    /// - Returns: the one of `places` that had it.
    private func receive(_ digest: Digest, from places: [String], into store: ImageStore) throws -> String {
        var failure: Diagnostic?
        for place in places {
            guard let host = ImageReceive.reachable([place]),
                let reference = RemoteReference("\(host)/\(RegistryServer.byDigest)@\(digest)")
            else { continue }
            var settings = RegistrySettings(
                environment: { name in getenv(name).map { String(cString: $0) } }, home: Locations.current().home)
            // From store to store within the job: what came into the first was asked about then.
            settings.isWithinJob = true
            settings.isInsecure = true
            settings.attempts = 12
            do throws(Diagnostic) {
                let pull = ImagePull(reference, into: store, platform: .current, settings: settings) { _ in }
                _ = try pull.run(preparer: PlanCompiler(account: .current(home: Locations.current().home)))
                return place
            } catch { failure = error }
        }
        throw failure
            ?? Diagnostic(
                DiagnosticCode("spread-failed"), HostName.current,
                reasons: ["none of \(places.joined(separator: ", ")) takes a connection"])
    }

    /// Until a signal says so, or nobody hears us any more.
    private func awaitEnd(_ ending: sigset_t) {
        var ending = ending
        while true {
            var second = timespec(tv_sec: 1, tv_nsec: 0)
            if sigtimedwait(&ending, nil, &second) > 0 { return }
            var output = pollfd(fd: STDOUT_FILENO, events: 0, revents: 0)
            if poll(&output, 1, 0) > 0, Int32(output.revents) & (POLLERR | POLLHUP) != 0 { return }
        }
    }
}
