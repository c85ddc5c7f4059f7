/// The private IPv4 network of one job: one of 1024 in 100.64.0.0/10, which RFC 6598 keeps for networks that
/// are neither the site's nor the Internet's. The job's nodes have the addresses from .1 on, in their order.
package struct JobSubnet: Equatable, Sendable {
    /// Below `count`.
    package var number: Int

    package static let count = 1024
    package static let prefixLength: UInt8 = 20
    /// Nodes that one has addresses for.
    package static let capacity = 4094

    package init(number: Int) { self.number = number }

    private static let first: UInt32 = 100 << 24 | 64 << 16
    private var base: UInt32 { Self.first + UInt32(number) << 12 }

    /// Of the job's node with this index, in the order people write it.
    package func address(of node: Int) -> [UInt8] { Self.bytes(base + UInt32(node) + 1) }
    package func addressText(of node: Int) -> String { Self.text(address(of: node)) }
    /// `100.64.16.0/20`
    package var text: String { "\(Self.text(Self.bytes(base)))/\(Self.prefixLength)" }

    /// The interface's, made of its address: nobody has to ask for it. The first byte says that it is no
    /// manufacturer's.
    package static func hardware(of address: [UInt8]) -> [UInt8] { [0x02, 0x54] + address }

    /// The VXLAN identifier: another one for each of a user's subnets, and for most users.
    package func identifier(user: UInt32) -> UInt32 { 1 << 23 | (user & 0x1FFF) << 10 | UInt32(number) }

    package static func isIdentifier(_ identifier: UInt32, of user: UInt32) -> Bool {
        JobSubnet(number: Int(identifier) % count).identifier(user: user) == identifier
    }

    /// Whether a route to `destination` under `mask` (both as numbers, the first byte highest) leads into it.
    /// The default route does not count.
    package func overlaps(destination: UInt32, mask: UInt32) -> Bool {
        let own = ~UInt32(0) << (32 - UInt32(Self.prefixLength))
        let common = own & mask
        return mask != 0 && base & common == destination & common
    }

    /// Routes as /proc/net/route shows them (proc_net(5)): hexadecimal words in the machine's byte order.
    package static func routes(_ table: String) -> [(destination: UInt32, mask: UInt32)] {
        table.split(separator: "\n").dropFirst().compactMap { line in
            let fields = line.split { $0 == "\t" || $0 == " " }
            guard fields.count > 7, let destination = UInt32(fields[1], radix: 16),
                let mask = UInt32(fields[7], radix: 16)
            else { return nil }
            return (UInt32(bigEndian: destination), UInt32(bigEndian: mask))
        }
    }

    static func bytes(_ address: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: address >> UInt32($0)) }
    }
    static func text(_ address: [UInt8]) -> String { address.map { "\($0)" }.joined(separator: ".") }

    /// The bytes of an address as people write it; nil when it is none.
    package static func parse(_ text: String) -> [UInt8]? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        let bytes = parts.compactMap { $0 }
        return parts.count == 4 && bytes.count == 4 ? bytes : nil
    }
}
