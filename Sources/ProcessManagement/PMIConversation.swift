/// One rank's connection: which version it speaks, and the bytes of a request that is not whole yet.
package struct PMIConversation: Sendable {
    package struct Fault: Error, Equatable, Sendable { package var reason: String }

    private enum Version { case unknown, one, two }
    private var version = Version.unknown
    private var pending: [UInt8] = []
    private var barrier: PMIRequest?

    /// Keys are at most 64 bytes and values 1 KiB by what we tell; a request far above is an attack or noise.
    private static let requestBytes = 64 << 10

    package init() {}

    /// The whole requests among the bytes received so far.
    package mutating func receive(_ bytes: [UInt8]) throws(Fault) -> [PMIRequest] {
        pending += bytes
        var requests: [PMIRequest] = []
        while let words = version == .two ? try nextFrame() : try nextLine() {
            if version == .unknown {
                requests.append(try greet(words))
            } else {
                requests.append(version == .two ? PMITwo.request(words) : PMIOne.request(words))
            }
        }
        return requests
    }

    /// The first line is PMI-1's in both versions: `cmd=init pmi_version=V pmi_subversion=S`.
    private mutating func greet(_ words: PMIWords) throws(Fault) -> PMIRequest {
        guard words.command == "init" else { throw Fault(reason: "PMI begins with cmd=init, not \(words.command)") }
        version = words.text("pmi_version") == "2" ? .two : .one
        return PMIRequest(verb: .greet)
    }

    private mutating func nextLine() throws(Fault) -> PMIWords? {
        guard let end = pending.firstIndex(of: UInt8(ascii: "\n")) else {
            guard pending.count <= Self.requestBytes else { throw Fault(reason: "a PMI line without end") }
            return nil
        }
        let line = Array(pending[..<end])
        pending.removeFirst(end + 1)
        return PMIWords(line, separator: UInt8(ascii: " "), doubles: false)
    }

    /// Six characters of decimal length, then that many bytes of `key=value;` with `;;` for a semicolon.
    private mutating func nextFrame() throws(Fault) -> PMIWords? {
        guard pending.count >= 6 else { return nil }
        let digits = String(decoding: pending[..<6], as: UTF8.self).filter { $0 != " " && $0 != "\0" }
        guard let length = Int(digits), length > 0, length <= Self.requestBytes else {
            throw Fault(reason: "'\(digits)' is not the length of a PMI-2 request")
        }
        guard pending.count >= 6 + length else { return nil }
        let body = Array(pending[6..<(6 + length)])
        pending.removeFirst(6 + length)
        return PMIWords(body, separator: UInt8(ascii: ";"), doubles: true)
    }

    package mutating func enterBarrier(_ request: PMIRequest) { barrier = request }

    /// The bytes that let the rank go on; nil when it is in no barrier.
    package mutating func barrierLeft() -> [UInt8]? {
        guard let request = barrier else { return nil }
        barrier = nil
        return version == .two ? PMITwo.barrierLeft(request) : PMIOne.barrierLeft
    }

    /// `reply` as this rank's version writes it; nil when the version answers nothing.
    package func encode(_ reply: PMIReply) -> [UInt8]? {
        // The greeting is answered by a line in both versions.
        if reply == .greeting { return PMIOne.greeting(version: version == .two ? 2 : 1) }
        return version == .two ? PMITwo.encode(reply) : PMIOne.encode(reply)
    }
}

/// `key=value` words of a request.
struct PMIWords {
    private var pairs: [(key: String, value: [UInt8])] = []

    /// - Parameter doubles: a doubled separator stands for itself.
    init(_ bytes: [UInt8], separator: UInt8, doubles: Bool) {
        var word: [UInt8] = []
        var index = 0
        func pair(_ word: [UInt8]) -> (String, [UInt8])? {
            guard let equals = word.firstIndex(of: UInt8(ascii: "=")) else { return nil }
            return (String(decoding: word[..<equals], as: UTF8.self), Array(word[(equals + 1)...]))
        }
        while index < bytes.count {
            if bytes[index] == separator {
                if doubles, index + 1 < bytes.count, bytes[index + 1] == separator {
                    word.append(separator)
                    index += 2
                    continue
                }
                if let found = pair(word) { pairs.append(found) }
                word = []
            } else {
                word.append(bytes[index])
            }
            index += 1
        }
        if let found = pair(word) { pairs.append(found) }
    }

    subscript(key: String) -> [UInt8]? { pairs.first { $0.key == key }?.value }
    func text(_ key: String) -> String? { self[key].map { String(decoding: $0, as: UTF8.self) } }
    /// `cmd`, or `mcmd` of a request over several lines.
    var command: String { text("cmd") ?? text("mcmd").map { "mcmd:" + $0 } ?? "" }
}
