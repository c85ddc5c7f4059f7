import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import JobModel
import LinuxSystem
import NodeAgent
import OCIModel
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
                remedies: ["salloc -N 4 trireme image spread \(image)", "--hostfile FILE"])
        }
        let start = MonotonicTime.now()
        let nodes = allocation.nodes.map(\.name)
        let source: HelperProcess
        let fan: FanOut
        do throws(SyscallError) {
            let program = try SiteProgram.path("trireme-cli")
            source = try HelperProcess(
                [program, "registry", "serve", "-q", "--address", "0.0.0.0:0", "--read-only"],
                environment: EnvironmentBlock.current())
            let served = try SpreadPort.read(source)
            let addresses = TCPSocket.ownAddresses().map { "\($0):\(served)" }.joined(separator: ",")
            let start = AgentStart(
                nodes: nodes, jobID: allocation.jobID,
                command: [
                    program, "image", "receive", "--nodes", nodes.joined(separator: ","), "--port",
                    "\(port ?? UInt16.random(in: 20000...29999))", "--digest",
                    found.record.manifest.digest.description, "--to", to ?? locations.store, "--name", found.name, "--",
                ], addresses: addresses, here: HostName.current)
            let commands =
                Detection.manager(named: allocation.system)?.fanOut(start, in: .current)
                ?? [FanOutCommand(words: start.words(for: 0), secret: .environment)]
            if commands.contains(where: { $0.secret == .file }) { try FanOut.makeDirectory(locations.state) }
            fan = try FanOut(commands, secret: "-", secretFile: locations.state + "/spread.secret")
        } catch {
            throw Diagnostic(DiagnosticCode("spread-failed"), found.name, reasons: [error.sentence])
        }
        defer {
            source.end(SIGTERM)
            fan.end(SIGTERM)
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
        let deadline = MonotonicTime.now() + timeout * 1000
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
                    if words.count == 3, words[0] == ImageReceive.done, let number = Int(words[1]),
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
