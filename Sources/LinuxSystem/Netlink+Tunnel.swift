import Glibc

// What a network of its own over several machines takes: VXLAN (RFC 7348), whose every destination is told.
extension NetlinkBatch {
    /// `IFLA_VXLAN_*` of linux/if_link.h.
    private enum TunnelAttribute {
        static let identifier: UInt16 = 1
        static let local: UInt16 = 4
        static let learning: UInt16 = 7
        static let port: UInt16 = 15
    }

    /// `NDA_*`, `NUD_*` and `NTF_*` of linux/neighbour.h.
    private enum Neighbour {
        static let destination: UInt16 = 1
        static let hardware: UInt16 = 2
        static let isPermanent: UInt16 = 0x80
        static let needsNoARP: UInt16 = 0x40
        static let ofDevice: UInt8 = 0x02
        static let bridge: UInt8 = 7
    }

    /// A VXLAN device `name` in the network namespace behind `descriptor`, down. Its packets travel between the
    /// addresses of the namespace that the socket is in; it learns no address by itself.
    ///
    /// - Parameters:
    ///   - identifier: 24 bits that all ends share; one that is in use in the socket's namespace is `EEXIST`.
    ///   - local: this end's IPv4 address.
    ///   - largestPacket: what fits into one packet of the underlying network, less 50 bytes.
    package mutating func addTunnel(
        _ name: String, identifier: UInt32, local: [UInt8], port: UInt16, largestPacket: UInt32,
        namespace descriptor: Int32
    ) {
        message(Message.newLink, Message.create | Message.exclusive, subject: name) { m in
            m.linkHeader(index: 0, isUp: false)
            m.text(Attribute.name, name)
            m.number(Attribute.largestPacket, largestPacket)
            m.number(Attribute.namespaceDescriptor, UInt32(bitPattern: descriptor))
            m.nested(Attribute.linkInformation) { info in
                info.text(Attribute.kind, "vxlan")
                info.nested(Attribute.data) { data in
                    data.number(TunnelAttribute.identifier, identifier)
                    data.attribute(TunnelAttribute.local) { $0.raw(local) }
                    data.attribute(TunnelAttribute.learning) { $0.raw([0]) }
                    data.attribute(TunnelAttribute.port) { $0.integer(port.bigEndian) }
                }
            }
        }
    }

    /// Gives the interface with this index a hardware address and brings it up.
    package mutating func setUp(index: UInt32, hardware: [UInt8]) {
        message(Message.setLink, 0, subject: "interface \(index)") { m in
            m.linkHeader(index: index, isUp: true)
            m.attribute(Attribute.hardware) { $0.raw(hardware) }
        }
    }

    /// Frames for `hardware` leave the tunnel with this index towards the machine at `destination`. All zeros
    /// are frames for everybody, of which each destination gets a copy.
    package mutating func addForwarding(hardware: [UInt8], destination: [UInt8], index: UInt32) {
        message(
            Message.newNeighbour, Message.create | Message.append,
            subject: destination.map { "\($0)" }.joined(separator: ".")
        ) { m in
            m.neighbourHeader(
                Neighbour.bridge, index, Neighbour.isPermanent | Neighbour.needsNoARP, Neighbour.ofDevice)
            m.attribute(Neighbour.hardware) { $0.raw(hardware) }
            m.attribute(Neighbour.destination) { $0.raw(destination) }
        }
    }

    /// Whoever has `address` has `hardware`: nobody needs to ask (arp(7)).
    package mutating func addNeighbour(_ address: [UInt8], hardware: [UInt8], index: UInt32) {
        message(
            Message.newNeighbour, Message.create | Message.exclusive,
            subject: address.map { "\($0)" }.joined(separator: ".")
        ) { m in
            m.neighbourHeader(UInt8(AF_INET), index, Neighbour.isPermanent, 0)
            m.attribute(Neighbour.destination) { $0.raw(address) }
            m.attribute(Neighbour.hardware) { $0.raw(hardware) }
        }
    }
}

extension NetlinkBatch.Writer {
    /// `struct ndmsg`, rtnetlink(7).
    fileprivate mutating func neighbourHeader(_ family: UInt8, _ index: UInt32, _ state: UInt16, _ flags: UInt8) {
        raw([family, 0, 0, 0])
        integer(index)
        integer(state)
        raw([flags, 0])
    }
}
