import CLinux
import Foundation
import LinuxSystem
import Testing

@testable import JobNetwork

/// The two sides of the door, in this process; where nothing is permitted, so that nothing is made.
@Suite(.enabled(if: geteuid() != 0)) struct TunnelDoorTests {
    private func ask(_ request: TunnelDoor.Request, user: UInt32? = nil) throws -> TunnelDoor.Refusal? {
        var ends: [Int32] = [-1, -1]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        let (asking, answering) = (ends[0], ends[1])
        let other = Thread {
            TunnelDoor.answer(answering, user: user)
            close(answering)
        }
        other.start()
        defer { close(asking) }
        let own = try OwnedDescriptor.open("/proc/self/ns/net", O_RDONLY)
        do throws(TunnelDoor.Refusal) {
            try TunnelDoor.ask(request, at: asking, node: own.raw, job: own.raw)
            return nil
        } catch { return error }
    }

    @Test func refusalsNameTheirStep() throws {
        let unknown = try ask(.init(identifier: 5, local: [192, 0, 2, 1]))
        #expect(unknown == .init(step: .findAddress, errno: EADDRNOTAVAIL))
        let known = try ask(.init(identifier: 5, local: [127, 0, 0, 1]))
        #expect(known == .init(step: .makeDevice, errno: EPERM))
        let others = JobSubnet(number: 5).identifier(user: 1001)
        #expect(try ask(.init(identifier: others, local: [127, 0, 0, 1]), user: 1000)?.errno == EACCES)
        #expect(try ask(.init(identifier: others, local: [127, 0, 0, 1]), user: 1001)?.errno == EPERM)
    }

    @Test func whatIsNoRequestIsNotAnswered() throws {
        #expect(try ask(.init(identifier: 1 << 24, local: [127, 0, 0, 1]))?.step == .ask)
    }
}
