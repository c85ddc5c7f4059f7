import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// What extracting a layer left out or changed.
package struct ExtractionSummary: Sendable {
    package var entries = 0
    /// Bytes of file content written.
    package var bytes: Int64 = 0
    package var skippedDevices = 0
    package var droppedAttributes = 0
    /// Files whose set-user-ID or set-group-ID bit was dropped.
    package var droppedSetID = 0
    package var duplicates = 0
    /// The layer hides everything below it.
    package var isRootOpaque = false
    package init() {}
}

/// Bounds of one image, all layers together.
package struct ExtractionLimits: Sendable {
    /// Entries; an inode each.
    package var entries = 5_000_000
    /// Bytes of content.
    package var bytes: Int64 = 256 << 30
    package init() {}
}

/// What the layers of one image have used of their limits, wherever they are unpacked.
package final class ExtractionBudget: Sendable {
    package let limits: ExtractionLimits
    private let entries = Atomic<Int>(0)
    private let bytes = Atomic<Int64>(0)

    package init(_ limits: ExtractionLimits) { self.limits = limits }

    func take(bytes count: Int64, _ entry: [UInt8]) throws(ArchiveFault) {
        guard bytes.add(count, ordering: .relaxed).newValue <= limits.bytes else {
            throw ArchiveFault(.limit, entry: entry, "more than \(limits.bytes) bytes of content (--max-size)")
        }
    }

    func takeEntry(_ entry: [UInt8]) throws(ArchiveFault) {
        guard entries.add(1, ordering: .relaxed).newValue <= limits.entries else {
            throw ArchiveFault(.limit, entry: entry, "more than \(limits.entries) entries (--max-files)")
        }
    }

    /// `stream` with an end: headers and what follows an archive's end cost time, too.
    package func bounding(_ stream: any ByteStream) -> any ByteStream {
        BoundedStream(stream, limit: limits.bytes + Int64(min(limits.entries, 1 << 30)) * 2048 + (1 << 20))
    }
}

private final class BoundedStream: ByteStream {
    private let stream: any ByteStream
    private let limit: Int64
    private var passed: Int64 = 0

    init(_ stream: any ByteStream, limit: Int64) {
        self.stream = stream
        self.limit = limit
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        let n = try stream.read(into: buffer)
        passed += Int64(n)
        guard passed <= limit else { throw ArchiveFault(.limit, "more than \(limit) bytes when decompressed") }
        return n
    }
}

/// Unpacks one layer into a directory, in overlayfs's form: whiteouts are character devices 0:0,
/// opaque directories carry `user.overlay.opaque`.
///
/// Nothing outside the directory is touched whatever the archive says: every path is resolved below
/// an open root by the kernel (openat2, RESOLVE_IN_ROOT), names come from `EntryPath`, and the last
/// component is never followed. Owners are not kept (an ordinary user cannot); modes are, but for
/// set-id bits and, where others may come, their right to write; and the owner may always read, and enter and change directories, so that the user can
/// read and delete what was unpacked. The mode as recorded is kept in `user.trireme.mode`.
///
/// The process's umask must be 0 for modes to come out as recorded.
package final class LayerExtractor {
    let root: Int32
    /// Permission bits that stay.
    let kept: UInt32
    private let openLower: () throws(ArchiveFault) -> [Int32]
    private var openedLower: [Int32]?
    let budget: ExtractionBudget
    package internal(set) var summary = ExtractionSummary()

    /// The parent of the last entry, which is mostly the parent of the next.
    private var parentPath: [UInt8]?
    private var parentDescriptor: Int32 = -1
    /// Times of directories, set when nothing more is written into them; of two for one the later counts.
    var directoryTimes: [(path: [UInt8], time: TarEntry.Time)] = []
    /// Directories that were made for what is in them, and of which no entry has spoken yet.
    var impliedDirectories: Set<[UInt8]> = []
    var attributesFail = false

    enum Attribute {
        static let opaque = "user.overlay.opaque"
        static let mode = "user.trireme.mode"
    }

    /// - Parameters:
    ///   - root: an empty directory, open for reading.
    ///   - isShared: others may come here, and must find nothing that they can write to.
    ///   - lower: gives the unpacked lower layers, topmost first, open; a hard link may name a file of theirs.
    ///     Asked at most once, and only when an entry needs them, so layers can be unpacked side by side.
    package init(
        into root: Int32, isShared: Bool = false, budget: ExtractionBudget = ExtractionBudget(ExtractionLimits()),
        lower: @escaping () throws(ArchiveFault) -> [Int32]
    ) {
        self.root = root
        kept = isShared ? 0o1755 : 0o1777
        self.budget = budget
        openLower = lower
    }

    func lower() throws(ArchiveFault) -> [Int32] {
        if let openedLower { return openedLower }
        let opened = try openLower()
        openedLower = opened
        return opened
    }

    deinit { forgetParent() }

    /// Unpacks all entries of `archive`.
    package func extract(_ archive: TarReader) throws(ArchiveFault) {
        while let entry = try archive.next() {
            summary.entries += 1
            try budget.takeEntry(entry.path)
            try extract(entry, archive)
        }
        forgetParent()
        try finishImpliedDirectories()
        setDirectoryTimes()
    }

    private func extract(_ entry: TarEntry, _ archive: TarReader) throws(ArchiveFault) {
        let path = try EntryPath(entry.path)
        if path.isRoot {
            guard entry.kind == .directory else { throw ArchiveFault(.hostile, entry: entry.path, "replaces the root") }
            directoryTimes.append(([], entry.modified))
            return
        }
        let whiteout = try Whiteout(path, raw: entry.path)
        switch whiteout {
        case .ignored: return
        case .opaque: return try makeOpaque(path, entry)
        case .remove(let target): return try makeWhiteout(target, path, entry)
        case .none: break
        }
        switch entry.kind {
        case .characterDevice, .blockDevice, .fifo:
            summary.skippedDevices += 1
        case .unknown(let type):
            throw ArchiveFault(.unsupported, entry: entry.path, "an entry of unknown type '\(UnicodeScalar(type))'")
        case .file: try writeFile(entry, path, archive)
        case .directory: try makeDirectory(entry, path)
        case .symbolicLink: try makeSymbolicLink(entry, path)
        case .hardLink: try makeHardLink(entry, path)
        }
    }

    // MARK: Parents

    func forgetParent() {
        if parentDescriptor >= 0 { close(parentDescriptor) }
        parentDescriptor = -1
        parentPath = nil
    }

    /// The open parent of `path`, made if missing. Valid until the next call or `forgetParent`.
    func parent(of path: EntryPath, _ entry: [UInt8]) throws(ArchiveFault) -> Int32 {
        if let parentPath, parentPath == path.parent { return parentDescriptor }
        let descriptor = try openDirectory(path.parent, entry)
        forgetParent()
        parentPath = path.parent
        parentDescriptor = descriptor
        return descriptor
    }

    /// Opens directory `path`, making what is missing; the caller closes it.
    func openDirectory(_ path: [UInt8], _ entry: [UInt8]) throws(ArchiveFault) -> Int32 {
        let descriptor = DirectoryTree.open(path, below: root)
        if descriptor >= 0 { return descriptor }
        let code = errno
        guard code == ENOENT || code == ENOTDIR, !path.isEmpty else {
            throw ArchiveFault(SyscallError("openat2", ArchiveFault.printable(path), errno: code), entry: entry)
        }
        let here = try EntryPath(path)
        let above = try openDirectory(here.parent, entry)
        defer { close(above) }
        var isReplacing = false
        if let old = try status(here.name, above, entry) {
            // A link whose target is missing: the directory is made where it points, below the root.
            if old.isLink { return try openThroughLink(here, above, entry) }
            try removed(here.name, above, entry)
            isReplacing = true
        }
        try call("mkdir", entry) { DirectoryTree.withName(here.name) { mkdirat(above, $0, 0o755) } }
        impliedDirectories.insert(path)
        let made = DirectoryTree.withName(here.name) {
            openat(above, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        }
        guard made >= 0 else { throw ArchiveFault(SyscallError("open"), entry: entry) }
        if isReplacing { try setOpaque(made, entry) }
        return made
    }

    private func openThroughLink(_ path: EntryPath, _ above: Int32, _ entry: [UInt8]) throws(ArchiveFault) -> Int32 {
        linkDepth += 1
        defer { linkDepth -= 1 }
        guard linkDepth <= 8 else { throw ArchiveFault(.hostile, entry: entry, "too many levels of symbolic links") }
        var target = [UInt8](repeating: 0, count: 4096)
        let n = DirectoryTree.withName(path.name) { name in
            target.withUnsafeMutableBytes {
                readlinkat(above, name, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
            }
        }
        guard n > 0 else { throw ArchiveFault(SyscallError("readlink"), entry: entry) }
        var joined = target[0] == UInt8(ascii: "/") ? [] : path.parent + [UInt8(ascii: "/")]
        joined += target[..<n]
        // Lexical, and clamped: above the root is the root, as in a chroot.
        var components: [ArraySlice<UInt8>] = []
        for component in joined.split(separator: UInt8(ascii: "/")) where !component.elementsEqual(".".utf8) {
            if component.elementsEqual("..".utf8) { _ = components.popLast() } else { components.append(component) }
        }
        return try openDirectory(Array(components.joined(separator: [UInt8(ascii: "/")])), entry)
    }
    private var linkDepth = 0

    // MARK: Small steps

    func call(_ name: StaticString, _ entry: [UInt8], _ body: () -> Int32) throws(ArchiveFault) {
        do throws(SyscallError) { try checked(name, "", body) } catch { throw ArchiveFault(error, entry: entry) }
    }

    func status(_ name: [UInt8], _ parent: Int32, _ entry: [UInt8]) throws(ArchiveFault) -> stat? {
        do throws(SyscallError) { return try DirectoryTree.status(name, in: parent) } catch {
            throw ArchiveFault(error, entry: entry)
        }
    }

    func removed(_ name: [UInt8], _ parent: Int32, _ entry: [UInt8]) throws(ArchiveFault) {
        do throws(SyscallError) { try DirectoryTree.remove(name, in: parent) } catch {
            throw ArchiveFault(error, entry: entry)
        }
    }

    /// Hides the lower layers' content of an open directory (overlayfs documentation, "whiteouts and opaque directories").
    func setOpaque(_ directory: Int32, _ entry: [UInt8]) throws(ArchiveFault) {
        try call("setxattr", entry) { linux_fsetxattr(directory, Attribute.opaque, "y", 1, 0) }
    }

    /// A directory that no entry speaks of is like the one below, else like what docker makes. Its time must
    /// not be now, or a layer unpacked twice would not be the same. Known at the end only: a later entry may
    /// speak of it, and the layers below, which are unpacked at the same time, are there by then.
    private func finishImpliedDirectories() throws(ArchiveFault) {
        guard !impliedDirectories.isEmpty else { return }
        let below = try lower()
        for path in impliedDirectories {
            let like = LayerLookup.directory(path, in: below) ?? (0o755, TarEntry.Time())
            withDirectory(path) { descriptor in
                fchmod(descriptor, like.mode & kept | 0o700)
                var times = like.modified.pair
                futimens(descriptor, &times)
            }
        }
    }

    private func setDirectoryTimes() {
        for (path, time) in directoryTimes {
            withDirectory(path) { descriptor in
                var times = time.pair
                futimens(descriptor, &times)
            }
        }
    }

    /// A later entry may have replaced it; then nothing is done.
    private func withDirectory(_ path: [UInt8], _ body: (Int32) -> Void) {
        let descriptor = DirectoryTree.open(path, below: root, flags: DirectoryTree.openFlags | UInt64(O_NOFOLLOW))
        if descriptor < 0 { return }
        body(descriptor)
        close(descriptor)
    }
}

extension TarEntry.Time {
    /// Access and modification time alike, for utimensat(2).
    var pair: [timespec] {
        let time = timespec(tv_sec: Int(seconds), tv_nsec: Int(nanoseconds))
        return [time, time]
    }
}
