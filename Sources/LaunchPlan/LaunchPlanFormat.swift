// The encoded plan. Little-endian throughout:
//
//   8 bytes   magic "TRPLAN01" (the last two digits are the version)
//   u32       total length in bytes, header included
//   u32       number of records
//   records   u16 tag · u16 zero · u32 payload length · payload · NUL · zero padding to 8
//
// Every payload is followed by a NUL so that the launcher can use it as a C
// string where it lies. Strings that must not contain NUL are rejected by the
// encoder and by validation.

/// What a record means. Numbers are never reused.
package enum LaunchPlanTag: UInt16, CaseIterable {
    case layer = 1
    case environment = 2
    case entrypoint = 3
    case command = 4
    case workingDirectory = 5
    case user = 6
    case userID = 7  // u32
    case groupID = 8  // u32
    case stopSignal = 9
    case mountPoint = 10
    case preparedForUID = 11  // u32
    case imageName = 12
    case imageDigest = 13
    case options = 14  // u32
    /// A mount is three records: source, destination, then this with its flags (u32: 1 read-only, 2 optional,
    /// 4 tmpfs, 8 not executable, 16 a user's request, 32 stacked layers, 64 without submounts).
    case mountSource = 15
    case mountDestination = 16
    case mountFlags = 17
    /// A file is two records: destination, then content (the only payload that may hold NUL).
    case fileDestination = 18
    case fileContent = 19
    case override = 20
    case bind = 21
    case overlay = 22
    case limit = 37
    case resourceLimit = 38
    case sharedMemory = 39  // decimal bytes

    /// Namespaces besides user and mount (u32 of CLONE_NEW*).
    case unshare = 27
    case hostName = 28
    /// Arguments of newuidmap(1) and newgidmap(1) after the pid, between spaces.
    case uidMap = 29
    case gidMap = 30
    /// How many descriptors from 3 on the application keeps (u32); all when absent.
    case keptDescriptors = 31
    /// The root is inside this file; the one layer is then `.`, relative to it.
    case imageFile = 40

    case timeout = 33  // u32, milliseconds
    case grace = 34  // u32, milliseconds
    case stopSignalNumber = 35  // u32
    case skippedIDs = 41  // u32

    /// Not the library's for raw values, which is generic and costs a launch what `LaunchPlan.Options` says.
    package static func == (a: LaunchPlanTag, b: LaunchPlanTag) -> Bool { a.rawValue == b.rawValue }

    package var isNumber: Bool {
        switch self {
        case .userID, .groupID, .preparedForUID, .options, .mountFlags, .unshare, .keptDescriptors,
            .timeout, .grace, .stopSignalNumber, .skippedIDs:
            true
        default: false
        }
    }
}

/// Bounds of a plan: far above any real image, far below what could hurt.
package enum LaunchPlanLimit {
    package static let headerBytes = 16
    package static let totalBytes = 4 << 20
    package static let records = 16384
}

/// Why bytes are not a plan.
package enum LaunchPlanError: Error, Equatable, Sendable {
    case notAPlan
    case truncated
    case tooLarge
    case tooManyRecords
    case unknownTag(UInt16)
    case malformedNumber(UInt16)
    case embeddedNUL(UInt16)
    case misplaced(UInt16)
}

/// Reads an encoded plan where it lies. `init` validates everything, so the
/// walk afterwards cannot leave the buffer.
package struct LaunchPlanReader {
    private let bytes: UnsafeRawBufferPointer
    private let recordCount: Int

    /// `bytes` must outlive the reader and everything taken from it.
    package init(validating bytes: UnsafeRawBufferPointer) throws(LaunchPlanError) {
        guard bytes.count >= LaunchPlanLimit.headerBytes else { throw .notAPlan }
        // "TRPLAN01", little-endian.
        guard bytes.loadUnaligned(as: UInt64.self).littleEndian == 0x3130_4E41_4C50_5254 else { throw .notAPlan }
        let total = Int(bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self).littleEndian)
        let count = Int(bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self).littleEndian)
        guard total <= LaunchPlanLimit.totalBytes else { throw .tooLarge }
        guard count <= LaunchPlanLimit.records else { throw .tooManyRecords }
        guard total <= bytes.count, total >= LaunchPlanLimit.headerBytes else { throw .truncated }
        self.bytes = UnsafeRawBufferPointer(rebasing: bytes[..<total])
        recordCount = count
        try validate()
    }

    private func validate() throws(LaunchPlanError) {
        var offset = LaunchPlanLimit.headerBytes
        var previous: UInt16 = 0
        for _ in 0..<recordCount {
            guard offset + 8 <= bytes.count else { throw .truncated }
            let raw = bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self).littleEndian
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self).littleEndian)
            guard length < LaunchPlanLimit.totalBytes else { throw .tooLarge }
            let end = offset + 8 + length
            guard end < bytes.count, bytes[end] == 0 else { throw .truncated }
            guard let tag = LaunchPlanTag(rawValue: raw) else { throw .unknownTag(raw) }
            if tag.isNumber {
                guard length == 4 else { throw .malformedNumber(raw) }
            } else if tag != .fileContent {
                for i in (offset + 8)..<end where bytes[i] == 0 { throw .embeddedNUL(raw) }
            }
            switch tag {
            case .mountDestination: if previous != LaunchPlanTag.mountSource.rawValue { throw .misplaced(raw) }
            case .mountFlags: if previous != LaunchPlanTag.mountDestination.rawValue { throw .misplaced(raw) }
            case .fileContent: if previous != LaunchPlanTag.fileDestination.rawValue { throw .misplaced(raw) }
            default:
                if previous == LaunchPlanTag.mountSource.rawValue || previous == LaunchPlanTag.mountDestination.rawValue
                    || previous == LaunchPlanTag.fileDestination.rawValue
                {
                    throw .misplaced(raw)
                }
            }
            previous = raw
            offset = (end + 1 + 7) & ~7
        }
        if previous == LaunchPlanTag.mountSource.rawValue || previous == LaunchPlanTag.mountDestination.rawValue
            || previous == LaunchPlanTag.fileDestination.rawValue
        {
            throw .misplaced(previous)
        }
    }

    /// One record; `payload` is followed by a NUL.
    package struct Record {
        package let tag: LaunchPlanTag
        package let payload: UnsafeRawBufferPointer

        package var cString: UnsafePointer<CChar> {
            payload.baseAddress!.assumingMemoryBound(to: CChar.self)
        }
        package var number: UInt32 { payload.loadUnaligned(as: UInt32.self).littleEndian }
    }

    /// Walks the records in order.
    @inline(__always)
    package func forEach(_ body: (Record) -> Void) {
        var offset = LaunchPlanLimit.headerBytes
        for _ in 0..<recordCount {
            let raw = bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self).littleEndian
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self).littleEndian)
            let payload = UnsafeRawBufferPointer(rebasing: bytes[(offset + 8)..<(offset + 8 + length)])
            body(Record(tag: LaunchPlanTag(rawValue: raw).unsafelyUnwrapped, payload: payload))
            offset = (offset + 8 + length + 1 + 7) & ~7
        }
    }
}
