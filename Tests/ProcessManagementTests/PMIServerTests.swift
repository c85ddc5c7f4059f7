import ProcessManagement
import TestSupport
import Testing

@Suite struct PMIServerTests {
    private let job = PMIJob(name: "kvs_7", size: 4, ranksPerNode: [2, 2])

    private func sent(_ effects: [PMIServer.Effect], to rank: Int) -> String {
        effects.reduce("") { text, effect in
            if case .send(rank, let bytes) = effect { text + String(decoding: bytes, as: UTF8.self) } else { text }
        }
    }

    /// A PMI-2 request as a client frames it.
    private func frame(_ body: String) -> [UInt8] {
        let digits = "\(body.utf8.count)"
        return Array((String(repeating: " ", count: 6 - digits.count) + digits + body).utf8)
    }

    private func fence(_ effects: [PMIServer.Effect]) -> [KeySpace.Entry]? {
        for case .fence(let entries) in effects { return entries }
        return nil
    }

    @Test func mappingsAreBlocks() {
        #expect(job.processMapping == "(vector,(0,2,2))")
        #expect(PMIJob(name: "", size: 7, ranksPerNode: [3, 2, 2]).processMapping == "(vector,(0,1,3),(1,2,2))")
    }

    /// Whatever numbers a rank sends, it is answered, or its connection ends.
    @Test func extremesInEveryNumber() {
        for number in ExtremeNumbers.all {
            for text in [
                "cmd=init pmi_version=\(number) pmi_subversion=\(number)", "cmd=abort exitcode=\(number)",
                "cmd=barrier_in count=\(number)", "cmd=getbyidx kvsname=kvs_7 idx=\(number)",
                "mcmd=spawn nprocs=\(number) totspawns=\(number) spawnssofar=\(number)", "cmd=\(number)", number,
            ] {
                var server = PMIServer(job: job, localRanks: [0, 1])
                _ = server.receive(Array((text + "\n").utf8), from: 0)
                _ = server.receive(frame("cmd=fullinit;pmirank=\(number);threaded=\(number);"), from: 1)
                _ = server.receive(frame("cmd=info-getjobattr;key=\(number);wait=\(number);"), from: 1)
            }
            var server = PMIServer(job: job, localRanks: [0, 1])
            _ = server.receive(Array(("cmd=init pmi_version=2 pmi_subversion=0\n" + number + "      x").utf8), from: 0)
        }
    }

    @Test func theFirstVersion() {
        var server = PMIServer(job: job, localRanks: [0, 1])
        func say(_ text: String, _ rank: Int = 0) -> [PMIServer.Effect] {
            server.receive(Array((text + "\n").utf8), from: rank)
        }
        #expect(
            sent(say("cmd=init pmi_version=1 pmi_subversion=1"), to: 0)
                == "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n")
        #expect(sent(say("cmd=get_maxes"), to: 0).contains("vallen_max=4096"))
        #expect(sent(say("cmd=get_appnum"), to: 0) == "cmd=appnum appnum=0 rc=0\n")
        #expect(sent(say("cmd=get_universe_size"), to: 0) == "cmd=universe_size size=4 rc=0\n")
        #expect(sent(say("cmd=get_my_kvsname"), to: 0) == "cmd=my_kvsname kvsname=kvs_7 rc=0\n")
        #expect(
            sent(say("cmd=get kvsname=kvs_7 key=PMI_process_mapping"), to: 0)
                == "cmd=get_result rc=0 msg=success value=(vector,(0,2,2))\n")
        _ = say("cmd=init pmi_version=1 pmi_subversion=1", 1)
        #expect(sent(say("cmd=put kvsname=kvs_7 key=card0 value=tcp#a=1,b"), to: 0).hasPrefix("cmd=put_result rc=0"))
        // A put is not visible before the barrier, not even to its own rank.
        #expect(sent(say("cmd=get kvsname=kvs_7 key=card0"), to: 0).contains("rc=-1"))
        #expect(say("cmd=barrier_in").isEmpty)
        let entries = fence(say("cmd=barrier_in", 1))
        #expect(entries == [.init(key: Array("card0".utf8), value: Array("tcp#a=1,b".utf8))])
        let others = [KeySpace.Entry(key: Array("card2".utf8), value: Array("x y".utf8.filter { $0 != 0x20 }))]
        let out = server.fenceDone((entries ?? []) + others)
        #expect(sent(out, to: 0) == "cmd=barrier_out rc=0\n" && sent(out, to: 1) == "cmd=barrier_out rc=0\n")
        #expect(sent(say("cmd=get kvsname=kvs_7 key=card2", 1), to: 1).hasSuffix("value=xy\n"))
        #expect(sent(say("cmd=get kvsname=kvs_7 key=card0", 1), to: 1).hasSuffix("value=tcp#a=1,b\n"))
        #expect(sent(say("cmd=finalize"), to: 0) == "cmd=finalize_ack rc=0\n")
        #expect(say("cmd=abort exitcode=9") == [.abort(rank: 0, code: 9, message: "")])
        #expect(sent(say("mcmd=spawn"), to: 0) == "cmd=spawn_result rc=-1 msg=not_supported\n")
    }

    @Test func theSecondVersion() {
        var server = PMIServer(job: job, localRanks: [2, 3])
        func say(_ body: String, _ rank: Int = 2) -> [PMIServer.Effect] { server.receive(frame(body), from: rank) }
        for rank in [2, 3] {
            let greeting = server.receive(Array("cmd=init pmi_version=2 pmi_subversion=0\n".utf8), from: rank)
            #expect(sent(greeting, to: rank) == "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n")
        }
        let full = sent(say("cmd=fullinit;pmijobid=1;pmirank=2;threaded=FALSE;"), to: 2)
        #expect(full.contains("cmd=fullinit-response;") && full.contains(";rank=2;size=4;"))
        #expect(Int(full.prefix(6).filter { $0 != " " }) == full.utf8.count - 6)
        #expect(sent(say("cmd=job-getid;thrid=5;"), to: 2).contains("job-getid-response;thrid=5;jobid=kvs_7;rc=0;"))
        #expect(sent(say("cmd=kvs-put;key=a;value=1;;2;"), to: 2).contains("kvs-put-response;rc=0;"))
        #expect(sent(say("cmd=info-getjobattr;key=PMI_process_mapping;"), to: 2).contains("value=(vector,(0,2,2));"))
        #expect(sent(say("cmd=info-getjobattr;key=none;"), to: 2).contains("flag=FALSE;"))
        // Who waits for a node's attribute is answered when it is put.
        #expect(say("cmd=info-getnodeattr;key=shm;wait=TRUE;", 3).isEmpty)
        let put = say("cmd=info-putnodeattr;key=shm;value=/x;")
        #expect(sent(put, to: 2).contains("info-putnodeattr-response;rc=0;"))
        #expect(sent(put, to: 3).contains("info-getnodeattr-response;flag=TRUE;value=/x;rc=0;"))
        #expect(say("cmd=kvs-fence;").isEmpty)
        let entries = fence(say("cmd=kvs-fence;thrid=1;", 3))
        // A doubled semicolon is one.
        #expect(entries == [.init(key: Array("a".utf8), value: Array("1;2".utf8))])
        let out = server.fenceDone(entries ?? [])
        #expect(sent(out, to: 3).contains("kvs-fence-response;thrid=1;rc=0;"))
        #expect(sent(say("cmd=kvs-get;jobid=kvs_7;srcid=-1;key=a;"), to: 2).contains("flag=TRUE;value=1;;2;rc=0;"))
        #expect(sent(say("cmd=name-lookup;name=x;"), to: 2).contains("name-lookup-response;rc=1;"))
        #expect(sent(say("cmd=finalize;"), to: 2).contains("finalize-response;rc=0;"))
    }

    @Test func requestsMayComeInAnyPieces() {
        let text =
            Array("cmd=init pmi_version=2 pmi_subversion=0\n".utf8) + frame("cmd=fullinit;pmirank=0;")
            + frame("cmd=kvs-put;key=k;value=v;") + frame("cmd=kvs-fence;")
        let job = PMIJob(name: "k", size: 1, ranksPerNode: [1])
        var whole = PMIServer(job: job, localRanks: [0])
        let expected = whole.receive(text, from: 0)
        #expect(fence(expected)?.count == 1)
        for size in 1...17 {
            var pieces = PMIServer(job: job, localRanks: [0])
            var effects: [PMIServer.Effect] = []
            for start in stride(from: 0, to: text.count, by: size) {
                effects += pieces.receive(Array(text[start..<min(start + size, text.count)]), from: 0)
            }
            #expect(effects == expected, "pieces of \(size)")
        }
    }

    @Test(arguments: [
        "GET / HTTP/1.0\n", "cmd=put key=a value=b\n",
        "cmd=init pmi_version=2 pmi_subversion=0\nabcdef", "cmd=init pmi_version=2 pmi_subversion=0\n99999999",
        "cmd=init pmi_version=2 pmi_subversion=0\n    -5", "cmd=init pmi_version=2 pmi_subversion=0\n     0",
        String(repeating: "x", count: 70_000),
    ]) func noiseIsRefusedOnceAndHurtsNobody(_ noise: String) {
        var server = PMIServer(job: PMIJob(name: "k", size: 2, ranksPerNode: [2]), localRanks: [0, 1])
        let effects = server.receive(Array(noise.utf8), from: 0)
        guard case .refuse(0, _)? = effects.last else {
            Issue.record("not refused: \(effects)")
            return
        }
        #expect(server.receive(Array("cmd=get_maxes\n".utf8), from: 0).isEmpty)
        #expect(!server.receive(Array("cmd=init pmi_version=1 pmi_subversion=1\n".utf8), from: 1).isEmpty)
    }

    /// Random bytes after a greeting never trap, and never end another rank's barrier.
    @Test func randomBytes() {
        var generator = SplitMix(state: 7)
        for _ in 0..<2000 {
            var server = PMIServer(job: PMIJob(name: "k", size: 2, ranksPerNode: [2]), localRanks: [0, 1])
            let version = Int.random(in: 1...2, using: &generator)
            var bytes = Array("cmd=init pmi_version=\(version) pmi_subversion=0\n".utf8)
            for _ in 0..<Int.random(in: 0..<60, using: &generator) {
                let word = ["cmd=", "get", "key=", ";", " ", "\n", "value=", "    12", "kvs-fence", "=", "\u{0}"]
                    .randomElement(using: &generator)!
                bytes += Array(word.utf8)
            }
            let effects = server.receive(bytes, from: 0)
            #expect(fence(effects) == nil)
        }
    }

    private struct SplitMix: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
    }
}
