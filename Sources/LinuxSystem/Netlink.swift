import Glibc

/// Builder of rtnetlink(7) requests: links, addresses. Pure; `NetlinkSocket` sends them.
///
/// Integers are in the host's byte order and every attribute is padded to four
/// bytes, as netlink(7) and rtnetlink(7) define.
package struct NetlinkBatch: Equatable, Sendable {
    /// All messages one behind the other, as send(2) carries them.
    package private(set) var bytes: [UInt8] = []
    /// Where in `bytes` each message ends.
    package private(set) var ends: [Int] = []
    /// What each message is about, by sequence number (1-based): the subject of its error.
    package private(set) var subjects: [String] = []

    package init() {}

    enum Message {
        static let newLink: UInt16 = 16
        static let setLink: UInt16 = 19
        static let newAddress: UInt16 = 20
        static let newNeighbour: UInt16 = 28
        static let request: UInt16 = 0x1
        static let acknowledge: UInt16 = 0x4
        static let exclusive: UInt16 = 0x200
        static let create: UInt16 = 0x400
        static let append: UInt16 = 0x800
    }

    enum Attribute {
        static let addressLocal: UInt16 = 2
        static let addressAddress: UInt16 = 1
        static let hardware: UInt16 = 1
        static let name: UInt16 = 3
        static let largestPacket: UInt16 = 4
        static let master: UInt16 = 10
        static let linkInformation: UInt16 = 18
        static let namespacePID: UInt16 = 19
        static let namespaceDescriptor: UInt16 = 28
        static let kind: UInt16 = 1
        static let data: UInt16 = 2
        static let vethPeer: UInt16 = 1
    }

    static let interfaceUp: UInt32 = 1

    /// A bridge named `name`, up.
    package mutating func addBridge(_ name: String) {
        message(Message.newLink, Message.create | Message.exclusive, subject: name) { m in
            m.linkHeader(index: 0, isUp: true)
            m.text(Attribute.name, name)
            m.nested(Attribute.linkInformation) { $0.text(Attribute.kind, "bridge") }
        }
    }

    /// A veth pair, both ends down (a veth without its peer refuses to go up, and while
    /// it is made it has none): `name` enslaved to the bridge `master` (an interface
    /// index), `peer` in the network namespace of process `pid`.
    package mutating func addVeth(_ name: String, master: UInt32, peer: String, namespaceOf pid: Int32) {
        message(Message.newLink, Message.create | Message.exclusive, subject: name) { m in
            m.linkHeader(index: 0, isUp: false)
            m.text(Attribute.name, name)
            m.number(Attribute.master, master)
            m.nested(Attribute.linkInformation) { info in
                info.text(Attribute.kind, "veth")
                info.nested(Attribute.data) { data in
                    data.nested(Attribute.vethPeer) { end in
                        end.linkHeader(index: 0, isUp: false)
                        end.text(Attribute.name, peer)
                        end.number(Attribute.namespacePID, UInt32(bitPattern: pid))
                    }
                }
            }
        }
    }

    /// Brings the interface with this index up.
    package mutating func setUp(index: UInt32) {
        message(Message.setLink, 0, subject: "interface \(index)") { $0.linkHeader(index: index, isUp: true) }
    }

    /// Brings the interface of this name up.
    package mutating func setUp(name: String) {
        message(Message.setLink, 0, subject: name) { m in
            m.linkHeader(index: 0, isUp: true)
            m.text(Attribute.name, name)
        }
    }

    /// The IPv4 `address` (in the order people write it: a, b, c, d) on an interface.
    package mutating func addAddress(_ address: [UInt8], prefixLength: UInt8, index: UInt32) {
        message(
            Message.newAddress, Message.create | Message.exclusive,
            subject: address.map { "\($0)" }.joined(separator: ".")
        ) { m in
            m.raw([UInt8(AF_INET), prefixLength, 0, 0])
            m.integer(index)
            m.attribute(Attribute.addressLocal) { $0.raw(address) }
            m.attribute(Attribute.addressAddress) { $0.raw(address) }
        }
    }

    mutating func message(
        _ type: UInt16, _ flags: UInt16, subject: String, _ body: (inout Writer) -> Void
    ) {
        subjects.append(subject)
        var writer = Writer()
        writer.integer(UInt32(0))  // length, below
        writer.integer(type)
        writer.integer(flags | Message.request | Message.acknowledge)
        writer.integer(UInt32(subjects.count))
        writer.integer(UInt32(0))  // port: the kernel's
        body(&writer)
        writer.patchLength(UInt32(writer.bytes.count), at: 0)
        bytes += writer.bytes
        ends.append(bytes.count)
    }

    /// Appends integers and attributes in the layout of netlink(7).
    struct Writer {
        var bytes: [UInt8] = []

        mutating func raw(_ more: [UInt8]) { bytes += more }
        mutating func integer<T: FixedWidthInteger>(_ value: T) {
            withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
        }
        mutating func patchLength<T: FixedWidthInteger>(_ value: T, at offset: Int) {
            withUnsafeBytes(of: value) { raw in
                for (i, byte) in raw.enumerated() { bytes[offset + i] = byte }
            }
        }
        /// `struct ifinfomsg`, rtnetlink(7).
        mutating func linkHeader(index: UInt32, isUp: Bool) {
            raw([UInt8(AF_UNSPEC), 0, 0, 0])
            integer(index)
            integer(isUp ? NetlinkBatch.interfaceUp : 0)
            integer(isUp ? NetlinkBatch.interfaceUp : 0)
        }
        mutating func attribute(_ type: UInt16, _ body: (inout Writer) -> Void) {
            let start = bytes.count
            integer(UInt16(0))
            integer(type)
            body(&self)
            patchLength(UInt16(bytes.count - start), at: start)
            while bytes.count % 4 != 0 { bytes.append(0) }
        }
        mutating func nested(_ type: UInt16, _ body: (inout Writer) -> Void) { attribute(type, body) }
        mutating func text(_ type: UInt16, _ value: String) { attribute(type) { $0.raw(Array(value.utf8) + [0]) } }
        mutating func number(_ type: UInt16, _ value: UInt32) { attribute(type) { $0.integer(value) } }
    }
}

/// An rtnetlink(7) socket in the network namespace it was opened in.
package struct NetlinkSocket: ~Copyable {
    private let descriptor: OwnedDescriptor

    package init() throws(SyscallError) {
        let raw = try checked("socket", "rtnetlink") {
            socket(
                16 /* AF_NETLINK */, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0 /* NETLINK_ROUTE */)
        }
        descriptor = OwnedDescriptor(owning: raw)
    }

    /// Sends the batch and reads every acknowledgement; throws the first refusal with the interface it was about.
    /// Messages before it stand.
    ///
    /// Some messages at a time: the kernel answers each at once, and drops the answers that a socket's receive
    /// buffer (net.core.rmem_default) cannot hold. A cluster of 150 nodes would fill it.
    package func perform(_ batch: NetlinkBatch) throws(SyscallError) {
        var first = 0
        while first < batch.ends.count {
            let next = min(first + Self.messagesAtATime, batch.ends.count)
            try perform(batch, first..<next)
            first = next
        }
    }

    private static let messagesAtATime = 64

    private func perform(_ batch: NetlinkBatch, _ messages: Range<Int>) throws(SyscallError) {
        let raw = descriptor.raw
        let bytes = batch.bytes[(messages.lowerBound == 0 ? 0 : batch.ends[messages.lowerBound - 1])...]
        let count = batch.ends[messages.upperBound - 1] - bytes.startIndex
        try checked("send", "rtnetlink") { bytes.withUnsafeBytes { send(raw, $0.baseAddress, count, 0) } }
        var pending = messages.count
        var buffer = [UInt8](repeating: 0, count: 32 << 10)
        while pending > 0 {
            let n = try checked("recv", "rtnetlink") { recv(raw, &buffer, buffer.count, 0) }
            for answer in NetlinkAnswer.all(in: buffer[..<n]) {
                pending -= 1
                if answer.errno != 0 {
                    let index = Int(answer.sequence) - 1
                    let subject = batch.subjects.indices.contains(index) ? batch.subjects[index] : "rtnetlink"
                    throw SyscallError("rtnetlink", subject, errno: answer.errno)
                }
            }
        }
    }
}

/// One acknowledgement (`NLMSG_ERROR`, netlink(7)): errno 0 is success.
package struct NetlinkAnswer: Equatable, Sendable {
    package var sequence: UInt32
    package var errno: Int32

    package init(sequence: UInt32, errno: Int32) {
        self.sequence = sequence
        self.errno = errno
    }

    /// The acknowledgements in one datagram; other messages are passed over, a truncated one ends the list.
    package static func all(in datagram: ArraySlice<UInt8>) -> [NetlinkAnswer] {
        var answers: [NetlinkAnswer] = []
        datagram.withUnsafeBytes { raw in
            var offset = 0
            while offset + 16 <= raw.count {
                let length = Int(raw.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
                let type = raw.loadUnaligned(fromByteOffset: offset + 4, as: UInt16.self)
                if length < 16 || offset + length > raw.count { return }
                if type == 2 && length >= 20 {
                    answers.append(
                        NetlinkAnswer(
                            sequence: raw.loadUnaligned(fromByteOffset: offset + 8, as: UInt32.self),
                            errno: -raw.loadUnaligned(fromByteOffset: offset + 16, as: Int32.self)))
                }
                offset += (length + 3) & ~3
            }
        }
        return answers
    }
}
