import Glibc

// The kernel's side of /dev/fuse (linux/fuse.h, protocol 7.31 and later).

enum FuseOperation: UInt32 {
    case lookup = 1
    case forget = 2
    case getAttributes = 3
    case readLink = 5
    case open = 14
    case read = 15
    case statFileSystem = 17
    case release = 18
    case getExtended = 22
    case listExtended = 23
    case flush = 25
    case initialize = 26
    case openDirectory = 27
    case readDirectory = 28
    case releaseDirectory = 29
    case access = 34
    case interrupt = 36
    case destroy = 38
    case batchForget = 42
    case readDirectoryPlus = 44
}

enum FuseProtocol {
    static let major: UInt32 = 7
    static let minor: UInt32 = 31
    static let inHeaderBytes = 40
    static let outHeaderBytes = 16
    static let attributeBytes = 88
    static let entryBytes = 128
    static let rootNode: UInt64 = 1
    /// Seconds: nothing of an image ever changes.
    static let forever: UInt64 = 365 * 86400
    /// Bytes of one read; twice what the kernel reads ahead.
    static let readBytes = 256 << 10
    /// FUSE_DEV_IOC_CLONE: one more descriptor of the same connection.
    static let cloneRequest: UInt = 0x8004_E500

    enum Flag {
        static let asyncRead: UInt32 = 1 << 0
        static let exportSupport: UInt32 = 1 << 4
        static let readDirectoryPlus: UInt32 = 1 << 13
        static let readDirectoryPlusAuto: UInt32 = 1 << 14
        static let noOpen: UInt32 = 1 << 17
        static let parallelDirectories: UInt32 = 1 << 18
        static let maximumPages: UInt32 = 1 << 22
        static let cacheLinks: UInt32 = 1 << 23
        static let noOpenDirectory: UInt32 = 1 << 24
    }
}

/// struct fuse_in_header
struct FuseRequest {
    var operation: FuseOperation?
    var unique: UInt64
    var node: UInt64
    /// What follows the header.
    var body: UnsafeRawBufferPointer

    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= FuseProtocol.inHeaderBytes else { return nil }
        operation = FuseOperation(rawValue: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        unique = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        node = bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
        body = UnsafeRawBufferPointer(rebasing: bytes[FuseProtocol.inHeaderBytes...])
    }

    func u32(_ at: Int) -> UInt32 { at + 4 <= body.count ? body.loadUnaligned(fromByteOffset: at, as: UInt32.self) : 0 }
    func u64(_ at: Int) -> UInt64 { at + 8 <= body.count ? body.loadUnaligned(fromByteOffset: at, as: UInt64.self) : 0 }
    /// The NUL-terminated name at `at`.
    func name(_ at: Int) -> UnsafeRawBufferPointer {
        guard at < body.count else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        let rest = body[at...]
        return UnsafeRawBufferPointer(rebasing: rest[..<(rest.firstIndex(of: 0) ?? rest.endIndex)])
    }
}

/// A reply being put together in memory that one thread keeps.
struct FuseReply {
    private let memory: UnsafeMutableRawBufferPointer
    private(set) var count = FuseProtocol.outHeaderBytes

    static let capacity = FuseProtocol.outHeaderBytes + FuseProtocol.readBytes

    init(_ memory: UnsafeMutableRawBufferPointer) { self.memory = memory }

    mutating func put<N: FixedWidthInteger>(_ number: N) {
        guard count + MemoryLayout<N>.size <= memory.count else { return }
        memory.storeBytes(of: number, toByteOffset: count, as: N.self)
        count += MemoryLayout<N>.size
    }
    mutating func put(_ bytes: [UInt8]) {
        guard count + bytes.count <= memory.count else { return }
        UnsafeMutableRawBufferPointer(rebasing: memory[count...]).copyBytes(from: bytes)
        count += bytes.count
    }
    mutating func putZeros(_ zeros: Int) {
        for _ in 0..<zeros { put(UInt8(0)) }
    }
    /// Where content is written directly; `advance` says how much was.
    func space(_ bytes: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: memory[count..<min(memory.count, count + bytes)])
    }
    mutating func advance(_ bytes: Int) { count += bytes }
    var room: Int { memory.count - count }

    /// The finished reply; `error` is an errno, and then nothing follows the header.
    func finished(_ unique: UInt64, error: Int32 = 0) -> UnsafeRawBufferPointer {
        let total = error == 0 ? count : FuseProtocol.outHeaderBytes
        memory.storeBytes(of: UInt32(total), toByteOffset: 0, as: UInt32.self)
        memory.storeBytes(of: -error, toByteOffset: 4, as: Int32.self)
        memory.storeBytes(of: unique, toByteOffset: 8, as: UInt64.self)
        return UnsafeRawBufferPointer(rebasing: memory[..<total])
    }
}
