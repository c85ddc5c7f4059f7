/// One file of an image that is being written.
package final class SquashNode {
    package let kind: SquashInode.Kind
    package var metadata: SquashMetadata
    /// Of a directory, by name.
    package internal(set) var children: [[UInt8]: SquashNode] = [:]
    package internal(set) var target: [UInt8] = []
    var device: UInt32 = 0
    var data: SquashFileData?

    // Known once it is written.
    var number: UInt32 = 0
    var links: UInt32 = 0
    var reference: UInt64?

    package init(_ kind: SquashInode.Kind, _ metadata: SquashMetadata = SquashMetadata(), target: [UInt8] = []) {
        self.kind = kind
        self.metadata = metadata
        self.target = target
    }

    package var isDirectory: Bool { kind == .directory }

    package func child(_ name: some Collection<UInt8>) -> SquashNode? { children[Array(name)] }

    package func remove(_ name: [UInt8]) { children[name] = nil }

    func forgetNumbers() {
        number = 0
        links = 0
        reference = nil
        for child in children.values { child.forgetNumbers() }
    }

    /// Names in the order of the format: by their bytes.
    var sortedNames: [[UInt8]] { children.keys.sorted { $0.lexicographicallyPrecedes($1) } }
}

/// What every file has.
package struct SquashMetadata: Equatable, Sendable {
    /// `07777`
    package var mode: UInt32 = 0o755
    package var userID: UInt32 = 0
    package var groupID: UInt32 = 0
    /// Seconds since 1970; the format has neither fractions nor years before it.
    package var modified: UInt32 = 0
    package var attributes: [SquashAttribute] = []

    package init(
        mode: UInt32 = 0o755, userID: UInt32 = 0, groupID: UInt32 = 0, modified: Int64 = 0,
        attributes: [SquashAttribute] = []
    ) {
        self.mode = mode & 0o7777
        self.userID = userID
        self.groupID = groupID
        self.modified = UInt32(clamping: modified)
        self.attributes = attributes
    }
}

/// Where a written file's content lies.
final class SquashFileData {
    var size: UInt64 = 0
    var start: UInt64 = 0
    var sizes: [UInt32] = []
    var fragment = SquashFormat.noFragment
    var fragmentOffset: UInt32 = 0
    /// Bytes in holes.
    var sparse: UInt64 = 0
    /// An earlier file that has begun with the same blocks so far.
    var twin: SquashFileData?
    var firstHash: UInt64 = 0
}
