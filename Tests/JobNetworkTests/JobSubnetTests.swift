import JobNetwork
import Testing

@Suite struct JobSubnetTests {
    private static func number(_ address: [UInt8]) -> UInt32 { address.reduce(0) { $0 << 8 | UInt32($1) } }

    @Test func allAreDisjointAndInTheirRange() {
        var last: UInt32 = 100 << 24 | 64 << 16
        for number in 0..<JobSubnet.count {
            let subnet = JobSubnet(number: number)
            let first = Self.number(subnet.address(of: 0))
            let highest = Self.number(subnet.address(of: JobSubnet.capacity - 1))
            #expect(first == last + 1 && highest == last + 4094)
            last = highest + 2
        }
        #expect(last == 100 << 24 | 128 << 16)
    }

    @Test func words() {
        #expect(JobSubnet(number: 0).text == "100.64.0.0/20")
        #expect(JobSubnet(number: 17).text == "100.65.16.0/20")
        #expect(JobSubnet(number: 1023).addressText(of: 255) == "100.127.241.0")
        #expect(JobSubnet.hardware(of: [100, 64, 0, 1]) == [0x02, 0x54, 100, 64, 0, 1])
        #expect(JobSubnet.parse("10.9.0.255") == [10, 9, 0, 255])
        for text in ["", "10.9.0", "10.9.0.256", "10.9.0.1.2", "10..0.1", "n1"] {
            #expect(JobSubnet.parse(text) == nil)
        }
    }

    @Test func identifiersHave24BitsAndDiffer() {
        let numbers = [0, 1, 1023].flatMap { number in
            [0, 1000, 0x1FFF].map { JobSubnet(number: number).identifier(user: $0) }
        }
        #expect(Set(numbers).count == 9 && numbers.allSatisfy { $0 > 0 && $0 < 1 << 24 })
        let ofUser = numbers.filter { JobSubnet.isIdentifier($0, of: 1000) }
        #expect(ofUser == [0, 1, 1023].map { JobSubnet(number: $0).identifier(user: 1000) })
        #expect(!JobSubnet.isIdentifier(0, of: 0) && !JobSubnet.isIdentifier(0xFF_FFFF, of: 0x1FFE))
    }

    @Test func routesThatLeadIntoIt() {
        // As a kernel printed them: the default, 100.64.16.0/24 and 172.17.0.0/16.
        let table = """
            Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
            eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
            vpn0\t00104064\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
            """
        let routes = JobSubnet.routes(table)
        #expect(routes.map(\.mask) == [0, 0xFFFF_FF00, 0xFFFF_0000])
        let hit = (0..<4).map { number in
            routes.contains { JobSubnet(number: number).overlaps(destination: $0.destination, mask: $0.mask) }
        }
        #expect(hit == [false, true, false, false])
        // A route to all of 100.64.0.0/10 leads into every one.
        #expect(JobSubnet(number: 900).overlaps(destination: 100 << 24 | 64 << 16, mask: 0xFFC0_0000))
    }
}
