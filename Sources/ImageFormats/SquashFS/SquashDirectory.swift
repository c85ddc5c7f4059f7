import Glibc

/// One name in a directory.
package struct SquashEntry: Sendable {
    package var name: [UInt8]
    package var reference: UInt64
    package var number: UInt32
    package var kind: SquashInode.Kind
}

/// A walk through a directory's entries, which come sorted by the bytes of their names. It holds its place and
/// the name before it, whatever the directory's size: a tree of large ones can be walked in little memory.
package struct SquashEntries {
    private let reader: SquashReader
    private var cursor: MetadataCursor
    private var at: Place

    /// Where a walk is, without the image's reader: that keeps what keeps these.
    struct Place: Sendable {
        fileprivate var metadata: (block: UInt64, offset: Int)
        /// Bytes of the listing that are still to come.
        fileprivate var rest: Int
        /// Entries behind the present header, and what it says of them.
        fileprivate var behind = 0
        fileprivate var block: UInt64 = 0
        fileprivate var firstNumber: Int64 = 0
        /// The name before; empty at the beginning.
        fileprivate(set) var last: [UInt8] = []
        fileprivate(set) var count = 0
    }

    fileprivate var place: Place {
        var place = at
        place.metadata = (cursor.block, cursor.offset)
        return place
    }
    fileprivate var count: Int { at.count }

    fileprivate init(_ reader: SquashReader, at place: Place) {
        self.reader = reader
        at = place
        cursor = MetadataCursor(reader, block: place.metadata.block, offset: place.metadata.offset)
    }

    fileprivate init(_ reader: SquashReader, _ inode: SquashInode) throws(ArchiveFault) {
        guard inode.kind == .directory else { throw ArchiveFault(.corrupt, "not a directory") }
        guard inode.offset < SquashFormat.metadataBytes else {
            throw ArchiveFault(.corrupt, "a directory outside its table")
        }
        let start = reader.superblock.directoryTable + inode.listing
        // The size counts `.`, `..` and one more, which are not stored (squashfs_fs.h).
        self.init(
            reader, at: Place(metadata: (start, Int(inode.offset)), rest: max(0, Int(inode.size) - 3)))
    }

    /// The next entry; nil at the end.
    package mutating func next() throws(ArchiveFault) -> SquashEntry? {
        if at.behind == 0 {
            guard at.rest > 0 else { return nil }
            try readHeader()
        }
        guard at.rest > 8 else { throw ArchiveFault(.corrupt, "a directory that ends in the middle") }
        let fixed = try cursor.read(8)
        let length = Int(fixed.u16(6)) + 1
        at.rest -= 8 + length
        guard length <= SquashFormat.nameBytes, at.rest >= 0 else {
            throw ArchiveFault(.corrupt, "a directory entry of \(length) bytes")
        }
        let name = try cursor.read(length)
        guard let kind = SquashInode.Kind(rawValue: fixed.u16(4)), Self.isName(name) else {
            throw ArchiveFault(.hostile, entry: name, "not a name of a file")
        }
        guard at.count == 0 || at.last.lexicographicallyPrecedes(name) else {
            throw ArchiveFault(.corrupt, entry: name, "a directory whose names are not in order")
        }
        guard at.count < SquashFormat.entriesPerDirectory else {
            throw ArchiveFault(.limit, "a directory of more than \(SquashFormat.entriesPerDirectory) entries")
        }
        at.last = name
        at.count += 1
        at.behind -= 1
        let number = at.firstNumber + Int64(Int16(bitPattern: fixed.u16(2)))
        return SquashEntry(
            name: name, reference: at.block << 16 | UInt64(fixed.u16(0)), number: UInt32(truncatingIfNeeded: number),
            kind: kind)
    }

    private mutating func readHeader() throws(ArchiveFault) {
        guard at.rest >= 12 else { throw ArchiveFault(.corrupt, "a directory that ends in the middle") }
        let head = try cursor.read(12)
        at.rest -= 12
        guard head.u32(0) < SquashFormat.entriesPerHeader else {
            throw ArchiveFault(.corrupt, "a directory header for \(head.u32(0)) entries")
        }
        at.behind = Int(head.u32(0)) + 1
        at.block = UInt64(head.u32(4))
        at.firstNumber = Int64(head.u32(8))
    }

    private static func isName(_ name: [UInt8]) -> Bool {
        !name.isEmpty && name != [46] && name != [46, 46] && !name.contains(0) && !name.contains(UInt8(ascii: "/"))
    }
}

/// A directory for questions in any order: the places of its pages, each a walk that can be taken up there.
package final class SquashDirectory: Sendable {
    package let count: Int
    private let reference: UInt64
    /// Before the first entry of each page.
    private let places: [SquashEntries.Place]
    static let pageEntries = 512

    fileprivate init(_ reader: SquashReader, _ inode: SquashInode) throws(ArchiveFault) {
        var walk = try SquashEntries(reader, inode)
        var places = [walk.place]
        while try walk.next() != nil {
            if walk.count % Self.pageEntries == 0 { places.append(walk.place) }
        }
        (count, reference, self.places) = (walk.count, inode.reference, places)
    }

    var pageCount: Int { places.count }

    /// Entry `index` of `count`.
    package func entry(_ index: Int, _ reader: SquashReader) throws(ArchiveFault) -> SquashEntry {
        try page(index / Self.pageEntries, reader)[index % Self.pageEntries]
    }

    package func find(_ name: some Collection<UInt8>, _ reader: SquashReader) throws(ArchiveFault) -> SquashEntry? {
        // The last page whose names may still be before it or be it: each place knows the name before its own.
        var first = 0
        var end = places.count
        while end - first > 1 {
            let middle = (first + end) / 2
            if places[middle].last.lexicographicallyPrecedes(name) { first = middle } else { end = middle }
        }
        let entries = try page(first, reader)
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].name.lexicographicallyPrecedes(name) { low = middle + 1 } else { high = middle }
        }
        return low < entries.count && entries[low].name.elementsEqual(name) ? entries[low] : nil
    }

    private func page(_ number: Int, _ reader: SquashReader) throws(ArchiveFault) -> [SquashEntry] {
        let key = DirectoryCache.Page(directory: reference, number: number)
        if let known = reader.directories[key] { return known }
        var walk = SquashEntries(reader, at: places[number])
        var entries: [SquashEntry] = []
        while entries.count < Self.pageEntries, let entry = try walk.next() { entries.append(entry) }
        reader.directories[key] = entries
        return entries
    }
}

/// Directories read lately: their listings are walked once, not once per name looked up.
final class DirectoryCache: @unchecked Sendable {
    struct Page: Hashable {
        var directory: UInt64
        var number: Int
    }
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var known: [UInt64: SquashDirectory] = [:]
    private var pages: [Page: [SquashEntry]] = [:]
    private var placeCount = 0
    private var entryCount = 0
    /// Each at most some 400 bytes, with a name of the longest.
    private static let placeLimit = 8192
    private static let entryLimit = 16384

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
            if placeCount + newValue.pageCount > DirectoryCache.placeLimit {
                known = [:]
                placeCount = 0
            }
            if known.updateValue(newValue, forKey: reference) == nil { placeCount += newValue.pageCount }
        }
    }

    subscript(page: Page) -> [SquashEntry]? {
        get {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            return pages[page]
        }
        set {
            guard let newValue else { return }
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            if entryCount + newValue.count > DirectoryCache.entryLimit {
                pages = [:]
                entryCount = 0
            }
            if pages.updateValue(newValue, forKey: page) == nil { entryCount += newValue.count + 1 }
        }
    }
}

extension SquashReader {
    /// A walk through `inode`, which must be a directory.
    package func entries(_ inode: SquashInode) throws(ArchiveFault) -> SquashEntries {
        try SquashEntries(self, inode)
    }

    /// Directory `inode`, for looking up.
    package func directory(_ inode: SquashInode) throws(ArchiveFault) -> SquashDirectory {
        if let known = directories[inode.reference] { return known }
        let directory = try SquashDirectory(self, inode)
        directories[inode.reference] = directory
        return directory
    }

    /// The file at `path` (no link is followed); nil when there is none.
    package func find(_ path: String) throws(ArchiveFault) -> SquashInode? {
        var inode = try root()
        for component in path.utf8.split(separator: UInt8(ascii: "/")) {
            guard inode.kind == .directory, let entry = try directory(inode).find(component, self) else { return nil }
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
