import CLinux
import Glibc
import JobWire
import LinuxSystem
import Processes

/// The program `trireme-agent`, several in one so that one file bound into a container is enough:
///
///     trireme-agent --serve SECRET INDEX ADDRESS:PORT[,…]        the node's agent (`Agent`)
///     trireme-agent --rank -- CMD [ARG…]                         a rank's shim (`RankShim`)
///     trireme-agent --contained-rank -- CMD [ARG…]               the same, outside of the rank's container
///     trireme-agent [-OPTION…] HOST WORD…                        a launcher's remote shell (`RemoteShell`)
///     ssh [-OPTION…] [USER@]HOST [WORD…]                         by that name: everybody's (`ShellProgram`)
package enum AgentProgram {
    /// Name of the environment variable the secret comes in, where the batch system carries the environment.
    /// SECRET on the command line says where else: `-` for standard input, or a file. Never the secret itself:
    /// anybody can read arguments.
    package static let secretVariable = "TRIREME_JOB_SECRET"

    package static func main(_ arguments: [[UInt8]]) -> Int32 {
        // In a container this is a program of the host among its ranks: what it is, holds and knows is not theirs.
        _ = linux_prctl(ProcessControl.setDumpable, 0, 0, 0, 0)
        StandardDescriptors.occupy()
        let words = Array(arguments.dropFirst())
        if let shell = arguments.first.flatMap(ShellProgram.named) { return ShellProgram.run(shell, words) }
        switch words.first.map({ String(decoding: $0, as: UTF8.self) }) {
        case "--serve": return serve(words.dropFirst().map { String(decoding: $0, as: UTF8.self) })
        case "--rank": return RankShim.run(Array(words.dropFirst()))
        case "--contained-rank": return RankShim.run(Array(words.dropFirst()), isOutside: true)
        default: return RemoteShell.run(words)
        }
    }

    private static func complain(_ text: String) -> Int32 {
        let line = Array("trireme-agent: \(text)\n".utf8)
        _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
        return 125
    }

    private static func serve(_ words: [String]) -> Int32 {
        // What whoever started us had open is not the ranks', be they isolated or not. It stays open here
        // (CLOSE_RANGE_CLOEXEC, Linux 5.11): a starter may take the end of its descriptor for ours.
        let closeOnExec: UInt32 = 4
        if linux_close_range(3, UInt32.max, closeOnExec) != 0 { _ = linux_close_range(3, UInt32.max, 0) }
        guard words.count == 3, let index = Int(words[1]), let secret = jobSecret(words[0]) else {
            return complain(
                words.count == 3 && words[0] != "-"
                    ? "cannot read the job's secret \(words[0]): is that directory shared by the nodes?"
                    : "has no secret of its job: started by hand? 'trireme run -n' starts it")
        }
        signal(SIGPIPE, SIG_IGN)
        DescriptorLimit.raise()
        do throws(SyscallError) {
            try Guard.stand()
            _ = linux_prctl(ProcessControl.setChildSubreaper, 1, 0, 0, 0)
            let handled = [SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT].reduce(UInt64(0)) { $0 | 1 << UInt64($1 - 1) }
            _ = linux_sigprocmask(SIG_BLOCK, handled, nil)
            let signals = try checked("signalfd") {
                linux_signalfd(handled, Int32(O_CLOEXEC) | Int32(O_NONBLOCK))
            }
            try serve(words[2], index: index, secret: secret, signals: signals)
            return 0
        } catch { return complain("cannot reach the job's leader at \(words[2]): \(error.sentence)") }
    }

    /// What an agent tries for, when its leader closes connections before it has said anything on them: it may have
    /// more of them than it has descriptors (`UnprovenPeers`).
    private static let joinMilliseconds = 10_000

    private static func serve(_ addresses: String, index: Int, secret: [UInt8], signals: Int32) throws(SyscallError) {
        let deadline = MonotonicTime.now() + joinMilliseconds
        let identity = NodeIdentity()
        var hasProved = false
        while true {
            let connection: Connection
            do throws(SyscallError) { connection = try join(addresses, secret: secret, until: deadline) } catch {
                // A leader that knew us has gone meanwhile, as leaders do when their job is over.
                if hasProved { return }
                throw error
            }
            hasProved = true
            connection.send(.hello(node: nodeName(), index: index, key: identity.publicKey))
            let agent = Agent(leader: connection, identity: identity, signals: signals)
            agent.run()
            guard agent.wasTurnedAway, MonotonicTime.now() < deadline else { return }
            pauseBeforeRedial()
        }
    }

    /// Connects, again when the connection is closed before both ends have proved themselves.
    private static func join(_ addresses: String, secret: [UInt8], until deadline: Int) throws(SyscallError)
        -> Connection
    {
        while true {
            let connection = Connection(
                try dial(addresses),
                handshake: Handshake(.agent, secret: secret, nonce: RandomBytes.make(Handshake.nonceBytes)))
            if try authenticate(connection, until: deadline) { return connection }
            pauseBeforeRedial()
        }
    }

    /// Agents that were turned away together do not come back together.
    private static func pauseBeforeRedial() { usleep(UInt32.random(in: 50_000...200_000)) }

    /// The secret of the job this process was started for, from where `place` says (see `secretVariable`).
    package static func jobSecret(_ place: String) -> [UInt8]? {
        var text: [UInt8] = []
        if let value = getenv(secretVariable) {
            text = Array(String(cString: value).utf8)
            // The block that the kernel shows as /proc/PID/environ is this process's own memory.
            memset(value, 0x78, strlen(value))
            unsetenv(secretVariable)
        } else {
            let input = place == "-" ? 0 : open(place, O_RDONLY | O_CLOEXEC)
            guard input >= 0 else { return nil }
            defer { if input > 0 { close(input) } }
            // One line; some systems never close the stream they carry.
            var byte: UInt8 = 0
            while text.count < 1024 {
                var slot = pollfd(fd: input, events: Int16(POLLIN), revents: 0)
                guard poll(&slot, 1, 20_000) > 0, read(input, &byte, 1) == 1, byte != 0x0A else { break }
                text.append(byte)
            }
        }
        guard let secret = RandomBytes.unhex(String(decoding: text, as: UTF8.self)), secret.count >= 16 else {
            return nil
        }
        return secret
    }

    /// The batch system's name for this node, else the kernel's.
    private static func nodeName() -> String {
        if let name = getenv("SLURMD_NODENAME") { return String(cString: name) }
        return HostName.current
    }

    /// Connects to the first address that answers; 10 s for all.
    private static func dial(_ addresses: String) throws(SyscallError) -> OwnedDescriptor {
        // The first address is the one that should have worked; the loopback, tried last, says nothing.
        var failure: SyscallError?
        for address in addresses.split(separator: ",") {
            do throws(SyscallError) { return try TCPSocket.connect(String(address), milliseconds: 5000) } catch {
                failure = failure ?? error
            }
        }
        throw failure ?? SyscallError("connect", addresses, errno: EADDRNOTAVAIL)
    }

    /// False when the leader closed the connection and there is time to dial again.
    private static func authenticate(_ connection: Connection, until deadline: Int) throws(SyscallError) -> Bool {
        while !connection.isAuthenticated || connection.wantsWrite {
            connection.flush()
            if MonotonicTime.now() > deadline { throw SyscallError("connect", "the leader", errno: ECONNREFUSED) }
            if connection.isClosed { return false }
            if connection.isAuthenticated, !connection.wantsWrite { return true }
            var slot = pollfd(
                fd: connection.descriptor.raw, events: Int16(connection.wantsWrite ? POLLOUT | POLLIN : POLLIN),
                revents: 0)
            guard poll(&slot, 1, 1000) > 0 else { continue }
            do throws(WireFailure) { _ = try connection.receive() } catch {
                throw SyscallError("connect", "the leader does not know this job's secret", errno: EACCES)
            }
        }
        return !connection.isClosed
    }
}
