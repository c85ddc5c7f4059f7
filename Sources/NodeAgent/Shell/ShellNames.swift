import Glibc
import JobWire
import LinuxSystem
import Processes

/// The words by which a node can be called.
package enum ShellNames {
    /// One line of hosts(5).
    private struct Line {
        var address: String
        var names: [String]
    }

    private static func lines(_ table: [UInt8]) -> [Line] {
        String(decoding: table, as: UTF8.self).split(whereSeparator: \.isNewline).compactMap { text in
            let words = text.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }.map(String.init)
            return words.count < 2 ? nil : Line(address: words[0], names: Array(words.dropFirst()))
        }
    }

    private static func table() -> [UInt8] {
        guard let file = try? OwnedDescriptor.open("/etc/hosts", O_RDONLY) else { return [] }
        return (try? file.readAll(limit: 1 << 20)) ?? []
    }

    /// Of this node: the kernel's name, its addresses, and what its table of hosts calls those. Names that mean
    /// whoever says them (localhost) are left out.
    static func own() -> [String] {
        own(name: HostName.current, addresses: TCPSocket.ownAddresses(), table: table())
    }

    package static func own(name: String, addresses: [String], table: [UInt8]) -> [String] {
        let reached = addresses.filter { !isLoopback($0) }
        var found = [name] + reached
        for line in lines(table) {
            // Debian gives the machine's own name a loopback address that is not localhost's.
            let isOurs = reached.contains(line.address) || isLoopback(line.address) && line.names.contains(name)
            if isOurs { found += line.names.filter { !isLocal($0) && !found.contains($0) } }
        }
        return found
    }

    /// Addresses and other names that this node's table has for `host`.
    static func others(of host: String) -> [String] { others(of: host, table: table()) }

    package static func others(of host: String, table: [UInt8]) -> [String] {
        if isLocal(host) { return [] }
        return lines(table).filter { line in line.names.contains { isSame($0, host) } && !isLoopback(line.address) }
            .flatMap { [$0.address] + $0.names }
    }

    /// Means the node where it is said.
    package static func isLocal(_ host: String) -> Bool {
        isLoopback(host) || host == "localhost" || host.hasPrefix("localhost.") || host.hasPrefix("ip6-l")
    }

    private static func isLoopback(_ address: String) -> Bool { address.hasPrefix("127.") || address == "::1" }

    /// Names are the same with and without their domain, but not with another one.
    package static func isSame(_ one: String, _ other: String) -> Bool {
        let one = one.lowercased()
        let other = other.lowercased()
        if one == other { return true }
        guard one.contains(".") != other.contains("."), !isAddress(one), !isAddress(other) else { return false }
        return one.prefix { $0 != "." } == other.prefix { $0 != "." }
    }

    private static func isAddress(_ text: String) -> Bool { text.allSatisfy { $0 == "." || $0.isNumber } }
}
