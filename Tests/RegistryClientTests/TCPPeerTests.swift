import Foundation
import Glibc
import Testing

@testable import RegistryClient

@Suite struct TCPPeerTests {
    private let head =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    private func line(_ local: String, _ remote: String, state: String = "01", uid: Int = 1001, inode: Int = 77)
        -> String
    {
        "   0: \(local) \(remote) \(state) 00000000:00000000 00:00000000 00000000  \(uid)        0 \(inode) 1 0000000000000000 20 4 30 10 -1\n"
    }
    private func end(_ address: [UInt8], _ port: UInt16) -> TCPPeer.End { TCPPeer.End(address: address, port: port) }

    #if _endian(little)
        @Test func tables() {
            let (client, server) = (end([127, 0, 0, 1], 0xC350), end([127, 0, 0, 1], 5000))
            func user(_ rows: String...) -> uid_t? {
                TCPPeer.user(in: head + rows.joined(), of: client, connectedTo: server)
            }
            #expect(user(line("0100007F:C350", "0100007F:1388")) == 1001)
            // Our own end, other connections, a listening socket.
            #expect(user(line("0100007F:1388", "0100007F:C350")) == nil)
            #expect(user(line("0100007F:C351", "0100007F:1388"), line("0100007F:1388", "00000000:0000")) == nil)
            // Closed by its process, it is shown as root's and is nobody's.
            #expect(user(line("0100007F:C350", "0100007F:1388", state: "06", uid: 0, inode: 0)) == nil)
            #expect(user(line("0100007F:C350", "0100007F:1388", state: "05", uid: 0, inode: 0)) == nil)
            for text in ["", "\n\n", "0100007F:C350", String(repeating: "0100007F:C350 ", count: 20)] {
                #expect(TCPPeer.user(in: text, of: client, connectedTo: server) == nil)
            }
            let six = end([UInt8](repeating: 0, count: 15) + [1], 0xC350)
            let row = line("00000000000000000000000001000000:C350", "00000000000000000000000001000000:1388")
            #expect(TCPPeer.user(in: row, of: six, connectedTo: end(six.address, 5000)) == 1001)
        }
    #endif

    @Test func ownConnection() throws {
        func make() -> Int32 { socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0) }
        let (listener, client) = (make(), make())
        defer {
            close(listener)
            close(client)
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        func port(_ fd: Int32, _ call: (Int32, UnsafeMutablePointer<sockaddr>, inout socklen_t) -> Int32) -> UInt16 {
            withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = call(fd, $0, &length) }
            }
            return UInt16(bigEndian: address.sin_port)
        }
        _ = port(listener) { bind($0, $1, $2) | listen($0, 1) }
        let serverPort = port(listener) { getsockname($0, $1, &$2) }
        _ = port(client) { connect($0, $1, $2) }
        let clientPort = port(client) { getsockname($0, $1, &$2) }
        let (here, there) = (end([127, 0, 0, 1], serverPort), end([127, 0, 0, 1], clientPort))
        #expect(TCPPeer.user(of: there, connectedTo: here) == getuid())
        #expect(TCPPeer.user(of: end([127, 0, 0, 1], 1), connectedTo: here) == nil)
    }
}
