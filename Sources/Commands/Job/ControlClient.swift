import Diagnostics
import Glibc
import JobWire
import LinuxSystem
import Processes
import Telemetry
import VirtualCluster

/// A connection to the leader of a running job, from any node that reaches it.
final class ControlClient {
    let connection: Connection
    private let id: String
    /// What came together with an answer: the output somebody asked for.
    private var early: [WireMessage] = []

    private static let answerMilliseconds = 10_000

    /// - Throws: a diagnostic when the job has ended or its leader cannot be reached.
    init(_ reader: JobRecordReader) throws(Diagnostic) {
        id = reader.id
        let job = try JobFinder.summary(reader)
        guard job.state != .ended, job.state != .lost, let place = ControlAddress(reading: reader.directory),
            let secret = RandomBytes.unhex(place.secret)
        else {
            let how = job.state == .ended ? "it has ended with exit code \(job.exitCode ?? 0)" : "its leader is gone"
            throw Diagnostic(
                DiagnosticCode("job-not-running"), reader.id, reasons: [how],
                remedies: ["trireme job show \(reader.id)"])
        }
        var failures: [String] = []
        for address in place.addresses {
            do throws(SyscallError) {
                connection = try Self.connect(Self.socket(to: address, in: place.cluster), address, secret)
                return
            } catch { failures.append(error.sentence) }
        }
        throw Diagnostic(
            DiagnosticCode("job-not-running"), reader.id,
            reasons: ["its leader on \(job.facts.leader.host) does not answer"] + failures.prefix(1),
            remedies: ["ask from \(job.facts.leader.host)", "trireme job show \(reader.id)"])
    }

    /// A job in a virtual cluster is reached through its controller's network, which nobody outside shares.
    private static func socket(to address: String, in cluster: String?) throws(SyscallError) -> OwnedDescriptor {
        if let cluster, cluster != ClusterRecord.surrounding(),
            let controller = (try? ClusterCommand.registry.running(cluster))?.node(named: ClusterNode.controllerAlias)
        {
            return try controller.socket { () throws(SyscallError) in
                try TCPSocket.connect(address, milliseconds: connectMilliseconds)
            }
        }
        return try TCPSocket.connect(address, milliseconds: connectMilliseconds)
    }

    private static let connectMilliseconds: Int32 = 3000

    private static func connect(
        _ socket: consuming OwnedDescriptor, _ address: String, _ secret: [UInt8]
    ) throws(SyscallError) -> Connection {
        let connection = Connection(
            socket,
            handshake: Handshake(.agent, secret: secret, nonce: RandomBytes.make(Handshake.nonceBytes)))
        let deadline = MonotonicTime.now() + answerMilliseconds
        while true {
            connection.flush()
            if connection.isAuthenticated, !connection.wantsWrite { return connection }
            if connection.isClosed || MonotonicTime.now() > deadline {
                throw SyscallError("connect", address, errno: ECONNREFUSED)
            }
            var slot = pollfd(
                fd: connection.descriptor.raw, events: Int16(POLLIN | (connection.wantsWrite ? POLLOUT : 0)), revents: 0
            )
            guard poll(&slot, 1, 500) > 0 else { continue }
            do throws(WireFailure) { _ = try connection.receive() } catch {
                throw SyscallError("connect", address, errno: EACCES)
            }
        }
    }

    /// Asks, and returns the answer's text.
    /// - Throws: a diagnostic with the leader's reason when it refuses.
    @discardableResult
    func ask(_ words: [String]) throws(Diagnostic) -> [UInt8] {
        connection.send(.control(words.map { Array($0.utf8) }))
        let deadline = MonotonicTime.now() + Self.answerMilliseconds
        var reply: [UInt8]?
        while MonotonicTime.now() < deadline, !connection.isClosed {
            for message in try fresh(milliseconds: 500) {
                guard case .answer(let code, let text) = message else {
                    early.append(message)
                    continue
                }
                if code == 0 {
                    reply = text
                    continue
                }
                throw Diagnostic(
                    DiagnosticCode("job-refused"), "\(words.first ?? "") \(id)",
                    reasons: [String(decoding: text, as: UTF8.self)])
            }
            if let reply { return reply }
        }
        throw lost("its leader did not answer")
    }

    /// What came within that time.
    func receive(milliseconds: Int32) throws(Diagnostic) -> [WireMessage] {
        if !early.isEmpty {
            defer { early = [] }
            return early
        }
        return try fresh(milliseconds: milliseconds)
    }

    private func fresh(milliseconds: Int32) throws(Diagnostic) -> [WireMessage] {
        connection.flush()
        var slot = pollfd(
            fd: connection.descriptor.raw, events: Int16(POLLIN | (connection.wantsWrite ? POLLOUT : 0)), revents: 0)
        guard poll(&slot, 1, milliseconds) > 0 else { return [] }
        connection.flush()
        do throws(WireFailure) { return try connection.receive() } catch { throw lost("its leader speaks otherwise") }
    }

    private func lost(_ reason: String) -> Diagnostic {
        Diagnostic(DiagnosticCode("job-not-running"), id, reasons: [reason], remedies: ["trireme job show \(id)"])
    }
}
