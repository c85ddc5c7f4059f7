import Diagnostics
import EtcdStore
import Glibc
import JobModel
import JobWire
import LinuxSystem
import Orchestrator
import Telemetry

/// One `trireme job …` that has proved to know the job's secret.
final class Controller {
    let connection: Connection
    /// Gets the ranks' output, and its input goes to rank 0.
    var isAttached = false
    /// Wants the changes of keys that begin so, after that revision.
    var watched: (prefix: String, revision: Int64)?
    init(_ connection: Connection) { self.connection = connection }
}

/// What other processes of the user may ask of a running job.
extension JobLeader {
    /// - Parameter messages: what it has said so far.
    func admit(_ controller: Controller, _ messages: [WireMessage]) {
        controllers.append(controller)
        for message in messages { take(message, from: controller) }
        controller.connection.flush()
    }

    func hear(_ controller: Controller) {
        controller.connection.flush()
        do throws(WireFailure) {
            for message in try controller.connection.receive() { take(message, from: controller) }
        } catch { controller.connection.close() }
    }

    private func take(_ message: WireMessage, from controller: Controller) {
        switch message {
        case .control(let words): obey(words, from: controller)
        case .input(_, let bytes): takeInput(bytes, from: controller)
        default: controller.connection.close()
        }
    }

    func flushControllers() {
        for controller in controllers {
            controller.connection.flush()
            // A slow reader of ours must not hold the job up: the record has what it misses.
            if controller.connection.isCongested { controller.connection.close() }
        }
        controllers.removeAll { $0.connection.isClosed }
    }

    func passToAttached(_ bytes: [UInt8], rank: Int, stream: Int) {
        for controller in controllers where controller.isAttached {
            controller.connection.send(
                .output(channel: UInt32(bitPattern: Int32(clamping: rank)), stream: stream, bytes: bytes))
        }
    }

    private func takeInput(_ bytes: [UInt8], from controller: Controller) {
        // Its end is its own, not that of the job's input.
        guard controller.isAttached, !bytes.isEmpty, let inputTarget else { return }
        streams.inputAdded(bytes.count)
        agents[inputTarget.node]?.connection.send(.input(channel: inputTarget.channel, bytes: bytes))
    }

    private func obey(_ words: [[UInt8]], from controller: Controller) {
        let words = words.map { String(decoding: $0, as: UTF8.self) }
        let connection = controller.connection
        func answer(_ code: Int32 = 0, _ text: String = "") {
            connection.send(.answer(code: Int(code), text: Array(text.utf8)))
        }
        switch words.first {
        case "cancel":
            let number = words.count > 1 ? Int32(words[1]) ?? 0 : SIGTERM
            guard (1...64).contains(number) else { return answer(EINVAL, "no such signal") }
            answer()
            if isSuspended { setSuspended(false) }
            note("cancelled by 'trireme job cancel'")
            act(machine.handle(.terminated(signal: number), now: MonotonicTime.now()))
        case "signal":
            guard let number = words.count > 1 ? Int32(words[1]) : nil, (1...64).contains(number) else {
                return answer(EINVAL, "no such signal")
            }
            sendToAll(.signal(Int(number)))
            answer()
        case "suspend", "resume":
            guard machine.phase == .running else { return answer(EINVAL, "the job is \(machine.phase)") }
            setSuspended(words[0] == "suspend")
            answer()
        case "update":
            guard machine.phase == .running else { return answer(EINVAL, "the job is \(machine.phase)") }
            do throws(UpdateRefusal) { try beginUpdate(Array(words.dropFirst()), for: controller) } catch {
                answer(error.code, error.reason)
            }
        case "attach":
            controller.isAttached = true
            recordEvent(.attached)
            answer()
        case "kvs-list", "kvs-watch":
            let found = answerStore(words, to: controller)
            answer(found.code, found.text)
        default: answer(ENOSYS, "the job's leader does not know '\(words.first ?? "")'")
        }
    }

    private func setSuspended(_ isOn: Bool) {
        guard isOn != isSuspended else { return }
        isSuspended = isOn
        sendToAll(.suspend(isOn))
        recordEvent(isOn ? .suspended : .resumed)
    }
}

/// Why limits cannot be changed, before any node was asked.
struct UpdateRefusal: Error {
    var code: Int32
    var reason: String
}

/// New limits on their way to the nodes, which are asked one after another's answer.
struct LimitUpdate {
    var limits: [String]
    var controller: Controller
    var awaited: Set<Int>
    var refusals: [(node: Int, code: Int, reason: String)] = []
}

extension JobLeader {
    /// - Parameter words: `NAME=VALUE` of each limit; in front `rank=N` when only that rank's are meant.
    fileprivate func beginUpdate(_ words: [String], for controller: Controller) throws(UpdateRefusal) {
        var limits = words
        var node: Int?
        if let first = words.first, first.hasPrefix("rank=") {
            node = try nodeAlone(Int(first.dropFirst(5)) ?? -1)
            limits.removeFirst()
        }
        let living = agents.filter { !$0.value.connection.isClosed && (node == nil || $0.key == node) }
        guard !living.isEmpty else { throw UpdateRefusal(code: ESRCH, reason: "its node is gone") }
        updates.append(LimitUpdate(limits: limits, controller: controller, awaited: Set(living.keys)))
        for link in living.values { link.connection.send(.update(limits.map { Array($0.utf8) })) }
    }

    /// The node whose container is that rank's alone: a container has one control group, whoever is in it.
    private func nodeAlone(_ rank: Int) throws(UpdateRefusal) -> Int {
        guard let place = job.map.place(of: rank) else {
            throw UpdateRefusal(code: EINVAL, reason: "its ranks are 0 to \(job.map.size - 1)")
        }
        let others = job.map.nodes[place.node].tasks - 1
        guard others == 0 else {
            throw UpdateRefusal(
                code: EOPNOTSUPP,
                reason: "rank \(rank) has no control group of its own: it shares the container of "
                    + "\(machine.nodeName(place.node)) with \(others) other rank\(others == 1 ? "" : "s") "
                    + "(--ntasks-per-node 1 gives each its own; without --rank the limit is that of all)")
        }
        return place.node
    }

    /// Nodes answer in the order they were asked, so an answer belongs to the first that awaits it.
    func heardUpdated(_ node: Int, _ code: Int, _ text: [UInt8]) {
        guard let index = updates.firstIndex(where: { $0.awaited.contains(node) }) else { return }
        updates[index].awaited.remove(node)
        if code != 0 { updates[index].refusals.append((node, code, String(decoding: text, as: UTF8.self))) }
        guard updates[index].awaited.isEmpty else { return }
        let update = updates.remove(at: index)
        guard let refusal = update.refusals.first else {
            recordEvent(.updated, text: update.limits.joined(separator: " "))
            return update.controller.connection.send(.answer(code: 0, text: []))
        }
        // The same reason from many nodes is said once.
        let alike = update.refusals.filter { $0.reason == refusal.reason }.map { machine.nodeName($0.node) }
        update.controller.connection.send(
            .answer(code: refusal.code, text: Array("\(HostList(alike)): \(refusal.reason)".utf8)))
    }
}
