import Foundation
import JobModel
import Testing

@testable import Telemetry
import TestSupport

@Suite struct JobRecordTests {
    private let directory: TemporaryDirectory
    init() throws { directory = try TemporaryDirectory() }

    private func record(_ limits: JobRecord.OutputLimits = .init()) throws -> (JobRecord, JobRecordReader) {
        try FileManager.default.createDirectory(
            atPath: directory.path + "/1.a", withIntermediateDirectories: true)
        let record = try JobRecord(in: directory.path + "/1.a", limits: limits)
        var created = JobEvent(.jobCreated)
        created.job = JobFacts(
            id: "1.a", image: "i", digest: "sha256:0", command: ["true"], model: "node", launcher: "direct",
            system: "local", allocation: "1", nodes: [.init(name: "n1", ranks: 1), .init(name: "n2", ranks: 1)],
            directory: "/", user: "u", injected: [], labelsOutput: false, leader: .own(host: "h"))
        record.add(created)
        return (record, JobRecordReader(id: "1.a", in: directory.path))
    }

    @Test func tellsWhatBecameOfTheRanks() throws {
        let (record, reader) = try record()
        var exit = JobEvent(.rankExited)
        exit.rank = 1
        exit.exitCode = 137
        exit.signal = 9
        record.add(JobEvent(.rendezvousComplete))
        record.add(exit)
        let running = try #require(try reader.summary())
        #expect(running.state == .running && running.ranks[1].signal == 9 && running.ranks[1].node == "n2")
        #expect(running.ranks[0].state == "waiting")
        var end = JobEvent(.jobEnded)
        end.exitCode = 137
        record.add(end)
        let ended = try #require(try reader.summary())
        #expect(ended.state == .ended && ended.exitCode == 137)
        #expect(JobRecordReader.all(in: directory.path).map(\.id) == ["1.a"])
    }

    @Test func aNodeThatEndedIsNotLostByItsConnectionsEnd() throws {
        let (record, reader) = try record()
        for (kind, node) in [
            (JobEvent.Kind.nodeEmpty, "n1"), (.nodeLost, "n1"), (.nodeLost, "n2"), (.nodeEmpty, "n2"),
        ] {
            var event = JobEvent(kind)
            event.node = node
            record.add(event)
        }
        #expect(try #require(try reader.summary()).nodes.map(\.state) == ["empty", "lost"])
    }

    @Test func tornLastLineIsPassedOver() throws {
        let (_, reader) = try record()
        let path = directory.path + "/1.a/" + RecordFile.events
        let file = try #require(FileHandle(forWritingAtPath: path))
        try file.seekToEnd()
        try file.write(contentsOf: Data(#"{"event":"job.ended","exit_c"#.utf8))
        #expect(try reader.newEvents().map(\.event) == [.jobCreated])
        #expect(try reader.newEvents().isEmpty)
        try file.write(contentsOf: Data("ode\":3,\"time\":\"\",\"seconds\":1}\nnoise\n".utf8))
        #expect(try reader.newEvents().map(\.exitCode) == [3])
    }

    @Test func outputIsBoundedAndKeepsItsOrder() throws {
        let (record, reader) = try record(.init(perRank: 10, total: 100))
        record.keep(Array("12345678".utf8), rank: 0, stream: 1)
        record.keep(Array("x".utf8), rank: 1, stream: 2)
        record.keep(Array("9abcdef".utf8), rank: 0, stream: 1)
        record.keep(Array("lost".utf8), rank: 0, stream: 1)
        record.flush()
        let chunks = try reader.newOutput()
        #expect(
            chunks.map { "\($0.rank)\($0.stream)" + String(decoding: $0.bytes, as: UTF8.self) }
                == ["0112345678", "12x", "019a"])
        #expect(try reader.newEvents().filter { $0.event == .outputTruncated }.map(\.rank) == [0])
    }

    @Test func hostileHeadersEndTheReading() {
        for text in ["0 1 2 99999999999\nx", "0 1 2 -1\nx", "a b c d\n", "0 1 2\n"] {
            var rest = Array(text.utf8)[...]
            #expect(OutputChunk.take(from: &rest).isEmpty && rest.isEmpty)
        }
    }
}
