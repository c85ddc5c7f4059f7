import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import JobModel
import JobWire
import LinuxSystem
import NodeAgent
import OCIModel
import Processes
import ResourceManagers
import SiteConfiguration

/// `trireme image spread`
package struct ImageSpread: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "spread",
        abstract: "Bring an image to every node of the allocation, into stores of their own.",
        discussion: """
            For stores that the nodes do not share (TRIREME_STORE on a local disk). The image leaves this store \
            once or twice, whatever the number of nodes: each node has it from another, while that one still receives.
            """)

    @Option(help: "The store on the nodes, a path (default: this store's).") var to: String?
    @Option(help: "The port that nodes serve each other at; any free one when left out.") var port: UInt16?
    @Option(name: .customLong("rm"), help: "Ask only this batch system.") var resourceManager: String = "auto"
    @Option(help: "The nodes, as 'trireme run' takes them.") var hostfile: String?
    @Option(help: "Seconds for all of it.") var timeout: Int = 1800
    @Flag(name: .shortAndLong, help: "Print nothing.") var quiet = false
    @Argument(help: "An image of the store.") var image: String

    package init() {}

    package func run() throws {
        let locations = Locations.current()
        let found = try ImageResolver(store: ImageStore(locations)).resolve(image)
        guard found.file == nil else {
            throw Diagnostic(
                DiagnosticCode("spread-failed"), image, reasons: ["it is a single file, not an image of the store"],
                remedies: ["copy it: sbcast \(image) /tmp/\(image.split(separator: "/").last ?? "image")"])
        }
        var options = ParallelOptions()
        options.resourceManager = resourceManager
        options.hostfile = hostfile
        guard let allocation = try options.allocation(in: .current) else {
            throw Diagnostic(
                DiagnosticCode("no-allocation"), "image spread",
                reasons: ["this process stands in no batch system's allocation"],
                remedies: Detection.requests(
                    nodes: 4, tasks: nil, command: "trireme image spread \(image)", in: .current,
                    isInstalled: SearchPath.has) + ["--hostfile FILE"])
        }
        let start = MonotonicTime.now()
        let nodes = allocation.nodes.map(\.name)
        let source: ImageSource
        let fan: FanOut
        do throws(SyscallError) {
            source = try ImageSource(secret: RandomBytes.make(32))
            let command = source.receiving(
                found, into: to ?? locations.store, nodes: nodes, port: port ?? UInt16.random(in: 20000...29999))
            func start(_ secret: String) -> AgentStart {
                AgentStart(
                    nodes: nodes, jobID: allocation.jobID, command: command + ["--secret", secret, "--"],
                    addresses: source.addresses, here: HostName.current)
            }
            let manager = Detection.manager(named: allocation.system)
            let secretFile = "\(locations.state)/spread-\(RandomBytes.hex(RandomBytes.make(8))).secret"
            var commands =
                manager?.fanOut(start("-"), in: .current)
                ?? [FanOutCommand(words: start("-").words(for: 0), secret: .environment)]
            if commands.contains(where: { $0.secret == .file }) {
                try FanOut.makeDirectory(locations.state)
                commands = manager?.fanOut(start(secretFile), in: .current) ?? commands
            }
            fan = try FanOut(commands, secret: RandomBytes.hex(source.secret), secretFile: secretFile)
        } catch {
            throw Diagnostic(DiagnosticCode("spread-failed"), found.name, reasons: [error.sentence])
        }
        defer {
            // The nodes end by themselves when nobody answers here.
            source.end()
            fan.awaitEnd(milliseconds: 5_000, signal: SIGTERM)
            fan.awaitEnd(milliseconds: 10_000)
        }
        let missing = try hear(fan, nodes)
        guard missing.isEmpty else {
            throw Diagnostic(
                DiagnosticCode("spread-failed"), found.name,
                reasons: ["not on \(missing.joined(separator: ", "))"]
                    + fan.helpers.map(\.tail).filter { !$0.isEmpty }.prefix(2),
                remedies: ["once more: nodes that have it are done at once"])
        }
        let tenths = (MonotonicTime.now() - start) / 100
        if !quiet {
            Output.standard.line("\(found.name): on \(nodes.count) nodes after \(tenths / 10).\(tenths % 10) s")
        }
    }

    /// Hears the nodes until all have the image, or no more will come.
    ///
    /// - Returns: the nodes that do not have it.
    private func hear(_ fan: FanOut, _ nodes: [String]) throws -> [String] {
        var missing = nodes
        var texts = [String](repeating: "", count: fan.helpers.count)
        let deadline = MonotonicTime.now() + Int(Int32(clamping: timeout)) * 1000
        while !missing.isEmpty, MonotonicTime.now() < deadline {
            var polled = fan.helpers.map { pollfd(fd: $0.output, events: Int16(POLLIN), revents: 0) }
            if polled.allSatisfy({ $0.fd < 0 }) { break }
            poll(&polled, nfds_t(polled.count), 1000)
            for (index, helper) in fan.helpers.enumerated() {
                texts[index] += String(decoding: helper.readOutput(), as: UTF8.self)
                while let end = texts[index].firstIndex(of: "\n") {
                    let line = texts[index][..<end]
                    texts[index] = String(texts[index][texts[index].index(after: end)...])
                    let words = line.split(separator: " ").map(String.init)
                    if words.count == 3, words[0] == ImageFetch.done, let number = Int(words[1]),
                        nodes.indices.contains(number)
                    {
                        missing.removeAll { $0 == nodes[number] }
                        if !quiet { Output.standard.line("\(nodes[number]): from \(words[2])", to: .progress) }
                    } else if !quiet, !line.isEmpty {
                        Output.standard.line(Diagnostic.harmless(String(line)), to: .progress)
                    }
                }
            }
        }
        return missing
    }
}

/// The store's images, served to the nodes of one job as long as this is held.
struct ImageSource {
    let secret: [UInt8]
    /// `HOST:PORT[,…]`
    let addresses: String
    private let program: String
    private let server: HelperProcess

    init(secret: [UInt8]) throws(SyscallError) {
        self.secret = secret
        program = try SiteProgram.path("trireme-cli")
        server = try HelperProcess(
            [program, "registry", "serve", "-q", "--address", "0.0.0.0:0", "--read-only", "--within-job"],
            environment: EnvironmentBlock.merged(
                EnvironmentBlock.current(),
                [EnvironmentBlock.entry(AgentProgram.secretVariable, RandomBytes.hex(secret))]))
        let port = try SpreadPort.read(server)
        addresses = TCPSocket.ownAddresses().map { "\($0):\(port)" }.joined(separator: ",")
    }

    /// The command of one node that brings `image` there; where the secret comes from, the node's number and the
    /// addresses follow.
    func receiving(_ image: StoredImage, into store: String, nodes: [String], port: UInt16) -> [String] {
        var words = [
            program, "image", "receive", "--nodes", nodes.joined(separator: ","), "--port", "\(port)", "--digest",
            image.record.manifest.digest.description, "--to", store, "--name", image.name,
        ]
        // Where a policy asks for them, the nodes have no registry to ask.
        let kept = ImageStore(.current()).signatures(of: image)
        if let text = KeptSignature.base64(kept) { words += ["--signatures", text] }
        return words
    }

    func end() { server.end(SIGTERM) }
}

/// The port that a served registry says it has.
enum SpreadPort {
    static func read(_ server: HelperProcess) throws(SyscallError) -> Int {
        var text = ""
        for _ in 0..<300 {
            var polled = pollfd(fd: server.output, events: Int16(POLLIN), revents: 0)
            if server.output < 0 { break }
            poll(&polled, 1, 100)
            text += String(decoding: server.readOutput(), as: UTF8.self)
            guard let end = text.firstIndex(of: "\n") else { continue }
            if let port = text[..<end].split(separator: ":").last.flatMap({ Int($0) }) { return port }
            break
        }
        throw SyscallError("bind", "the registry for the other nodes: \(text.prefix(200))", errno: EADDRNOTAVAIL)
    }
}
