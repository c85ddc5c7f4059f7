import Glibc
import ImageFormats

/// Answers the kernel's questions about one image. Stateless: a node is named by where its
/// inode lies, so there is nothing to look up, to count or to forget.
final class FuseFileSystem: Sendable {
    private let reader: SquashReader
    private let root: UInt64
    private let userID: UInt32
    private let groupID: UInt32

    /// - Parameters: the owner that every file is shown with: who runs the image owns what it holds.
    init(_ reader: SquashReader, userID: UInt32, groupID: UInt32) throws(ArchiveFault) {
        self.reader = reader
        root = try reader.root().reference
        self.userID = userID
        self.groupID = groupID
    }

    /// The reply to `request`; nil where the kernel expects none.
    func answer(_ request: FuseRequest, in memory: UnsafeMutableRawBufferPointer) -> UnsafeRawBufferPointer? {
        var reply = FuseReply(memory)
        var code: Int32 = 0
        do throws(ArchiveFault) {
            switch request.operation {
            case .initialize: initialize(request, &reply)
            case .lookup: code = try lookUp(request, &reply)
            case .getAttributes: try getAttributes(request, &reply)
            case .readLink: reply.put(try reader.target(of: try inode(request.node)))
            case .read: code = try read(request, &reply)
            case .readDirectory: try readDirectory(request, &reply, isPlus: false)
            case .readDirectoryPlus: try readDirectory(request, &reply, isPlus: true)
            case .getExtended: code = try getExtended(request, &reply)
            case .listExtended: code = try listExtended(request, &reply)
            case .statFileSystem: statFileSystem(&reply)
            case .release, .releaseDirectory, .destroy: break
            case .forget, .batchForget, .interrupt: return nil
            // "Not needed": the kernel then neither opens, flushes nor checks again (FUSE_NO_OPEN_SUPPORT);
            // Python closes hundreds of files while it starts, and each close would be a question.
            case .open, .openDirectory, .flush, .access, nil: code = ENOSYS
            }
        } catch { code = EIO }
        return reply.finished(request.unique, error: code)
    }

    private func initialize(_ request: FuseRequest, _ reply: inout FuseReply) {
        typealias Flag = FuseProtocol.Flag
        let wanted =
            Flag.asyncRead | Flag.exportSupport | Flag.readDirectoryPlus | Flag.readDirectoryPlusAuto | Flag.noOpen
            | Flag.parallelDirectories | Flag.maximumPages | Flag.cacheLinks | Flag.noOpenDirectory
        reply.put(FuseProtocol.major)
        reply.put(FuseProtocol.minor)
        reply.put(max(request.u32(8), 1 << 20))  // read ahead: the kernel takes the smaller of its own and ours
        reply.put(request.u32(12) & wanted)
        reply.put(UInt16(64))  // requests in the background at once
        reply.put(UInt16(48))
        reply.put(UInt32(4096))  // largest write: there are none
        reply.put(UInt32(1_000_000_000))  // times are whole seconds
        reply.put(UInt16(FuseProtocol.readBytes / 4096))
        reply.putZeros(64 - 30)
    }

    // MARK: Nodes

    /// 1 is the root; others are their inode's place, moved out of the way of 0 and 1.
    private func inode(_ node: UInt64) throws(ArchiveFault) -> SquashInode {
        if node == FuseProtocol.rootNode { return try reader.inode(root) }
        guard node >= 2 else { throw ArchiveFault(.corrupt, "no node") }
        return try reader.inode(node - 2)
    }

    private func node(_ reference: UInt64) -> UInt64 { reference == root ? FuseProtocol.rootNode : reference + 2 }

    private func put(_ inode: SquashInode, _ reply: inout FuseReply) {
        let isDevice = inode.kind == .blockDevice || inode.kind == .characterDevice
        reply.put(UInt64(inode.number))
        reply.put(inode.kind == .directory ? 4096 : inode.size)
        reply.put((inode.size + 511) / 512)
        for _ in 0..<3 { reply.put(UInt64(inode.modified)) }
        for _ in 0..<3 { reply.put(UInt32(0)) }
        // The owner reads everything, as in the store; set-id bits mean nothing on a nosuid mount.
        reply.put(inode.statMode | (inode.kind == .directory ? 0o500 : 0o400))
        reply.put(max(1, inode.links))
        reply.put(userID)
        reply.put(groupID)
        reply.put(isDevice ? inode.device : 0)
        reply.put(UInt32(reader.blockBytes))
        reply.put(UInt32(0))
    }

    private func putEntry(_ inode: SquashInode, _ reply: inout FuseReply) {
        reply.put(node(inode.reference))
        reply.put(UInt64(0))  // generation
        reply.put(FuseProtocol.forever)
        reply.put(FuseProtocol.forever)
        reply.put(UInt64(0))
        put(inode, &reply)
    }

    private func lookUp(_ request: FuseRequest, _ reply: inout FuseReply) throws(ArchiveFault) -> Int32 {
        let directory = try inode(request.node)
        guard directory.kind == .directory else { return ENOTDIR }
        guard let entry = try reader.directory(directory).find(request.name(0), reader) else {
            // Node 0: there is none, and the kernel may remember that.
            reply.put(UInt64(0))
            reply.put(UInt64(0))
            reply.put(FuseProtocol.forever)
            reply.putZeros(FuseProtocol.entryBytes - 24)
            return 0
        }
        putEntry(try reader.inode(entry.reference), &reply)
        return 0
    }

    private func getAttributes(_ request: FuseRequest, _ reply: inout FuseReply) throws(ArchiveFault) {
        reply.put(FuseProtocol.forever)
        reply.put(UInt64(0))
        put(try inode(request.node), &reply)
    }

    // MARK: Content

    private func read(_ request: FuseRequest, _ reply: inout FuseReply) throws(ArchiveFault) -> Int32 {
        let file = try inode(request.node)
        guard file.kind == .file else { return EISDIR }
        let n = try reader.read(file, at: request.u64(8), into: reply.space(Int(request.u32(16))))
        reply.advance(n)
        return 0
    }

    /// Offsets: 1 and 2 follow `.` and `..`, N + 3 the entry of index N.
    private func readDirectory(_ request: FuseRequest, _ reply: inout FuseReply, isPlus: Bool) throws(ArchiveFault) {
        let directory = try inode(request.node)
        let listing = try reader.directory(directory)
        let limit = min(reply.room, Int(request.u32(16)))
        let start = reply.count
        var at = request.u64(8)
        while at < UInt64(listing.count) + 2 {
            let entry = at < 2 ? nil : try listing.entry(Int(at) - 2, reader)
            let name = entry?.name ?? (at == 0 ? [46] : [46, 46])
            let bytes = (24 + name.count + 7) & ~7
            guard reply.count - start + bytes + (isPlus ? FuseProtocol.entryBytes : 0) <= limit else { return }
            var number = UInt64(directory.number)
            var kind = SquashInode.Kind.directory
            if let entry {
                number = UInt64(entry.number)
                kind = entry.kind
                if isPlus { putEntry(try reader.inode(entry.reference), &reply) }
            } else if isPlus {
                // The kernel knows both; node 0 says that no lookup is counted.
                reply.putZeros(FuseProtocol.entryBytes)
            }
            at += 1
            reply.put(number)
            reply.put(at)
            reply.put(UInt32(name.count))
            reply.put(type(kind))
            reply.put(name)
            reply.putZeros(bytes - 24 - name.count)
        }
    }

    /// d_type of readdir(3).
    private func type(_ kind: SquashInode.Kind) -> UInt32 {
        switch kind {
        case .directory: 4
        case .file: 8
        case .symbolicLink: 10
        case .blockDevice: 6
        case .characterDevice: 2
        case .fifo: 1
        case .socket: 12
        }
    }

    // MARK: Attributes and space

    private func getExtended(_ request: FuseRequest, _ reply: inout FuseReply) throws(ArchiveFault) -> Int32 {
        // ENOSYS once, and the kernel never asks again.
        guard reader.hasAttributes else { return ENOSYS }
        let name = Array(request.name(8))
        guard let found = try shownAttributes(try inode(request.node)).first(where: { $0.name == name }) else {
            return ENODATA
        }
        return putSized(found.value, request, &reply)
    }

    private func listExtended(_ request: FuseRequest, _ reply: inout FuseReply) throws(ArchiveFault) -> Int32 {
        guard reader.hasAttributes else { return ENOSYS }
        var names: [UInt8] = []
        for attribute in try shownAttributes(try inode(request.node)) { names += attribute.name + [0] }
        return putSized(names, request, &reply)
    }

    /// Capabilities and labels of other systems mean nothing here, and overlayfs's marks only harm.
    private func shownAttributes(_ inode: SquashInode) throws(ArchiveFault) -> [SquashAttribute] {
        try reader.attributes(of: inode).filter {
            $0.name.starts(with: "user.".utf8) && !$0.name.starts(with: "user.overlay.".utf8)
        }
    }

    private func putSized(_ bytes: [UInt8], _ request: FuseRequest, _ reply: inout FuseReply) -> Int32 {
        let size = Int(request.u32(0))
        if size == 0 {
            reply.put(UInt32(bytes.count))
            reply.put(UInt32(0))
            return 0
        }
        guard bytes.count <= size, bytes.count <= reply.room else { return ERANGE }
        reply.put(bytes)
        return 0
    }

    private func statFileSystem(_ reply: inout FuseReply) {
        reply.put(UInt64(reader.bytesUsed + 4095) / 4096)
        reply.put(UInt64(0))
        reply.put(UInt64(0))
        reply.put(UInt64(reader.inodeCount))
        reply.put(UInt64(0))
        reply.put(UInt32(4096))
        reply.put(UInt32(255))
        reply.put(UInt32(4096))
        reply.putZeros(80 - 52)
    }
}
