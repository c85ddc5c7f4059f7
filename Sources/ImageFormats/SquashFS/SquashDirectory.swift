import Glibc

/// The entries of one directory, sorted by the bytes of their names.
package final class SquashDirectory: Sendable {
    package struct Entry: Sendable {
        package var name: [UInt8]
        package var reference: UInt64
        package var number: UInt32
        package var kind: SquashInode.Kind
    }
    package let entries: [Entry]

    init(_ entries: [Entry]) { self.entries = entries }

    package func find(_ name: some Collection<UInt8>) -> Entry? {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].name.lexicographicallyPrecedes(name) { low = middle + 1 } else { high = middle }
        }
        return low < entries.count && entries[low].name.elementsEqual(name) ? entries[low] : nil
    }
}

/// Directories read lately: their listings are walked once, not once per name looked up.
final class DirectoryCache: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var known: [UInt64: SquashDirectory] = [:]
    private var entryCount = 0
    private static let limit = 16384

    init() { pthread_mutex_init(mutex, nil) }
    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    subscript(reference: UInt64) -> SquashDirectory? {
        get {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            return known[reference]
        }
        set {
            guard let newValue else { return }
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            if entryCount + newValue.entries.count > DirectoryCache.limit {
                known = [:]
                entryCount = 0
            }
            known[reference] = newValue
            entryCount += newValue.entries.count + 1
        }
    }
}

extension SquashReader {
    /// The entries of `inode`, which must be a directory.
    package func directory(_ inode: SquashInode) throws(ArchiveFault) -> SquashDirectory {
        if let known = directories[inode.reference] { return known }
        let directory = SquashDirectory(try readEntries(inode))
        directories[inode.reference] = directory
        return directory
    }

    private func readEntries(_ inode: SquashInode) throws(ArchiveFault) -> [SquashDirectory.Entry] {
        guard inode.kind == .directory else { throw ArchiveFault(.corrupt, "not a directory") }
        // The size counts `.`, `..` and one more, which are not stored (squashfs_fs.h).
        guard inode.size > 3 else { return [] }
        var rest = Int(inode.size) - 3
        let start = superblock.directoryTable + inode.listing
        guard inode.offset < SquashFormat.metadataBytes else {
            throw ArchiveFault(.corrupt, "a directory outside its table")
        }
        var cursor = MetadataCursor(self, block: start, offset: Int(inode.offset))
        var entries: [SquashDirectory.Entry] = []
        while rest > 0 {
            guard rest >= 12 else { throw ArchiveFault(.corrupt, "a directory that ends in the middle") }
            let head = try cursor.read(12)
            rest -= 12
            let count = head.u32(0)
            guard count < SquashFormat.entriesPerHeader else {
                throw ArchiveFault(.corrupt, "a directory header for \(count) entries")
            }
            let block = UInt64(head.u32(4))
            for _ in 0...count {
                guard rest > 8 else { throw ArchiveFault(.corrupt, "a directory that ends in the middle") }
                let fixed = try cursor.read(8)
                let length = Int(fixed.u16(6)) + 1
                rest -= 8 + length
                guard length <= SquashFormat.nameBytes, rest >= 0 else {
                    throw ArchiveFault(.corrupt, "a directory entry of \(length) bytes")
                }
                let name = try cursor.read(length)
                guard let kind = SquashInode.Kind(rawValue: fixed.u16(4)), isName(name) else {
                    throw ArchiveFault(.hostile, entry: name, "not a name of a file")
                }
                if let last = entries.last, !last.name.lexicographicallyPrecedes(name) {
                    throw ArchiveFault(.corrupt, entry: name, "a directory whose names are not in order")
                }
                let number = Int64(head.u32(8)) + Int64(Int16(bitPattern: fixed.u16(2)))
                entries.append(
                    SquashDirectory.Entry(
                        name: name, reference: block << 16 | UInt64(fixed.u16(0)),
                        number: UInt32(truncatingIfNeeded: number), kind: kind))
            }
        }
        return entries
    }

    private func isName(_ name: [UInt8]) -> Bool {
        !name.isEmpty && name != [46] && name != [46, 46] && !name.contains(0) && !name.contains(UInt8(ascii: "/"))
    }

    /// The file at `path` (no link is followed); nil when there is none.
    package func find(_ path: String) throws(ArchiveFault) -> SquashInode? {
        var inode = try root()
        for component in path.utf8.split(separator: UInt8(ascii: "/")) {
            guard inode.kind == .directory, let entry = try directory(inode).find(component) else { return nil }
            inode = try self.inode(entry.reference)
        }
        return inode
    }

    /// The first `limit` bytes of the regular file at `path`; nil when there is none.
    package func contents(of path: String, limit: Int = 1 << 20) throws(ArchiveFault) -> [UInt8]? {
        guard let inode = try find(path), inode.kind == .file else { return nil }
        var bytes = [UInt8](repeating: 0, count: Int(min(inode.size, UInt64(limit))))
        let result: Result<Void, ArchiveFault> = bytes.withUnsafeMutableBytes { buffer in
            do throws(ArchiveFault) {
                _ = try read(inode, at: 0, into: buffer)
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
        return bytes
    }
}
