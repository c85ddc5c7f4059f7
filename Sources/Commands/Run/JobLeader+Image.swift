import Diagnostics
import Glibc
import ImageStore
import JobModel
import JobWire
import LaunchPlan
import LinuxSystem
import NodeAgent
import Orchestrator
import Processes
import Telemetry

/// The job's image on its way to nodes whose stores lack it: the first has it from here, the others from nodes
/// that have it or still receive it (`ImageReceive`).
final class JobImageSpread {
    /// Nodes without it, and the first part of it that is missing there.
    var wanting: [Int: String] = [:]
    /// Nodes whose container stands.
    var ready: Set<Int> = []
    fileprivate(set) var source: ImageSource?
    /// When the first node asked.
    fileprivate var start = 0
    fileprivate var fetched = 0

    /// What is added to the time nodes have to join: a large image takes its time.
    fileprivate static let milliseconds = 30 * 60 * 1000
}

extension JobLeader {
    /// A node's store lacks the image. What it takes is known when all have spoken: then nobody waits for a node
    /// that has no need.
    func imageWanted(_ node: Int, _ path: String) {
        if image.wanting.isEmpty { image.start = MonotonicTime.now() }
        image.wanting[node] = path
        considerSpread()
    }

    func considerSpread() {
        guard !image.wanting.isEmpty, image.source == nil,
            image.wanting.count + image.ready.count == job.map.nodes.count
        else { return }
        do throws(Diagnostic) { try spreadImage() } catch {
            act(machine.handle(.refused(code: ExitCode.ownFailure, error), now: MonotonicTime.now()))
        }
    }

    private func spreadImage() throws(Diagnostic) {
        let nodes = image.wanting.keys.sorted()
        let names = HostList(nodes.map(machine.nodeName)).description
        let found = container.image
        let plan = try planForOwnStores(names)
        do throws(SyscallError) {
            let source = try ImageSource(secret: RandomBytes.make(32))
            image.source = source
            let command = source.receiving(
                found, into: container.store, nodes: nodes.map { agents[$0]?.address ?? "" },
                port: UInt16.random(in: 20000...29999))
            let environment = [
                EnvironmentBlock.entry(AgentProgram.secretVariable, RandomBytes.hex(source.secret))
            ]
            for (place, node) in nodes.enumerated() {
                let words = command + ["--", "\(place)", source.addresses]
                agents[node]?.connection.send(
                    .fetchImage(command: words.map { Array($0.utf8) }, environment: environment, plan: plan))
            }
        } catch {
            throw Diagnostic(DiagnosticCode("spread-failed"), names, reasons: [error.sentence])
        }
        machine.setup.joinTimeoutMilliseconds += JobImageSpread.milliseconds
        if !isQuiet { note("\(found.name) is not on \(names): bringing it there") }
    }

    /// The job's plan for nodes that have the image in their first store, where ours is in a site's; empty when it
    /// is the same.
    private func planForOwnStores(_ nodes: String) throws(Diagnostic) -> [UInt8] {
        var plan = container.plan
        guard plan.layers.contains(where: { $0.hasPrefix("/") }) else { return [] }
        let root = container.image.layout.root + "/"
        guard plan.layers.allSatisfy({ $0.hasPrefix(root) }) else {
            throw Diagnostic(
                DiagnosticCode("spread-failed"), nodes,
                reasons: ["there is no \(image.wanting.values.min() ?? container.image.name)"],
                remedies: [
                    "use a directory that all nodes share",
                    "trireme image import makes an image of it, which is brought",
                ])
        }
        plan.layers = plan.layers.map { String($0.dropFirst(root.count)) }
        do throws(LaunchPlanError) { return try plan.encoded() } catch {
            throw Diagnostic(DiagnosticCode("spread-failed"), nodes, reasons: ["\(error)"])
        }
    }

    func imageFetched(_ node: Int, from origin: String) {
        image.fetched += 1
        recordEvent(.message, text: "\(machine.nodeName(node)): \(container.image.name) from \(origin)")
        guard image.fetched == image.wanting.count, !isQuiet else { return }
        let tenths = (MonotonicTime.now() - image.start) / 100
        note("\(container.image.name): on \(image.fetched) more nodes after \(tenths / 10).\(tenths % 10) s")
    }

    /// Every node has it, or the job ends.
    func endSpread() {
        guard let source = image.source else { return }
        sendToAll(.imageSettled)
        source.end()
    }

    func spreadFailure(_ node: Int, _ errno: Int, _ subject: String) -> Diagnostic {
        let cause = errno == 0 ? subject : "\(subject): \(SyscallError("x", errno: Int32(errno)).reason)"
        return Diagnostic(
            DiagnosticCode("spread-failed"), machine.nodeName(node),
            reasons: ["\(container.image.name) did not come into the node's store \(container.store)", cause],
            remedies: [
                "a store that all nodes share, or that has the image: TRIREME_STORE",
                "trireme image spread \(container.image.name) tries it without the job",
            ])
    }
}
