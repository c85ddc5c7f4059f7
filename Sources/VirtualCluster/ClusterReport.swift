import Glibc

/// One fact on its way from a node's init to the supervisor and from there to
/// `cluster create`. A fixed 128 bytes, below PIPE_BUF: many inits write one pipe
/// and every record arrives whole (pipe(7)).
package struct ClusterReport: Equatable, Sendable {
    package enum Kind: UInt8, Sendable {
        /// The supervisor has its namespaces; `value` is meaningless.
        case namespacesReady = 1
        /// A node's init runs; `value` is its pid as the host sees it.
        case nodeStarted
        /// A node's root, mounts and network are ready.
        case nodeReady
        /// A daemon listens where it should.
        case serviceReady
        /// A daemon ended; `value` is its wait status (wait(2)).
        case serviceEnded
        /// `value` nodes are idle as the controller's daemon sees them.
        case nodesIdle
        /// A step failed: `text` says which, `value` is the errno.
        case failed
    }

    package var kind: Kind
    package var node: Int
    package var service: ClusterService?
    package var value: Int32
    package var text: String

    package init(
        _ kind: Kind, node: Int = supervisor, service: ClusterService? = nil, value: Int32 = 0, text: String = ""
    ) {
        self.kind = kind
        self.node = node
        self.service = service
        self.value = value
        self.text = text
    }

    package init(failure error: SyscallFailure, node: Int = supervisor) {
        self.init(.failed, node: node, value: error.errno, text: error.step)
    }

    /// Stands for the supervisor where a node's index is expected.
    package static let supervisor = 0xFFFF
    package static let byteCount = 128
    private static let textOffset = 12

    package var bytes: [UInt8] {
        var result = [UInt8](repeating: 0, count: Self.byteCount)
        result[0] = kind.rawValue
        result[1] = service?.rawValue ?? 0
        let node = UInt16(self.node)
        result[2] = UInt8(truncatingIfNeeded: node)
        result[3] = UInt8(truncatingIfNeeded: node >> 8)
        let value = UInt32(bitPattern: self.value)
        for i in 0..<4 { result[4 + i] = UInt8(truncatingIfNeeded: value >> UInt32(8 * i)) }
        for (i, byte) in text.utf8.prefix(Self.byteCount - Self.textOffset - 1).enumerated() {
            result[Self.textOffset + i] = byte
        }
        return result
    }

    /// nil for anything that is not a record.
    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount, let kind = Kind(rawValue: bytes[0]) else { return nil }
        self.kind = kind
        service = ClusterService(rawValue: bytes[1])
        node = Int(bytes[2]) | Int(bytes[3]) << 8
        var value: UInt32 = 0
        for i in 0..<4 { value |= UInt32(bytes[4 + i]) << UInt32(8 * i) }
        self.value = Int32(bitPattern: value)
        text = String(decoding: bytes[Self.textOffset...].prefix { $0 != 0 }, as: UTF8.self)
    }
}

/// A named step that failed, in a process whose only way to say so is a report.
package struct SyscallFailure: Error, Equatable, Sendable {
    package var step: String
    package var errno: Int32
}
