import LinuxSystem
import Testing

/// The bytes a kernel was seen to accept (strace of a running cluster), on a little-endian machine.
@Suite struct NetlinkTests {
    @Test func bridge() {
        var batch = NetlinkBatch()
        batch.addBridge("br0")
        #expect(
            batch.bytes == [
                56, 0, 0, 0, 16, 0, 0x05, 0x06, 1, 0, 0, 0, 0, 0, 0, 0,  // nlmsghdr: NEWLINK, create|excl|ack|request
                0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,  // ifinfomsg: up
                8, 0, 3, 0, 0x62, 0x72, 0x30, 0,  // IFLA_IFNAME br0
                16, 0, 18, 0, 11, 0, 1, 0, 0x62, 0x72, 0x69, 0x64, 0x67, 0x65, 0, 0,  // LINKINFO { KIND bridge }
            ])
    }

    @Test func addressKeepsTheOrderOfItsBytes() {
        var batch = NetlinkBatch()
        batch.addAddress([10, 9, 0, 7], prefixLength: 16, index: 3)
        #expect(
            Array(batch.bytes[16...]) == [2, 16, 0, 0, 3, 0, 0, 0, 8, 0, 2, 0, 10, 9, 0, 7, 8, 0, 1, 0, 10, 9, 0, 7])
        #expect(batch.subjects == ["10.9.0.7"])
    }

    @Test func vethNestsItsPeer() {
        var batch = NetlinkBatch()
        batch.addVeth("v1", master: 2, peer: "eth0", namespaceOf: 77)
        let peer: [UInt8] =
            [60, 0, 18, 0, 9, 0, 1, 0, 0x76, 0x65, 0x74, 0x68, 0, 0, 0, 0, 44, 0, 2, 0, 40, 0, 1, 0]
            + [UInt8](repeating: 0, count: 16)
            + [9, 0, 3, 0, 0x65, 0x74, 0x68, 0x30, 0, 0, 0, 0, 8, 0, 19, 0, 77, 0, 0, 0]
        #expect(Array(batch.bytes.suffix(peer.count)) == peer)
        #expect(batch.bytes.count == Int(batch.bytes[0]))
    }

    @Test func messagesAreNumbered() {
        var batch = NetlinkBatch()
        batch.setUp(name: "v1")
        let second = batch.bytes.count
        batch.setUp(index: 1)
        #expect(batch.bytes[8] == 1 && batch.bytes[second + 8] == 2)
        #expect(batch.subjects == ["v1", "interface 1"])
        #expect(batch.ends == [second, batch.bytes.count])
    }

    @Test func answers() {
        let good: [UInt8] = [36, 0, 0, 0, 2, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0] + [UInt8](repeating: 0, count: 20)
        var refused = good
        refused[8] = 2
        refused.replaceSubrange(16..<20, with: [0xED, 0xFF, 0xFF, 0xFF])  // -ENODEV
        #expect(
            NetlinkAnswer.all(in: (good + refused)[...]) == [
                NetlinkAnswer(sequence: 1, errno: 0), NetlinkAnswer(sequence: 2, errno: 19),
            ])
    }

    @Test(arguments: [0, 15, 17, 35]) func truncatedAnswersEndTheList(count: Int) {
        let good: [UInt8] = [36, 0, 0, 0, 2, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0] + [UInt8](repeating: 0, count: 20)
        #expect(NetlinkAnswer.all(in: good[..<count]).isEmpty)
        #expect(NetlinkAnswer.all(in: [UInt8](repeating: 0, count: 40)[...]).isEmpty)
    }
}
