import LaunchPlan
import Testing

@Suite struct LaunchPlanCodecTests {
    static var full: LaunchPlan {
        var plan = LaunchPlan()
        plan.layers = ["layers/aa", "/abs/olute"]
        plan.environment = [Array("A=1".utf8), [0x42, 0x3D, 0xFF, 0xFE]]
        plan.entrypoint = [Array("/bin/sh".utf8), []]
        plan.command = [Array("-c".utf8), Array("echo \"$0\"\n".utf8)]
        plan.workingDirectory = Array("/srv".utf8)
        plan.user = Array("nobody:1".utf8)
        plan.userID = 65534
        plan.groupID = 1
        plan.stopSignal = Array("SIGQUIT".utf8)
        plan.mountPoints = ["/proc", "/etc/hosts"]
        plan.preparedForUID = 1000
        plan.imageName = "x:latest"
        plan.imageDigest = "sha256:00"
        plan.mounts = [
            .init(source: "/a", destination: "/b", isReadOnly: true, isOptional: true),
            .init(source: "/c", destination: "/d", isTemporary: true),
        ]
        plan.files = [.init(destination: "/etc/hosts", content: [0, 1, 2, 0])]
        plan.options = [.writable, .imageUser]
        plan.unshare = 0x2000_0000
        plan.skippedIDs = 3
        plan.hostName = Array("h1".utf8)
        plan.uidMap = Array("/usr/bin/newuidmap 0 1 1".utf8)
        plan.gidMap = Array("/usr/bin/newgidmap 0 1 1".utf8)
        plan.keptDescriptors = 2
        return plan
    }

    @Test func roundTrip() throws {
        #expect(try LaunchPlan(decoding: Self.full.encoded()) == Self.full)
        #expect(try LaunchPlan(decoding: LaunchPlan().encoded()) == LaunchPlan())
    }

    @Test func payloadsAreCStrings() throws {
        try Self.full.encoded().withUnsafeBytes { raw in
            let reader = try LaunchPlanReader(validating: raw)
            var seen: [String] = []
            reader.forEach { if $0.tag == .layer { seen.append(String(cString: $0.cString)) } }
            #expect(seen == ["layers/aa", "/abs/olute"])
        }
    }

    @Test func everyTruncationIsRefused() throws {
        let bytes = try Self.full.encoded()
        for length in 0..<bytes.count {
            #expect(throws: LaunchPlanError.self) { try LaunchPlan(decoding: Array(bytes[..<length])) }
        }
    }

    @Test func everyFlippedByteIsRefusedOrBounded() throws {
        let bytes = try Self.full.encoded()
        for index in bytes.indices {
            for bit in 0..<8 {
                var copy = bytes
                copy[index] ^= 1 << UInt8(bit)
                _ = try? LaunchPlan(decoding: copy)  // must not trap or read outside
            }
        }
    }

    @Test func nulInAnArgumentIsRefused() {
        var plan = LaunchPlan()
        plan.command = [[0x61, 0, 0x62]]
        #expect(throws: LaunchPlanError.embeddedNUL(4)) { try plan.encoded() }
    }

    @Test func aDestinationWithoutItsSourceIsRefused() throws {
        var bytes = try Self.full.encoded()
        // Turn the first mountSource record into an environment record: its destination is now misplaced.
        let index = stride(from: 16, to: bytes.count - 8, by: 8).first {
            bytes[$0] == 15 && bytes[$0 + 1] == 0 && bytes[$0 + 2] == 0
        }!
        bytes[index] = 2
        #expect(throws: LaunchPlanError.misplaced(16)) { try LaunchPlan(decoding: bytes) }
    }
}
