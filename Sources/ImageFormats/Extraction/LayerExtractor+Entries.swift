import CLinux
import Glibc
import LinuxSystem

extension LayerExtractor {
    // MARK: Files

    func writeFile(_ entry: TarEntry, _ path: EntryPath, _ archive: TarReader) throws(ArchiveFault) {
        summary.bytes += entry.storedBytes
        try budget.take(bytes: entry.storedBytes, entry.path)
        let parent = try parent(of: path, entry.path)
        // The owner reads every file, or the image could not be read by its user.
        let mode = entry.mode & kept & 0o777 | 0o400
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        var raw = DirectoryTree.withName(path.name) { openat(parent, $0, flags, mode) }
        if raw < 0, errno == EEXIST {
            try makeRoom(path, parent, entry)
            raw = DirectoryTree.withName(path.name) { openat(parent, $0, flags, mode) }
        }
        guard raw >= 0 else { throw ArchiveFault(SyscallError("open"), entry: entry.path) }
        let file = OwnedDescriptor(owning: raw)
        if let segments = entry.segments {
            try writeSegments(segments, file.raw, entry, archive)
        } else {
            try archive.readData { (piece) throws(ArchiveFault) in
                do throws(SyscallError) { try file.writeAll(piece) } catch {
                    throw ArchiveFault(error, entry: entry.path)
                }
            }
        }
        try finish(file.raw, entry, mode)
    }

    private func writeSegments(
        _ segments: [TarEntry.Segment], _ file: Int32, _ entry: TarEntry, _ archive: TarReader
    ) throws(ArchiveFault) {
        var end: Int64 = 0
        var stored: Int64 = 0
        for segment in segments {
            guard segment.offset >= end, segment.length >= 0, segment.offset <= entry.size - segment.length else {
                throw ArchiveFault(.corrupt, entry: entry.path, "a sparse map that is not in order")
            }
            end = segment.offset + segment.length
            stored += segment.length
        }
        guard stored == entry.storedBytes, entry.size <= budget.limits.bytes else {
            throw ArchiveFault(.corrupt, entry: entry.path, "a sparse map that does not fit the data")
        }
        try call("ftruncate", entry.path) { ftruncate(file, Int(entry.size)) }
        var next = 0
        var within: Int64 = 0
        try archive.readData { (piece) throws(ArchiveFault) in
            var rest = piece
            while !rest.isEmpty {
                while within == segments[next].length {
                    next += 1
                    within = 0
                }
                let n = min(Int64(rest.count), segments[next].length - within)
                let at = segments[next].offset + within
                let written: Int
                do throws(SyscallError) {
                    written = try checked("pwrite") { pwrite(file, rest.baseAddress, Int(n), Int(at)) }
                } catch {
                    throw ArchiveFault(error, entry: entry.path)
                }
                within += Int64(written)
                rest = UnsafeRawBufferPointer(rebasing: rest[written...])
            }
        }
    }

    /// Attributes, recorded mode and time of an open file or directory.
    private func finish(_ descriptor: Int32, _ entry: TarEntry, _ mode: UInt32) throws(ArchiveFault) {
        if !entry.attributes.isEmpty { setAttributes(descriptor, entry) }
        if mode != entry.mode { recordMode(descriptor, entry.mode) }
        if entry.kind == .file {
            var times = entry.modified.pair
            try call("utimensat", entry.path) { futimens(descriptor, &times) }
        }
    }

    private func recordMode(_ descriptor: Int32, _ mode: UInt32) {
        let text = String(mode, radix: 8)
        // A file system without attributes loses this note and nothing else.
        _ = linux_fsetxattr(descriptor, Attribute.mode, text, text.utf8.count, 0)
    }

    /// Whether an attribute stays with its file.
    static func isKept(_ name: [UInt8]) -> Bool {
        name.starts(with: "user.".utf8) && !name.starts(with: "user.overlay.".utf8)
            && !name.starts(with: "user.trireme.".utf8)
    }

    /// `user.*` is kept; privileged name spaces cannot be, and overlayfs's own marks are made here only.
    private func setAttributes(_ descriptor: Int32, _ entry: TarEntry) {
        for attribute in entry.attributes {
            let name = String(decoding: attribute.name, as: UTF8.self)
            let isKept =
                LayerExtractor.isKept(attribute.name)
                && linux_fsetxattr(descriptor, name, attribute.value, attribute.value.count, 0) == 0
            if !isKept { summary.droppedAttributes += 1 }
        }
    }

    /// Removes what stands at `path`, an entry of this layer or a whiteout.
    private func makeRoom(_ path: EntryPath, _ parent: Int32, _ entry: TarEntry) throws(ArchiveFault) {
        guard let old = try status(path.name, parent, entry.path) else { return }
        if !old.isWhiteout { summary.duplicates += 1 }
        try removed(path.name, parent, entry.path)
    }

    // MARK: Directories

    func makeDirectory(_ entry: TarEntry, _ path: EntryPath) throws(ArchiveFault) {
        let parent = try parent(of: path, entry.path)
        let mode = entry.mode & kept | 0o700
        var isOpaque = false
        var made = DirectoryTree.withName(path.name) { mkdirat(parent, $0, mode) }
        if made != 0, errno == EEXIST {
            if let old = try status(path.name, parent, entry.path), !old.isDirectory {
                // What stood here hid a directory of the lower layers; the new one must, too.
                isOpaque = true
                if !old.isWhiteout { summary.duplicates += 1 }
                try removed(path.name, parent, entry.path)
                made = DirectoryTree.withName(path.name) { mkdirat(parent, $0, mode) }
            } else {
                made = DirectoryTree.withName(path.name) { fchmodat(parent, $0, mode, 0) }
            }
        }
        guard made == 0 else { throw ArchiveFault(SyscallError("mkdir"), entry: entry.path) }
        directoryTimes.append((path.full, entry.modified))
        if !impliedDirectories.isEmpty { impliedDirectories.remove(path.full) }
        guard isOpaque || mode != entry.mode || !entry.attributes.isEmpty else { return }
        let raw = DirectoryTree.withName(path.name) {
            openat(parent, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        }
        guard raw >= 0 else { throw ArchiveFault(SyscallError("open"), entry: entry.path) }
        let directory = OwnedDescriptor(owning: raw)
        if isOpaque { try setOpaque(directory.raw, entry.path) }
        try finish(directory.raw, entry, mode)
    }

    // MARK: Links

    func makeSymbolicLink(_ entry: TarEntry, _ path: EntryPath) throws(ArchiveFault) {
        guard !entry.linkTarget.isEmpty, !entry.linkTarget.contains(0) else {
            throw ArchiveFault(.corrupt, entry: entry.path, "a symbolic link without a target")
        }
        let parent = try parent(of: path, entry.path)
        try makeLink(path, parent, entry, "symlink") {
            DirectoryTree.withName(entry.linkTarget) { target in
                DirectoryTree.withName(path.name) { symlinkat(target, parent, $0) }
            }
        }
        var times = entry.modified.pair
        _ = DirectoryTree.withName(path.name) { utimensat(parent, $0, &times, AT_SYMLINK_NOFOLLOW) }
    }

    private func makeLink(
        _ path: EntryPath, _ parent: Int32, _ entry: TarEntry, _ name: StaticString, _ body: () -> Int32
    ) throws(ArchiveFault) {
        if body() == 0 { return }
        guard errno == EEXIST else { throw ArchiveFault(SyscallError(name), entry: entry.path) }
        try makeRoom(path, parent, entry)
        try call(name, entry.path, body)
    }

    func makeHardLink(_ entry: TarEntry, _ path: EntryPath) throws(ArchiveFault) {
        let target = try EntryPath(entry.linkTarget)
        guard !target.isRoot else { throw ArchiveFault(.hostile, entry: entry.path, "a hard link to the root") }
        if target.full == path.full { return }
        let parent = try parent(of: path, entry.path)
        var from = DirectoryTree.open(target.parent, below: root)
        defer { if from >= 0 { close(from) } }
        let found = from >= 0 ? try status(target.name, from, entry.path) : nil
        if found?.isWhiteout ?? true {
            guard found == nil, let source = LayerLookup.find(target.full, in: try lower()) else {
                throw ArchiveFault(
                    .corrupt, entry: entry.path,
                    "a hard link to '\(ArchiveFault.printable(entry.linkTarget))', which is not in the image")
            }
            if from < 0 { from = try openDirectory(target.parent, entry.path) }
            try copyUp(source, target.name, from, entry.path)
        } else if found?.isDirectory == true {
            throw ArchiveFault(.corrupt, entry: entry.path, "a hard link to a directory")
        }
        try makeLink(path, parent, entry, "link") {
            DirectoryTree.withName(target.name) { old in
                DirectoryTree.withName(path.name) { linkat(from, old, parent, $0, 0) }
            }
        }
    }

    /// Copies a file or symbolic link of a lower layer to `name` in `parent` of this one.
    private func copyUp(
        _ source: LayerLookup.Found, _ name: [UInt8], _ parent: Int32, _ entry: [UInt8]
    ) throws(ArchiveFault) {
        let status = source.status
        var times = [status.st_mtim, status.st_mtim]
        if status.isLink {
            var target = [UInt8](repeating: 0, count: 4096)
            let n = DirectoryTree.withName(source.path) { path in
                target.withUnsafeMutableBytes {
                    readlinkat(source.layer, path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
                }
            }
            guard n > 0 else { throw ArchiveFault(SyscallError("readlink"), entry: entry) }
            try call("symlink", entry) {
                DirectoryTree.withName(Array(target[..<n])) { old in
                    DirectoryTree.withName(name) { symlinkat(old, parent, $0) }
                }
            }
            _ = DirectoryTree.withName(name) { utimensat(parent, $0, &times, AT_SYMLINK_NOFOLLOW) }
            return
        }
        guard status.isFile else { throw ArchiveFault(.corrupt, entry: entry, "a hard link to a directory") }
        let input = DirectoryTree.open(
            source.path, below: source.layer, flags: UInt64(O_RDONLY | O_CLOEXEC | O_NOFOLLOW))
        guard input >= 0 else { throw ArchiveFault(SyscallError("open"), entry: entry) }
        defer { close(input) }
        let output = DirectoryTree.withName(name) {
            openat(parent, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, status.st_mode & kept & 0o777)
        }
        guard output >= 0 else { throw ArchiveFault(SyscallError("open"), entry: entry) }
        defer { close(output) }
        try FileCopy.copy(from: input, to: output, bytes: Int64(status.st_size))
        _ = futimens(output, &times)
    }

    // MARK: Whiteouts

    func makeWhiteout(_ target: [UInt8], _ path: EntryPath, _ entry: TarEntry) throws(ArchiveFault) {
        let parent = try parent(of: path, entry.path)
        if let old = try status(target, parent, entry.path) {
            // An entry of this layer stands already, and stays: the marker speaks of lower layers
            // only. A directory must then hide what they have.
            guard old.isDirectory else { return }
            let raw = DirectoryTree.withName(target) {
                openat(parent, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            }
            guard raw >= 0 else { throw ArchiveFault(SyscallError("open"), entry: entry.path) }
            defer { close(raw) }
            return try setOpaque(raw, entry.path)
        }
        try call("mknod (whiteout)", entry.path) {
            DirectoryTree.withName(target) { linux_mknodat(parent, $0, S_IFCHR, 0, 0) }
        }
    }

    func makeOpaque(_ path: EntryPath, _ entry: TarEntry) throws(ArchiveFault) {
        if path.parent.isEmpty { summary.isRootOpaque = true }
        try setOpaque(try parent(of: path, entry.path), entry.path)
    }
}
