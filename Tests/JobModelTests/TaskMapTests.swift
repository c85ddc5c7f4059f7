import JobModel
import Testing

@Suite struct TaskMapTests {
    private func allocation(_ slots: Int...) -> Allocation {
        Allocation(
            system: "slurm", jobID: "1",
            nodes: slots.enumerated().map { Allocation.Node(name: "n\($0 + 1)", slots: $1) })
    }
    private func counts(_ request: ResourceRequest, _ allocation: Allocation) throws -> [Int] {
        try TaskMap(placing: request, on: allocation).nodes.map(\.tasks)
    }

    @Test func fillsInOrderWithoutANodeCount() throws {
        #expect(try counts(.init(tasks: 3), allocation(2, 2, 2)) == [2, 1])
        #expect(try counts(.init(), allocation(2, 2)) == [2, 2])
    }

    @Test func spreadsOverTheNodesAskedFor() throws {
        #expect(try counts(.init(tasks: 4, nodes: 2), allocation(4, 4, 4)) == [2, 2])
        #expect(try counts(.init(tasks: 5, nodes: 3), allocation(2, 2, 2)) == [2, 2, 1])
        #expect(try counts(.init(tasks: 7, nodes: 3), allocation(1, 8, 2)) == [1, 4, 2])
        #expect(try counts(.init(nodes: 3), allocation(2, 2, 2)) == [1, 1, 1])
    }

    @Test func tasksPerNodeIsExact() throws {
        #expect(try counts(.init(nodes: 2, tasksPerNode: 2), allocation(2, 2)) == [2, 2])
        #expect(try counts(.init(tasks: 3, tasksPerNode: 2), allocation(2, 2)) == [2, 1])
        #expect(throws: TaskMap.Failure.contradiction(tasks: 5, nodes: 2, tasksPerNode: 2)) {
            try TaskMap(placing: .init(tasks: 5, nodes: 2, tasksPerNode: 2), on: allocation(4, 4))
        }
    }

    @Test func nodesMayStandByWithoutRanks() throws {
        let map = try TaskMap(placing: .init(tasks: 1, nodes: 3), on: allocation(2, 2, 2))
        #expect(map.nodes.map(\.tasks) == [1, 0, 0] && map.size == 1 && map.busyNodes == 1)
        #expect(map.place(of: 0)?.node == 0 && map.place(of: 1) == nil)
    }

    @Test func saysWhyNot() {
        #expect(throws: TaskMap.Failure.tooFewSlots(wanted: 5, available: 4, nodes: 2)) {
            try TaskMap(placing: .init(tasks: 5), on: allocation(2, 2))
        }
        #expect(throws: TaskMap.Failure.tooFewNodes(wanted: 3, available: 2)) {
            try TaskMap(placing: .init(nodes: 3), on: allocation(2, 2))
        }
        #expect(throws: TaskMap.Failure.notPositive(option: "--ntasks", value: 0)) {
            try TaskMap(placing: .init(tasks: 0), on: allocation(2))
        }
    }

    @Test func countsBeyondIntAreRefusedNotTrapped() {
        for tasks in [nil, 3, Int.max] {
            #expect(throws: TaskMap.Failure.self) {
                try TaskMap(placing: .init(tasks: tasks, nodes: 2, tasksPerNode: Int.max), on: allocation(2, 2))
            }
        }
    }

    @Test func placesRanksInBlocks() throws {
        let map = try TaskMap(placing: .init(tasks: 4, nodes: 2), on: allocation(2, 2))
        #expect(map.place(of: 0)?.node == 0 && map.place(of: 0)?.localRank == 0)
        #expect(map.place(of: 3)?.node == 1 && map.place(of: 3)?.localRank == 1)
        #expect(map.place(of: 4) == nil && map.place(of: -1) == nil)
    }
}

@Suite struct LineLabelerTests {
    private func labeled(_ labeler: inout LineLabeler, _ text: String) -> [UInt8] {
        Array(text.utf8).withUnsafeBytes { labeler.add($0) }
    }

    /// However the stream is cut into reads, the lines come out the same.
    @Test(arguments: [1, 2, 3, 7, 4096]) func cutsMakeNoDifference(length: Int) {
        let lines = (0..<200).map { String(repeating: "z", count: $0 % 90) }
        let stream = Array((lines.joined(separator: "\n") + "\n").utf8)
        var labeler = LineLabeler(rank: 12)
        var result: [UInt8] = []
        for start in stride(from: 0, to: stream.count, by: length) {
            result += stream[start..<min(start + length, stream.count)].withUnsafeBytes { labeler.add($0) }
        }
        #expect(String(decoding: result, as: UTF8.self) == lines.map { "12: \($0)\n" }.joined())
        #expect(labeler.finish().isEmpty)
    }

    @Test func labelsWholeLinesOnly() {
        var labeler = LineLabeler(rank: 3)
        #expect(labeled(&labeler, "ab").isEmpty)
        #expect(labeled(&labeler, "c\n\nd") == Array("3: abc\n3: \n".utf8))
        #expect(labeler.finish() == Array("3: d\n".utf8))
        #expect(labeler.finish().isEmpty)
    }

    @Test func endsEndlessLines() {
        var labeler = LineLabeler(rank: 0)
        let text = labeled(&labeler, String(repeating: "x", count: LineLabeler.lineLimit + 1))
        #expect(text.count == LineLabeler.lineLimit + 4 && text.last == UInt8(ascii: "\n"))
        #expect(labeler.finish() == Array("0: x\n".utf8))
    }
}

@Suite struct ExitStatusTests {
    @Test func codesAreTheShells() {
        #expect(ExitStatus.exited(42).code == 42 && ExitStatus.signaled(9).code == 137)
        #expect(ExitStatus.exited(0).isSuccess && !ExitStatus.signaled(15).isSuccess)
        #expect(ExitStatus.signaled(11).description == "was ended by signal 11 (SEGV)")
    }
}
