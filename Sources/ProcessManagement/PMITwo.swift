/// PMI-2's spelling: a length of six characters, then `key=value;` words (MPICH wiki, "PMI-2 wire protocol";
/// Slurm's libpmi2 speaks it too).
enum PMITwo {
    static func request(_ words: PMIWords) -> PMIRequest {
        PMIRequest(verb: verb(words), thread: words["thrid"])
    }

    private static func verb(_ words: PMIWords) -> PMIRequest.Verb {
        func key() -> [UInt8] { words["key"] ?? [] }
        func entry() -> KeySpace.Entry { KeySpace.Entry(key: key(), value: words["value"] ?? []) }
        return switch words.command {
        case "fullinit": .initialize
        case "job-getid": .fact(.name)
        case "kvs-put": .put(entry())
        case "kvs-get": .get(key())
        case "kvs-fence": .barrier
        case "info-putnodeattr": .putNodeAttribute(entry())
        case "info-getnodeattr": .getNodeAttribute(key(), waits: words.text("wait")?.uppercased() == "TRUE")
        case "info-getjobattr": .getJobAttribute(key())
        case "finalize": .finalize
        case "abort": .abort(code: 1, message: words.text("msg") ?? "")
        case let other: .unsupported(other)
        }
    }

    static func barrierLeft(_ request: PMIRequest) -> [UInt8] { frame("kvs-fence-response", request, [("rc", "0")]) }

    static func encode(_ reply: PMIReply) -> [UInt8]? {
        switch reply {
        case .greeting: nil
        case .initialized(let rank, let job, let request):
            frame(
                "fullinit-response", request,
                [
                    ("pmi-version", "2"), ("pmi-subversion", "0"), ("rank", "\(rank)"), ("size", "\(job.size)"),
                    ("appnum", "0"), ("debugged", "FALSE"), ("pmiverbose", "0"), ("rc", "0"),
                ])
        case .fact(_, let job, let request):
            frame("job-getid-response", request, [("jobid", job.name), ("rc", "0")])
        case .stored(let request):
            if case .putNodeAttribute = request.verb {
                frame("info-putnodeattr-response", request, [("rc", "0")])
            } else {
                frame("kvs-put-response", request, [("rc", "0")])
            }
        case .value(let value, let request): found(value, request)
        case .unsupported(let what, let request):
            frame(what + "-response", request, [("rc", "1"), ("errmsg", "not supported")])
        case .finalized(let request): frame("finalize-response", request, [("rc", "0")])
        }
    }

    private static func found(_ value: [UInt8]?, _ request: PMIRequest) -> [UInt8] {
        let name =
            switch request.verb {
            case .getNodeAttribute: "info-getnodeattr-response"
            case .getJobAttribute: "info-getjobattr-response"
            default: "kvs-get-response"
            }
        guard let value else { return frame(name, request, [("flag", "FALSE"), ("rc", "0")]) }
        return frame(name, request, [("flag", "TRUE")], value: value, [("rc", "0")])
    }

    /// - Parameter value: bytes of a rank, which need not be text; put between the two lists.
    private static func frame(
        _ command: String, _ request: PMIRequest, _ words: [(String, String)], value: [UInt8]? = nil,
        _ last: [(String, String)] = []
    ) -> [UInt8] {
        var body = Array("cmd=\(command);".utf8)
        func append(_ key: String, _ value: [UInt8]) {
            body += Array("\(key)=".utf8)
            for byte in value { body += byte == semicolon ? [semicolon, semicolon] : [byte] }
            body.append(semicolon)
        }
        if let thread = request.thread { append("thrid", thread) }
        for (key, text) in words { append(key, Array(text.utf8)) }
        if let value { append("value", value) }
        for (key, text) in last { append(key, Array(text.utf8)) }
        let digits = Array("\(body.count)".utf8)
        return digits + Array(repeating: UInt8(ascii: " "), count: max(0, 6 - digits.count)) + body
    }

    private static let semicolon = UInt8(ascii: ";")
}
