import CoordinationStore
import Diagnostics
import EtcdStore
import Glibc
import JobModel
import JobWire
import LinuxSystem
import NodeAgent
import Orchestrator
import Processes

/// The job's keys: in the leader's own store always, in the site's etcd too when one was named.
final class JobStore {
    let keys: JobKeys
    private(set) var embedded: EmbeddedStore
    let etcd: EtcdSession?
    private var leases: [Int: Int64] = [:]
    /// Nodes whose READY etcd has not shown yet.
    private var awaited: Set<Int> = []
    /// The fault that was told to the user last.
    var toldFault: StoreFault?

    /// Four pings of the leader.
    private static let leaseSeconds = 20

    init(job: String, etcd settings: EtcdSettings?) throws(StoreFault) {
        keys = JobKeys(job: job)
        embedded = EmbeddedStore(now: MonotonicTime.now())
        etcd = if let settings { try EtcdSession(settings, prefix: JobKeys(job: job).prefix) } else { nil }
        put(keys.finish, "FALSE", lease: 0)
    }

    private func put(_ key: String, _ value: String, lease: Int64) {
        embedded.put(key, value, lease: lease)
        etcd?.put(key, value)
    }

    func register(_ node: Int, name: String, address: String, key: [UInt8], image: String) {
        let lease = embedded.grant(seconds: Self.leaseSeconds)
        leases[node] = lease
        put(keys.address(name), address, lease: lease)
        put(keys.publicKey(name), "ed25519 " + RandomBytes.hex(key), lease: lease)
        put(keys.image(name), image, lease: lease)
        put(keys.ready(name), "False", lease: lease)
    }

    /// - Returns: whether the node may be counted at once; else `confirmed` names it later.
    func makeReady(_ node: Int, name: String) -> Bool {
        put(keys.ready(name), "True", lease: leases[node] ?? 0)
        if etcd == nil { return true }
        awaited.insert(node)
        return false
    }

    /// Nodes whose readiness etcd shows by now, each named once.
    func confirmed(_ name: (Int) -> String) -> [Int] {
        guard let etcd, !awaited.isEmpty else { return [] }
        let visible = etcd.visible
        let found = awaited.filter { visible[keys.ready(name($0))] == "True" }.sorted()
        awaited.subtract(found)
        return found
    }
    var isAwaiting: Bool { !awaited.isEmpty }

    /// Renews the leases of nodes heard of, lets the others end.
    func tend(heard: (Int) -> Bool) {
        embedded.advance(to: MonotonicTime.now())
        for (node, lease) in leases where heard(node) { _ = embedded.renew(lease) }
    }

    func finish(_ code: Int32) { put(keys.finish, "\(code)", lease: 0) }
}

extension JobLeader {
    func openStore() throws(Diagnostic) {
        do throws(StoreFault) { store = try JobStore(job: job.id, etcd: etcd) } catch {
            throw unreachable(error)
        }
    }

    private func unreachable(_ fault: StoreFault) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("store-unreachable"), "--kvs", reasons: [fault.reason],
            remedies: ["without --kvs the job's leader keeps the keys"])
    }

    /// Waiting for the join time-out would only hide why.
    private func refuseStore(_ fault: StoreFault) {
        act(machine.handle(.refused(code: ExitCode.ownFailure, unreachable(fault)), now: MonotonicTime.now()))
    }

    /// A node's container stands. It counts when the store shows it.
    func heardReady(_ node: Int, signature: [UInt8]) {
        let statement = NodeIdentity.readiness(key: key, node: node)
        guard let link = agents[node], NodeIdentity.isValid(signature, of: statement, by: link.publicKey) else {
            agents[node]?.connection.close()
            return
        }
        image.ready.insert(node)
        considerSpread()
        if store?.makeReady(node, name: machine.nodeName(node)) ?? true { countReady(node) }
    }

    private func countReady(_ node: Int) { act(machine.handle(.agentReady(node: node), now: MonotonicTime.now())) }

    /// Once per turn of the loop.
    func tendStore() {
        guard let store else { return }
        let now = MonotonicTime.now()
        store.tend { node in
            agents[node].map { !$0.connection.isClosed && now - $0.lastHeard < 2 * Agent.leaderSilenceMilliseconds / 3 }
                ?? false
        }
        store.etcd?.acknowledge()
        for node in store.confirmed(machine.nodeName) { countReady(node) }
        if let fault = store.etcd?.fault, machine.phase == .joining, store.toldFault == nil,
            fault.isPermanent || now >= storePatience
        {
            store.toldFault = fault
            if fault.isPermanent { return refuseStore(fault) }
            note("the store of --kvs does not answer, trying again: \(fault.reason)")
        }
        tellWatchers()
    }

    /// What a controller asks about the keys.
    func answerStore(_ words: [String], to controller: Controller) -> (code: Int32, text: String) {
        guard let store, words.count > 1, let revision = words.count > 2 ? Int64(words[2]) : 0 else {
            return (EINVAL, "no such question")
        }
        if words[0] == "kvs-watch" {
            controller.watched = (words[1], revision)
            return (0, "")
        }
        return (0, (try? json(store.embedded.list(words[1]), pretty: false)) ?? "[]")
    }

    private func tellWatchers() {
        guard let store else { return }
        for controller in controllers {
            guard let watched = controller.watched, watched.revision < store.embedded.revision else { continue }
            for change in store.embedded.changes(after: watched.revision, watched.prefix) ?? [] {
                let line = (try? json(change, pretty: false)) ?? ""
                controller.connection.send(.output(channel: 0, stream: 1, bytes: Array((line + "\n").utf8)))
            }
            controller.watched?.revision = store.embedded.revision
        }
    }
}
