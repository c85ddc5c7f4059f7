import EtcdStore
import Foundation
import Glibc
import Testing

@Suite struct EtcdRedirectTests {
    /// A server that answers each connection with `reply` and notes that it was asked.
    private final class Server: Sendable {
        let port: UInt16
        private let listener: Int32

        init() throws {
            listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let fd = listener
            let result = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(fd, $0, length) | listen(fd, 8) | getsockname(fd, $0, &length)
                }
            }
            guard result == 0 else { throw POSIXError(.EADDRINUSE) }
            port = UInt16(bigEndian: address.sin_port)
        }
        deinit { close(listener) }

        func answer(_ reply: String) {
            Thread.detachNewThread { [self] in
                let connection = accept(listener, nil, nil)
                var bytes = [UInt8](repeating: 0, count: 65536)
                _ = recv(connection, &bytes, bytes.count, 0)
                _ = send(connection, reply, reply.utf8.count, Int32(MSG_NOSIGNAL))
                close(connection)
            }
        }

        var wasAsked: Bool {
            var polled = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
            return poll(&polled, 1, 200) > 0
        }
    }

    /// What a job says to its store goes nowhere else.
    @Test(arguments: [301, 307, 308]) func noRedirectIsFollowed(_ status: Int) async throws {
        let (store, stranger) = (try Server(), try Server())
        store.answer(
            "HTTP/1.1 \(status) Moved\r\nLocation: http://localhost:\(stranger.port)/v3/kv/put\r\nContent-Length: 0\r\n\r\n"
        )
        let settings = try #require(EtcdSettings(list: "http://127.0.0.1:\(store.port)"))
        let client = try EtcdClient(settings)
        await #expect(throws: StoreFault.self) { try await client.put("key", "value", lease: 0) }
        #expect(!stranger.wasAsked)
        await client.shutdown()
    }
}
