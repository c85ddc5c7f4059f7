import Glibc
import LinuxSystem

/// Who is at the other end of a TCP connection within this machine, as the kernel's table of sockets says
/// (proc(5), `/proc/net/tcp` and `tcp6`).
package enum TCPPeer {
    /// One end of a connection.
    package struct End: Equatable, Sendable {
        /// Four or sixteen bytes, in network order.
        package var address: [UInt8]
        package var port: UInt16
        package init(address: [UInt8], port: UInt16) {
            self.address = address
            self.port = port
        }
    }

    private enum Limit {
        /// Some 200,000 sockets; where there are more, nobody is known.
        static let tableBytes = 32 << 20
    }

    /// The user whose socket `client` is, connected to ours at `server`; nil when there is none to be seen, which is
    /// so for every other machine's.
    package static func user(of client: End, connectedTo server: End) -> uid_t? {
        var tables: [(path: String, client: End, server: End)] = []
        if client.address.count == 4 {
            tables.append(("/proc/net/tcp", client, server))
            // A socket of IPv6 that speaks IPv4 is in the other table (RFC 4291, section 2.5.5.2).
            let prefix = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF]
            func mapped(_ end: End) -> End { End(address: prefix + end.address, port: end.port) }
            tables.append(("/proc/net/tcp6", mapped(client), mapped(server)))
        } else {
            tables.append(("/proc/net/tcp6", client, server))
        }
        for (path, client, server) in tables {
            guard let file = try? OwnedDescriptor.open(path, O_RDONLY),
                let bytes = try? file.readAll(limit: Limit.tableBytes)
            else { continue }
            if let user = user(in: String(decoding: bytes, as: UTF8.self), of: client, connectedTo: server) {
                return user
            }
        }
        return nil
    }

    /// As above, from a table's text.
    package static func user(in table: String, of client: End, connectedTo server: End) -> uid_t? {
        let wanted = [word(client), word(server)]
        for line in table.split(separator: "\n") {
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            // sl local rem st tx:rx tr:when retrnsmt uid timeout inode …
            guard words.count >= 10, words[1] == wanted[0], words[2] == wanted[1] else { continue }
            // A socket that its process has closed is shown as root's, without an inode: it is nobody's.
            guard let inode = UInt64(words[9]), inode != 0 else { return nil }
            return uid_t(words[7])
        }
        return nil
    }

    /// `0100007F:1F90`: 32-bit words in the host's order, the port as a number.
    private static func word(_ end: End) -> String {
        var text = ""
        for start in stride(from: 0, to: end.address.count, by: 4) {
            let word = end.address[start..<min(start + 4, end.address.count)]
            #if _endian(little)
                for byte in word.reversed() { text += hexadecimal(byte) }
            #else
                for byte in word { text += hexadecimal(byte) }
            #endif
        }
        return text + ":" + hexadecimal(UInt8(end.port >> 8)) + hexadecimal(UInt8(end.port & 0xFF))
    }

    private static func hexadecimal(_ byte: UInt8) -> String {
        (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
    }
}
