import NodeAgent
import TestSupport
import Testing

@Suite struct RankBindingTests {
    private func processors(_ policy: String, _ rank: Int, of size: Int, _ perRank: Int, _ groups: [[Int]]) -> [Int]? {
        RankBinding.processors(policy: policy, localRank: rank, localSize: size, perRank: perRank, groups: groups)
    }
    /// Four cores of two hardware threads.
    private let cores = [[0, 4], [1, 5], [2, 6], [3, 7]]

    @Test func coresAreNotShared() {
        #expect(processors("core", 1, of: 4, 1, cores) == [1, 5])
        #expect(processors("core", 1, of: 2, 2, cores) == [2, 6, 3, 7])
    }

    @Test func tooFewCoresBindNobody() {
        #expect(processors("core", 0, of: 5, 1, cores) == nil)
        #expect(processors("core", 0, of: 2, 3, cores) == nil)
        #expect(processors("core", 0, of: 2, .max, cores) == nil)
        #expect(processors("core", 2, of: 2, 1, cores) == nil)
        #expect(processors("core", 0, of: 1, 1, []) == nil)
    }

    @Test func socketsAreFilledInTurn() {
        let sockets = [[0, 1, 2, 3], [4, 5, 6, 7]]
        #expect((0..<4).map { processors("socket", $0, of: 4, 1, sockets)?.first } == [0, 0, 4, 4])
        #expect(processors("socket", 0, of: 1, 1, sockets) == [0, 1, 2, 3])
        #expect(processors("none", 0, of: 1, 1, sockets) == nil)
    }
    @Test func extremesBindNobody() {
        let numbers = ExtremeNumbers.signed.map { Int($0) }
        for policy in ["core", "socket"] {
            for rank in numbers {
                for size in numbers {
                    for perRank in numbers { _ = processors(policy, rank, of: size, perRank, cores) }
                }
            }
        }
        #expect(processors("socket", .max - 1, of: .max, 1, cores) == nil)
    }
}
