import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import JobWire
import LinuxSystem
import NodeAgent
import OCIModel
import Processes
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
    /// Where the job's secret comes from, as an agent is told.
    @Option var secret = "-"
    /// The signatures kept with the image, in base64.
    @Option var signatures: String?
    @Argument var number: Int
    @Argument var addresses: String

    package init() {}

    package func run() throws {
        let all = nodes.split(separator: ",").map(String.init)
        let here = HostName.current.prefix { $0 != "." }
        guard let index = number >= 0 ? number : all.firstIndex(where: { $0.prefix { $0 != "." } == here }),
            all.indices.contains(index), let digest = Digest(digest)
        else {
            throw Diagnostic(DiagnosticCode("spread-failed"), String(here), reasons: ["is none of \(nodes)"])
        }
        guard let key = AgentProgram.jobSecret(secret).map(RandomBytes.hex) else {
            throw Diagnostic(
                DiagnosticCode("spread-failed"), String(here), reasons: ["it was not told the job's secret"])
        }
        // The signals that end this are waited for; a thread of the transfer must not take them.
        var ending = sigset_t()
        sigemptyset(&ending)
        for signal in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&ending, signal) }
        sigprocmask(SIG_BLOCK, &ending, nil)
        let leader = addresses.split(separator: ",").map(String.init)
        let parent = index == 0 ? nil : "\(all[(index - 1) / 2]):\(port)"
        let store = ImageStore(root: to)
        var server: HelperProcess?
        let data = Data(store: to, node: String(here))
        data.removeDead()
        defer {
            if let server {
                server.end(SIGKILL)
                _ = waitpid(server.pid, nil, 0)
                data.remove(data.name)
            }
        }
        let isThere = try store.ownImage(named: digest.description) != nil
        var upstream: Place?
        if 2 * index + 1 < all.count {
            if !isThere { upstream = ImageReceive.reachable(parent, leader, key) }
            do { server = try serve(from: upstream?.number, data.path, key) } catch {
                // The port is another's: the nodes below turn to the first source.
                Output.standard.line(Diagnostic.harmless("\(here) serves no others: \(error)"), to: .progress)
            }
        }
        var origin = "itself"
        if !isThere {
            let own = server == nil ? nil : "127.0.0.1:\(port)"
            let place = try receive(digest, from: own ?? parent, leader, into: store, key)
            origin = place == own ? upstream?.name ?? place : place
        }
        if let image = try store.ownImage(named: digest.description), !name.hasPrefix("sha256:"),
            let reference = ImageReference(name)
        {
            try store.tag(image, as: reference)
            if let signatures { store.keep(KeptSignature.list(base64: signatures), of: image) }
        }
        Output.standard.line("\(ImageFetch.done) \(index) \(origin)")
        guard server != nil else { return }
        awaitEnd(ending, leader)
    }

    /// A registry for the nodes below, which has from `parent` what it does not have.
    private func serve(from parent: String?, _ data: String, _ key: String) throws -> HelperProcess {
        var words = [
            "registry", "serve", "-q", "--address", "0.0.0.0:\(port)", "--read-only", "--within-job",
            "--data", data,
        ]
        if let parent { words += ["--upstream", "http://\(parent)"] }
        var environment = EnvironmentBlock.merged(
            EnvironmentBlock.current(), [EnvironmentBlock.entry("TRIREME_STORE", to)])
        environment = EnvironmentBlock.merged(
            environment,
            [
                EnvironmentBlock.entry("TRIREME_REGISTRY_ATTEMPTS", "12"),
                EnvironmentBlock.entry(AgentProgram.secretVariable, key),
            ])
        do throws(SyscallError) {
            let server = try HelperProcess([try SiteProgram.path("trireme-cli")] + words, environment: environment)
            _ = try SpreadPort.read(server)
            return server
        } catch {
            throw Diagnostic(DiagnosticCode("spread-failed"), HostName.current, reasons: [error.sentence])
        }
    }

    private enum Patience {
        /// The node above may just be starting, like this one.
        static let parentMilliseconds = 30_000
        static let rounds = 5
        static let pauseMicroseconds: UInt32 = 200_000
    }

    /// Where others of this job serve.
    private struct Place {
        /// As it was told.
        var name: String
        /// `HOST:PORT` in numbers, as it was proved.
        var number: String
    }

    /// `parent` when it proves that it is of this job, else the first of the others that does: of the leader's addresses
    /// some may lead nowhere from here, and another user may hold the parent's port.
    ///
    private static func reachable(_ parent: String?, _ others: [String], _ secret: String) -> Place? {
        let deadline = MonotonicTime.now() + Patience.parentMilliseconds
        while let parent {
            if let number = answering(parent) {
                if JobRegistry.proves(number, secret: secret, settings: RegistryCommands.settings()) {
                    return Place(name: parent, number: number)
                }
                break
            }
            if MonotonicTime.now() >= deadline { break }
            usleep(Patience.pauseMicroseconds)
        }
        for round in 0..<Patience.rounds {
            if round > 0 { usleep(Patience.pauseMicroseconds) }
            for other in others {
                if let number = answering(other),
                    JobRegistry.proves(number, secret: secret, settings: RegistryCommands.settings())
                {
                    return Place(name: other, number: number)
                }
            }
        }
        return nil
    }

    /// The address in numbers when it takes a connection.
    ///
    /// - Parameter address: `HOST:PORT`; a name is looked up (getaddrinfo(3)).
    private static func answering(_ address: String) -> String? {
        let parts = address.split(separator: ":").map(String.init)
        var hints = addrinfo()
        hints.ai_family = AF_INET
        var found: UnsafeMutablePointer<addrinfo>?
        guard parts.count == 2, getaddrinfo(parts[0], nil, &hints, &found) == 0, let found else { return nil }
        defer { freeaddrinfo(found) }
        var text = [CChar](repeating: 0, count: Int(INET_ADDRSTRLEN))
        let isNumeric = found.pointee.ai_addr.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
            var number = $0.pointee.sin_addr
            return inet_ntop(AF_INET, &number, &text, socklen_t(INET_ADDRSTRLEN)) != nil
        }
        let number = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard isNumeric, (try? TCPSocket.connect("\(number):\(parts[1])", milliseconds: 3000)) != nil else {
            return nil
        }
        return "\(number):\(parts[1])"
    }

    /// From `nearest`, and where that does not have it, from the leader.
    ///
    /// - Returns: the address that had it.
    private func receive(
        _ digest: Digest, from nearest: String?, _ leader: [String], into store: ImageStore, _ key: String
    ) throws -> String {
        var failure: Diagnostic?
        let attempts: [(String?, [String])] = [(nearest, []), (nil, leader)]
        for (parent, others) in attempts {
            guard let place = ImageReceive.reachable(parent, others, key),
                let reference = RemoteReference("\(place.number)/\(RegistryServer.byDigest)@\(digest)")
            else { continue }
            var settings = RegistryCommands.settings()
            // From store to store within the job: what came into the first was asked about then.
            settings.isWithinJob = true
            settings.jobSecret = key
            settings.isInsecure = true
            settings.attempts = 12
            do throws(Diagnostic) {
                let pull = ImagePull(reference, into: store, platform: .current, settings: settings) { _ in }
                _ = try pull.run(preparer: PlanCompiler(account: .current(home: Locations.current().home)))
                return place.name
            } catch { failure = error }
        }
        let places = ([nearest].compactMap { $0 } + leader).joined(separator: ", ")
        throw failure
            ?? Diagnostic(
                DiagnosticCode("spread-failed"), HostName.current, reasons: ["none of \(places) takes a connection"])
    }

    /// Until a signal says so, nobody hears us any more, or the leader answers no more: a batch system that ends its
    /// processes may leave them no time to clean up (srun kills at once).
    private func awaitEnd(_ ending: sigset_t, _ leader: [String]) {
        var ending = ending
        let source = leader.first { ImageReceive.answering($0) != nil }
        var silence = 0
        while silence < 2 {
            var pause = timespec(tv_sec: 0, tv_nsec: 300_000_000)
            if sigtimedwait(&ending, nil, &pause) > 0 { return }
            var output = pollfd(fd: STDOUT_FILENO, events: 0, revents: 0)
            if poll(&output, 1, 0) > 0, Int32(output.revents) & (POLLERR | POLLHUP) != 0 { return }
            silence = source.map { ImageReceive.answering($0) == nil ? silence + 1 : 0 } ?? 0
        }
    }
}

extension ImageReceive {
    /// What a node keeps for others while it lasts: a directory in its store, named after node and process.
    fileprivate struct Data {
        let store: String
        let node: String
        var name: String { "\(prefix)\(getpid())" }
        var path: String { store + "/" + name }
        private var prefix: String { "registry-spread-\(node)-" }

        /// What processes of this node left that were killed.
        func removeDead() {
            for name in (try? Files.names(in: store)) ?? [] where name.hasPrefix(prefix) {
                if let pid = pid_t(name.dropFirst(prefix.count)), kill(pid, 0) != 0, errno == ESRCH { remove(name) }
            }
        }

        func remove(_ name: String) {
            guard let parent = try? OwnedDescriptor.open(store, O_RDONLY | O_DIRECTORY) else { return }
            try? DirectoryTree.remove(Array(name.utf8), in: parent.raw)
        }
    }
}
