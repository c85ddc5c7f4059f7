import JobModel

/// Numbers of the kinds; never reused.
private enum Kind {
    static let hello: UInt16 = 1
    static let job: UInt16 = 2
    static let ready: UInt16 = 3
    static let failed: UInt16 = 4
    static let launch: UInt16 = 5
    static let launched: UInt16 = 6
    static let refused: UInt16 = 7
    static let output: UInt16 = 8
    static let exited: UInt16 = 9
    static let input: UInt16 = 10
    static let consumed: UInt16 = 11
    static let remote: UInt16 = 12
    static let hangUp: UInt16 = 13
    static let rankStarted: UInt16 = 14
    static let rankExited: UInt16 = 15
    static let rankRefused: UInt16 = 16
    static let signal: UInt16 = 17
    static let stop: UInt16 = 18
    static let empty: UInt16 = 19
    static let ping: UInt16 = 20
    static let pong: UInt16 = 21
    static let release: UInt16 = 22
    static let rankJoining: UInt16 = 23
    static let node: UInt16 = 24
    static let rankOutput: UInt16 = 25
    static let fence: UInt16 = 26
    static let fenceDone: UInt16 = 27
    static let modexWanted: UInt16 = 28
    static let modex: UInt16 = 29
    static let wired: UInt16 = 30
    static let memoryKills: UInt16 = 31
    static let rankUsage: UInt16 = 40
    static let suspend: UInt16 = 41
    static let control: UInt16 = 42
    static let answer: UInt16 = 43
    static let window: UInt16 = 44
    static let update: UInt16 = 45
    static let updated: UInt16 = 46
    static let nodeUsage: UInt16 = 47
    static let taken: UInt16 = 48
    static let names: UInt16 = 49
    static let imageWanted: UInt16 = 60
    static let fetchImage: UInt16 = 61
    static let imageSettled: UInt16 = 62
    static let imageFetched: UInt16 = 63
}

extension WireMessage {
    package var frame: Frame {
        var w = WireWriter()
        func made(_ kind: UInt16, _ channel: UInt32 = 0) -> Frame {
            Frame(kind: kind, channel: channel, payload: w.bytes)
        }
        switch self {
        case .hello(let node, let index, let key):
            w.put(node)
            w.put(index)
            w.put(key)
            return made(Kind.hello)
        case .job(let job):
            job.write(to: &w)
            return made(Kind.job)
        case .ready(let signature):
            w.put(signature)
            return made(Kind.ready)
        case .failed(let step, let errno, let subject):
            w.put(step)
            w.put(errno)
            w.put(subject)
            return made(Kind.failed)
        case .launch(let channel, let launch):
            w.put(launch.arguments)
            w.put(launch.environment)
            w.put(launch.rank)
            w.put(launch.takesInput ? 1 : 0)
            w.put(launch.wireUp.number)
            w.put(launch.wireUp.library)
            w.put(launch.hasWindow ? 1 : 0)
            w.put(launch.terminal)
            return made(Kind.launch, channel)
        case .launched(let channel, let pid):
            w.put(pid)
            return made(Kind.launched, channel)
        case .refused(let channel, let errno, let subject):
            w.put(errno)
            w.put(subject)
            return made(Kind.refused, channel)
        case .output(let channel, let stream, let bytes):
            w.put(stream)
            w.put(bytes)
            return made(Kind.output, channel)
        case .input(let channel, let bytes):
            w.put(bytes)
            return made(Kind.input, channel)
        default: return smallFrame
        }
    }

    private var smallFrame: Frame {
        var w = WireWriter()
        func made(_ kind: UInt16, _ channel: UInt32 = 0) -> Frame {
            Frame(kind: kind, channel: channel, payload: w.bytes)
        }
        switch self {
        case .exited(let channel, let status):
            w.put(status)
            return made(Kind.exited, channel)
        case .consumed(let channel, let count):
            w.put(count)
            return made(Kind.consumed, channel)
        case .remote(let channel, let command):
            w.put(command.host)
            w.put(command.others.map { Array($0.utf8) })
            w.put(command.line)
            w.put(command.takesInput ? 1 : 0)
            w.put(command.terminal)
            return made(Kind.remote, channel)
        case .taken(let channel, let count):
            w.put(count)
            return made(Kind.taken, channel)
        case .names(let names):
            w.put(names.map { Array($0.utf8) })
            return made(Kind.names)
        case .hangUp(let channel): return made(Kind.hangUp, channel)
        case .rankStarted(let rank, let size, let pid):
            w.put(rank)
            w.put(size)
            w.put(pid)
            return made(Kind.rankStarted)
        case .rankExited(let rank, let status):
            w.put(rank)
            w.put(status)
            return made(Kind.rankExited)
        case .rankRefused(let rank, let errno, let reason):
            w.put(rank)
            w.put(errno)
            w.put(reason)
            return made(Kind.rankRefused)
        case .signal(let number):
            w.put(number)
            return made(Kind.signal)
        case .stop(let grace):
            w.put(grace)
            return made(Kind.stop)
        case .empty(let unkillable):
            w.put(unkillable)
            return made(Kind.empty)
        case .ping: return made(Kind.ping)
        case .pong: return made(Kind.pong)
        case .release: return made(Kind.release)
        case .rankOutput(let rank, let stream, let bytes):
            w.put(rank)
            w.put(stream)
            w.put(bytes)
            return made(Kind.rankOutput)
        case .fence(let entries):
            w.put(entries)
            return made(Kind.fence)
        case .fenceDone(let entries):
            w.put(entries)
            return made(Kind.fenceDone)
        case .modexWanted(let ticket, let rank):
            w.put(ticket)
            w.put(rank)
            return made(Kind.modexWanted)
        case .modex(let ticket, let status, let bytes):
            w.put(ticket)
            w.put(status)
            w.put(bytes)
            return made(Kind.modex)
        case .rankJoining(let rank):
            w.put(rank)
            return made(Kind.rankJoining)
        case .node(let environment, let size, let store):
            w.put(environment)
            w.put(size)
            w.put(store)
            return made(Kind.node)
        case .rankUsage(let rank, let usage):
            w.put(rank)
            w.put(usage.words)
            return made(Kind.rankUsage)
        case .suspend(let isOn):
            w.put(isOn ? 1 : 0)
            return made(Kind.suspend)
        case .update(let limits):
            w.put(limits)
            return made(Kind.update)
        case .updated(let code, let text):
            w.put(code)
            w.put(text)
            return made(Kind.updated)
        case .wired: return made(Kind.wired)
        case .memoryKills(let kills):
            w.put(kills.rank)
            w.put(kills.isRank ? 1 : 0)
            w.put(kills.count)
            w.put("\(kills.limit)")
            w.put("\(kills.peak)")
            return made(Kind.memoryKills)
        case .nodeUsage(let usage):
            w.put(usage.words)
            return made(Kind.nodeUsage)
        case .window(let size):
            w.put(size.rows)
            w.put(size.columns)
            return made(Kind.window)
        case .control(let words):
            w.put(words)
            return made(Kind.control)
        case .answer(let code, let text):
            w.put(code)
            w.put(text)
            return made(Kind.answer)
        default: return imageFrame
        }
    }

    private var imageFrame: Frame {
        var w = WireWriter()
        switch self {
        case .imageWanted(let path):
            w.put(path)
            return Frame(kind: Kind.imageWanted, payload: w.bytes)
        case .fetchImage(let command, let environment, let plan):
            w.put(command)
            w.put(environment)
            w.put(plan)
            return Frame(kind: Kind.fetchImage, payload: w.bytes)
        case .imageSettled: return Frame(kind: Kind.imageSettled)
        case .imageFetched(let origin):
            w.put(origin)
            return Frame(kind: Kind.imageFetched, payload: w.bytes)
        default: return frame
        }
    }

    /// - Throws: `WireFailure` for an unknown kind or a payload of another shape.
    package init(_ frame: Frame) throws(WireFailure) {
        var r = WireReader(frame)
        let channel = frame.channel
        switch frame.kind {
        case Kind.hello: self = .hello(node: try r.text(), index: try r.number(), key: try r.data())
        case Kind.job: self = .job(try JobAssignment(reading: &r))
        case Kind.ready: self = .ready(signature: try r.data())
        case Kind.failed: self = .failed(step: try r.text(), errno: try r.number(), subject: try r.text())
        case Kind.launch:
            var launch = Launch(
                arguments: try r.list(), environment: try r.list(), rank: try r.number(),
                takesInput: try r.number() != 0,
                wireUp: try WireUp(number: r.number(), library: r.text(), in: frame))
            launch.hasWindow = try r.number() != 0
            launch.terminal = try r.terminal()
            self = .launch(channel: channel, launch)
        case Kind.launched: self = .launched(channel: channel, pid: try r.number())
        case Kind.refused: self = .refused(channel: channel, errno: try r.number(), subject: try r.text())
        case Kind.output: self = .output(channel: channel, stream: try r.number(), bytes: try r.data())
        case Kind.exited: self = .exited(channel: channel, try r.status(frame))
        case Kind.input: self = .input(channel: channel, bytes: try r.data())
        case Kind.consumed: self = .consumed(channel: channel, count: try r.number())
        case Kind.remote:
            self = .remote(
                channel: channel,
                RemoteCommand(
                    host: try r.text(), others: try r.texts(), line: try r.data(), takesInput: try r.number() != 0,
                    terminal: try r.terminal()))
        case Kind.taken: self = .taken(channel: channel, count: try r.number())
        case Kind.names: self = .names(try r.texts())
        case Kind.hangUp: self = .hangUp(channel: channel)
        case Kind.rankStarted:
            self = .rankStarted(rank: try r.number(), size: try r.number(), pid: try r.number())
        case Kind.rankExited: self = .rankExited(rank: try r.number(), try r.status(frame))
        case Kind.rankRefused:
            self = .rankRefused(rank: try r.number(), errno: try r.number(), reason: try r.text())
        case Kind.signal: self = .signal(try r.number())
        case Kind.stop: self = .stop(graceMilliseconds: try r.number())
        case Kind.empty: self = .empty(unkillable: try r.number())
        case Kind.ping: self = .ping
        case Kind.pong: self = .pong
        case Kind.release: self = .release
        case Kind.rankOutput:
            self = .rankOutput(rank: try r.number(), stream: try r.number(), bytes: try r.data())
        case Kind.fence: self = .fence(try r.list())
        case Kind.fenceDone: self = .fenceDone(try r.list())
        case Kind.modexWanted: self = .modexWanted(ticket: try r.number(), rank: try r.number())
        case Kind.wired: self = .wired
        case Kind.memoryKills:
            self = .memoryKills(
                MemoryKills(
                    rank: try r.number(), isRank: try r.number() != 0, count: try r.number(),
                    limit: try r.amount(), peak: try r.amount()))
        case Kind.modex:
            self = .modex(ticket: try r.number(), status: try r.number(), bytes: try r.data())
        case Kind.rankJoining: self = .rankJoining(rank: try r.number())
        case Kind.node: self = .node(environment: try r.list(), size: try r.number(), store: try r.text())
        case Kind.rankUsage: self = .rankUsage(rank: try r.number(), ResourceUsage(words: try r.texts()))
        case Kind.suspend: self = .suspend(try r.number() != 0)
        case Kind.update: self = .update(try r.list())
        case Kind.updated: self = .updated(code: try r.number(), text: try r.data())
        case Kind.nodeUsage: self = .nodeUsage(ResourceUsage(words: try r.texts()))
        case Kind.window: self = .window(TerminalSize(rows: try r.number(), columns: try r.number()))
        case Kind.control: self = .control(try r.list())
        case Kind.answer: self = .answer(code: try r.number(), text: try r.data())
        default: self = try WireMessage(ofImage: frame.kind, &r)
        }
        try r.finish()
    }

    private init(ofImage kind: UInt16, _ r: inout WireReader) throws(WireFailure) {
        switch kind {
        case Kind.imageWanted: self = .imageWanted(path: try r.text())
        case Kind.fetchImage:
            self = .fetchImage(command: try r.list(), environment: try r.list(), plan: try r.data())
        case Kind.imageSettled: self = .imageSettled
        case Kind.imageFetched: self = .imageFetched(origin: try r.text())
        default: throw .unknownKind(kind)
        }
    }
}

extension JobAssignment {
    fileprivate func write(to w: inout WireWriter) {
        w.put(jobID)
        w.put(key)
        w.put(nodeIndex)
        w.put(nodeNames.map { Array($0.utf8) })
        w.put(nodeAddresses.map { Array($0.utf8) })
        w.put(size)
        w.put(ranksPerNode.map { Array("\($0)".utf8) })
        w.put(plan)
        w.put(store)
        w.put(directory)
        w.put(environment)
        w.put(overrides)
        w.put(labelsOutput ? 1 : 0)
        w.put(graceMilliseconds)
        w.put(terminal)
        w.put(isPerSocket ? 1 : 0)
        w.put(isPerProcess ? 1 : 0)
        w.put(offersShell ? 1 : 0)
        w.put(network.map { $0.isShared ? 2 : 1 } ?? 0)
        w.put(network?.identifier ?? 0)
        w.put(network?.prefixLength ?? 0)
        w.put((network?.peers ?? []).map { Array($0.utf8) })
    }

    fileprivate init(reading r: inout WireReader) throws(WireFailure) {
        self.init(
            jobID: try r.text(), key: try r.text(), nodeIndex: try r.number(), nodeNames: try r.texts(),
            nodeAddresses: try r.texts(), size: try r.number(),
            ranksPerNode: try r.texts().map { Int($0) ?? 0 }, plan: try r.data(), store: try r.text(),
            directory: try r.data(), environment: try r.list(), overrides: try r.list(),
            labelsOutput: try r.number() != 0, graceMilliseconds: try r.number())
        terminal = try r.terminal()
        isPerSocket = try r.number() != 0
        isPerProcess = try r.number() != 0
        offersShell = try r.number() != 0
        let kind = try r.number()
        let own = NodeNetwork(
            isShared: kind == 2, identifier: try r.number(), prefixLength: try r.number(), peers: try r.texts())
        network = kind == 0 ? nil : own
    }
}

extension ResourceUsage {
    /// As decimal words: the wire's numbers have 32 bits.
    fileprivate var words: [[UInt8]] {
        [cpuMicroseconds, peakMemory, readBytes, writtenBytes].map { Array("\($0)".utf8) }
    }
    fileprivate init(words: [String]) {
        func number(_ index: Int) -> UInt64 { index < words.count ? UInt64(amount: words[index]) : 0 }
        self.init(cpuMicroseconds: number(0), peakMemory: number(1), readBytes: number(2), writtenBytes: number(3))
    }
}

extension WireWriter {
    fileprivate mutating func put(_ status: ExitStatus) {
        switch status {
        case .exited(let code): put(Int(code))
        // 256 and above cannot be an exit code.
        case .signaled(let number): put(256 + Int(number))
        }
    }
}

extension WireWriter {
    fileprivate mutating func put(_ terminal: TerminalSize?) {
        put(terminal?.rows ?? -1)
        put(terminal?.columns ?? -1)
    }
}

extension UInt64 {
    /// In decimal digits, within what there can be; 0 for anything else.
    fileprivate init(amount text: String) { self = Swift.min(UInt64(text) ?? 0, ResourceUsage.limit) }
}

extension WireReader {
    fileprivate mutating func amount() throws(WireFailure) -> UInt64 { UInt64(amount: try text()) }
    fileprivate mutating func terminal() throws(WireFailure) -> TerminalSize? {
        let size = TerminalSize(rows: try number(), columns: try number())
        return size.rows < 0 ? nil : size
    }
    fileprivate mutating func status(_ frame: Frame) throws(WireFailure) -> ExitStatus {
        switch try number() {
        case let code where (0..<256).contains(code): .exited(Int32(code))
        // signal(7) knows 64; wait(2) has room for 127.
        case let value where (257..<384).contains(value): .signaled(Int32(value - 256))
        default: throw .malformed(frame.kind)
        }
    }
    fileprivate mutating func texts() throws(WireFailure) -> [String] {
        try list().map { String(decoding: $0, as: UTF8.self) }
    }
}

extension WireUp {
    fileprivate var number: Int {
        switch self {
        case .none: 0
        case .pmi: 1
        case .pmix: 2
        }
    }
    fileprivate var library: String { if case .pmix(let library) = self { library } else { "" } }
    fileprivate init(number: Int, library: String, in frame: Frame) throws(WireFailure) {
        switch number {
        case 0: self = .none
        case 1: self = .pmi
        case 2: self = .pmix(library: library)
        default: throw .malformed(frame.kind)
        }
    }
}
