import ContainerRuntime
import Diagnostics
import EtcdStore
import Glibc
import ImageStore
import JobModel
import JobNetwork
import JobWire
import LaunchPlan
import LinuxSystem
import OCIModel
import Orchestrator
import Processes
import SiteConfiguration
import Telemetry

/// The job's record: what happened, written down as it happens.
extension JobLeader {
    /// Makes the record and lets controllers in. A job whose record cannot be written runs all the same;
    /// that is said once.
    func beginRecord(secret: [UInt8], port: UInt16) {
        let directory = JobRecords.directory + "/" + job.id
        do throws(SyscallError) {
            try FanOut.makeDirectory(directory)
            let record = try JobRecord(
                in: directory,
                limits: JobRecord.OutputLimits(
                    setting: getenv("TRIREME_RECORD_OUTPUT").map { String(cString: $0) }))
            var created = JobEvent(.jobCreated)
            created.job = facts
            record.add(created)
            self.record = record
            try ControlAddress(
                addresses: TCPSocket.ownAddresses().map { "\($0):\(port)" }, secret: RandomBytes.hex(secret), etcd: etcd
            ).write(to: directory)
        } catch { complain(error) }
        machine.keepsJournal = true
        recordEvent(
            .allocationRead, text: "\(allocation.system) \(allocation.jobID): \(HostList(allocation.nodes.map(\.name)))"
        )
        recordEvent(.imageChecked, text: "\(container.image.name) \(container.image.record.manifest.digest)")
        if let subnet { recordEvent(.networkReserved, text: subnet.subnet.text) }
    }

    func endRecord() {
        // A store that never answered was spoken of.
        if let store, let etcd = store.etcd, !etcd.finish(milliseconds: 2000), store.toldFault == nil {
            note("the store of --kvs was not told of the job's end: \(etcd.fault?.reason ?? "it does not answer")")
        }
        for controller in controllers { controller.connection.flush() }
        record?.close()
        if let failure = record?.failure { complain(failure) }
        record = nil
        // The loop is over: what was said here would stay with us.
        streams.drain(milliseconds: 1000)
    }

    private func complain(_ failure: SyscallError) {
        let diagnostic = Diagnostic(
            DiagnosticCode("record-unwritable"), job.id,
            reasons: ["the job runs, but 'trireme job' will not know all of it", failure.sentence],
            remedies: ["XDG_STATE_HOME=DIRECTORY puts the records elsewhere"])
        streams.add(2, Array(diagnostic.rendered().utf8))
    }

    private var facts: JobFacts {
        let user = getpwuid(geteuid()).map { String(cString: $0.pointee.pw_name) } ?? "\(geteuid())"
        let directory = getcwd(nil, 0)
        defer { free(directory) }
        let launcher =
            switch rankStart {
            case .direct: "direct"
            case .launcher: "mpirun"
            case .step: "srun"
            }
        return JobFacts(
            id: job.id, image: container.image.name, digest: container.image.record.manifest.digest.description,
            command: job.parts.map(\.command).joined(separator: [Array(":".utf8)]).map {
                String(decoding: $0, as: UTF8.self)
            }, model: job.model.rawValue,
            launcher: launcher, system: allocation.system, allocation: allocation.jobID,
            nodes: job.map.nodes.map { JobFacts.Node(name: $0.name, ranks: $0.tasks) },
            directory: directory.map { String(cString: $0) } ?? "", user: user,
            injected: container.plan.mounts.filter { !$0.isTemporary && !$0.isUserRequest }.map(\.destination),
            labelsOutput: job.labelsOutput, leader: .own(host: HostName.current))
    }

    // MARK: Events

    func recordEvent(
        _ kind: JobEvent.Kind, node: Int? = nil, rank: Int? = nil, text: String? = nil, code: String? = nil,
        status: ExitStatus? = nil, count: Int? = nil, usage: ResourceUsage? = nil
    ) {
        guard let record else { return }
        var event = JobEvent(kind)
        event.node = node.map { machine.nodeName($0) }
        event.rank = rank
        event.text = text
        event.code = code
        event.exitCode = status?.code
        if case .signaled(let number)? = status { event.signal = number }
        event.count = count
        event.usage = usage
        record.add(event)
    }

    /// What a rank wrote goes to our own streams, into the record, and to those attached.
    func deliver(_ bytes: [UInt8], rank: Int, stream: Int) {
        rankWrote(rank, stream, bytes)
        record?.keep(bytes, rank: rank, stream: stream)
        passToAttached(bytes, rank: rank, stream: stream)
    }

    /// Writes down what the state machine heard since the last time and what it decided.
    func recordJournal(_ effects: [JobStateMachine.Effect]) {
        for event in machine.journal { recordHeard(event) }
        machine.journal.removeAll(keepingCapacity: true)
        for effect in effects {
            switch effect {
            case .begin:
                recordEvent(.rendezvousComplete, count: job.map.nodes.count)
                recordEvent(.applicationStarted, text: facts.launcher)
            case .stop(let grace): recordEvent(.stopping, text: "grace \(Double(grace) / 1000) s")
            case .report(let diagnostic):
                let text = ([diagnostic.subject] + diagnostic.reasons).filter { !$0.isEmpty }
                recordEvent(.diagnostic, text: text.joined(separator: ": "), code: diagnostic.code.rawValue)
            case .finish(let code):
                recordEvent(.teardownDone)
                recordEvent(.jobEnded, status: .exited(code))
            case .prepare, .announce, .showState, .endFanOut: break
            }
        }
    }

    private func recordHeard(_ event: JobStateMachine.Event) {
        switch event {
        case .agentJoined(let node):
            store?.register(
                node, name: machine.nodeName(node), address: agents[node]?.address ?? "",
                key: agents[node]?.publicKey ?? [],
                image: container.image.record.manifest.digest.description)
            recordEvent(.nodeJoined, node: node, text: agents[node]?.address)
        case .agentReady(let node):
            recordEvent(.nodePrepared, node: node)
            recordEvent(.containerStarted, node: node)
        case .agentFailed(let node, let diagnostic):
            recordEvent(.nodeFailed, node: node, text: diagnostic.reasons.joined(separator: ": "))
        case .agentEmpty(let node, let unkillable): recordEvent(.nodeEmpty, node: node, count: unkillable)
        case .agentLost(let node): recordEvent(.nodeLost, node: node)
        case .rankStarted(let rank): recordEvent(.rankStarted, node: job.map.place(of: rank)?.node, rank: rank)
        case .rankExited(let rank, let status):
            recordEvent(.rankExited, node: job.map.place(of: rank)?.node, rank: rank, status: status)
        case .rankRefused(let rank, let code, _):
            recordEvent(.rankExited, node: job.map.place(of: rank)?.node, rank: rank, status: .exited(code))
        case .launcherExited(let status): recordEvent(.launcherExited, status: status)
        case .interrupted: recordEvent(.interrupted)
        case .terminated(let signal): recordEvent(.terminated, status: .signaled(signal))
        case .fanOutExited, .refused, .timePassed: break
        }
    }
}

/// Where the records of jobs are.
enum JobRecords {
    static var directory: String { Locations.current().state + "/jobs" }
}
