/// PMI-1's spelling: a line of blank-separated `key=value` words each way (the "simple" protocol of
/// MPICH's process managers; MPICH wiki, "PMI-1 wire protocol").
enum PMIOne {
    /// What MPICH 4 and Intel MPI take; a business card over several networks needs more than the old 256.
    private static let nameBytes = 256
    private static let keyBytes = 64
    private static let valueBytes = 4096

    static func request(_ words: PMIWords) -> PMIRequest {
        PMIRequest(verb: verb(words))
    }

    private static func verb(_ words: PMIWords) -> PMIRequest.Verb {
        switch words.command {
        case "get_maxes": .fact(.maxima)
        case "get_universe_size": .fact(.universeSize)
        case "get_appnum": .fact(.applicationNumber)
        case "get_my_kvsname": .fact(.name)
        case "put": .put(KeySpace.Entry(key: words["key"] ?? [], value: words["value"] ?? []))
        case "get": .get(words["key"] ?? [])
        case "barrier_in": .barrier
        case "finalize": .finalize
        case "abort": .abort(code: words.text("exitcode").flatMap { Int($0) } ?? 1, message: "")
        case let other: .unsupported(other)
        }
    }

    static func greeting(version: Int) -> [UInt8] {
        line("cmd=response_to_init pmi_version=\(version) pmi_subversion=\(version == 1 ? 1 : 0) rc=0")
    }

    static let barrierLeft = line("cmd=barrier_out rc=0")

    static func encode(_ reply: PMIReply) -> [UInt8]? {
        switch reply {
        case .greeting: greeting(version: 1)
        case .initialized: nil
        case .fact(.maxima, _, _):
            line("cmd=maxes kvsname_max=\(nameBytes) keylen_max=\(keyBytes) vallen_max=\(valueBytes) rc=0")
        case .fact(.universeSize, let job, _): line("cmd=universe_size size=\(job.size) rc=0")
        case .fact(.applicationNumber, _, _): line("cmd=appnum appnum=0 rc=0")
        case .fact(.name, let job, _): line("cmd=my_kvsname kvsname=\(job.name) rc=0")
        case .stored: line("cmd=put_result rc=0 msg=success")
        case .value(let value?, _): Array("cmd=get_result rc=0 msg=success value=".utf8) + value + [newline]
        case .value(nil, _): line("cmd=get_result rc=-1 msg=key_not_found value=unknown")
        case .unsupported(let what, _): line("cmd=\(answerName(what)) rc=-1 msg=not_supported")
        case .finalized: line("cmd=finalize_ack rc=0")
        }
    }

    /// The word a client waits for: an answer under another name would be read as none.
    private static func answerName(_ request: String) -> String {
        switch request {
        case "mcmd:spawn", "spawn": "spawn_result"
        case "publish_name": "publish_result"
        case "unpublish_name": "unpublish_result"
        case "lookup_name": "lookup_result"
        default: request + "_result"
        }
    }

    private static let newline = UInt8(ascii: "\n")
    private static func line(_ text: String) -> [UInt8] { Array(text.utf8) + [newline] }
}
