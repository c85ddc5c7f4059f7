/// Takes the layers of an image into a single file as streams, the topmost first, so that what upper layers
/// hide is never compressed or written. The tree is what `LayerExtractor` and `DirectoryImport` together
/// make of the same layers: paths are resolved within their layer, links of it followed, never above its root.
///
/// Nothing but the tree is held in memory: a few hundred bytes for every file.
package final class LayerMerge: @unchecked Sendable {
    // Used by one thread at a time.
    let writer: SquashWriter
    let budget: ExtractionBudget
    private let keepsHidden: Bool
    /// The layers so far, as they show.
    private let merged = LayerNode.directory(depth: 0, above: .nothing)
    private var isFirst = true
    private var hasRootTime = false
    package internal(set) var summary = ExtractionSummary()
    /// Hidden content turned out to be linked to: the layers must be read again by one that keeps it.
    package private(set) var needsHidden = false

    // The layer that is read.
    var root = LayerNode.directory(depth: 0, above: .nothing)
    private var lastParent: (path: [UInt8], node: LayerNode)?
    /// Hard links to files of lower layers.
    private var awaited: [Awaited] = []
    private var awaitedPaths: Set<[UInt8]> = []

    private struct Awaited {
        var node: LayerNode
        var path: [UInt8]
        var entry: [UInt8]
        /// It is awaited there, too.
        var source: LayerNode?
    }

    private enum Limit {
        static let links = 40
        static let pathBytes = 4096
    }

    /// - Parameter keepsHidden: writes content that does not show, too, but for links to it.
    package init(
        _ writer: SquashWriter, budget: ExtractionBudget = ExtractionBudget(ExtractionLimits()),
        keepsHidden: Bool = false
    ) {
        self.writer = writer
        self.budget = budget
        self.keepsHidden = keepsHidden
    }

    /// Reads the next layer below those that were read.
    package func add(_ archive: TarReader) throws(ArchiveFault) {
        root = LayerNode.directory(depth: 0, above: isFirst ? .nothing : .directory(merged))
        isFirst = false
        forgetParent()
        let known = awaited.count
        awaitedPaths = Set(awaited.map(\.path))
        while let entry = try archive.next() {
            summary.entries += 1
            try budget.takeEntry(entry.path)
            try take(entry, archive)
        }
        try settle(known)
        forgetParent()
        merged.lay(over: root, shows: true)
        root = LayerNode.directory(depth: 0, above: .nothing)
    }

    /// Puts the tree into the writer's root.
    package func finish() throws(ArchiveFault) {
        if let missing = awaited.first { throw LayerMerge.isMissing(missing.path, missing.entry) }
        writer.root.metadata = SquashMetadata(
            mode: 0o755, modified: hasRootTime ? Int64(merged.node?.metadata.modified ?? 0) : 0)
        summary.entries = try merged.copy(to: writer.root, writer)
    }

    // MARK: Entries

    private func take(_ entry: TarEntry, _ archive: TarReader) throws(ArchiveFault) {
        let path = try EntryPath(entry.path)
        guard path.parent.count + path.name.count < Limit.pathBytes else {
            throw ArchiveFault(.limit, entry: entry.path, "a path of more than \(Limit.pathBytes) bytes")
        }
        if path.isRoot {
            guard entry.kind == .directory else { throw ArchiveFault(.hostile, entry: entry.path, "replaces the root") }
            if !hasRootTime { merged.node?.metadata.modified = UInt32(clamping: entry.modified.seconds) }
            hasRootTime = true
            return
        }
        switch try Whiteout(path, raw: entry.path) {
        case .ignored: return
        case .opaque:
            if path.parent.isEmpty { summary.isRootOpaque = true }
            try parent(of: path, entry).isOpaque = true
            return
        case .remove(let target):
            let directory = try parent(of: path, entry)
            guard let old = directory.children[target] else {
                directory.children[target] = .whiteout()
                return
            }
            // An entry of this layer stays; the marker speaks of lower layers only.
            if old.isDirectory { old.isOpaque = true }
            return
        case .none: break
        }
        switch entry.kind {
        case .characterDevice, .blockDevice, .fifo: summary.skippedDevices += 1
        case .unknown(let type):
            throw ArchiveFault(.unsupported, entry: entry.path, "an entry of unknown type '\(UnicodeScalar(type))'")
        case .file: try takeFile(entry, path, archive)
        case .directory: try takeDirectory(entry, path)
        case .symbolicLink:
            guard !entry.linkTarget.isEmpty, !entry.linkTarget.contains(0) else {
                throw ArchiveFault(.corrupt, entry: entry.path, "a symbolic link without a target")
            }
            let metadata = SquashMetadata(mode: 0o777, modified: entry.modified.seconds)
            let node = SquashNode(.symbolicLink, metadata, target: entry.linkTarget)
            put(.file(node), path.name, try parent(of: path, entry))
        case .hardLink: try takeHardLink(entry, path)
        }
    }

    private func put(_ node: LayerNode, _ name: [UInt8], _ directory: LayerNode) {
        if let old = directory.children.updateValue(node, forKey: name) {
            if !old.isWhiteout { summary.duplicates += 1 }
            forgetParent()
        }
    }

    private func takeDirectory(_ entry: TarEntry, _ path: EntryPath) throws(ArchiveFault) {
        let parent = try parent(of: path, entry)
        let here: LayerNode
        if let old = parent.children[path.name], old.isDirectory {
            here = old
        } else {
            here = try made(path.name, in: parent, entry)
        }
        here.isImplied = false
        here.node?.metadata = metadata(entry)
    }

    private func takeFile(_ entry: TarEntry, _ path: EntryPath, _ archive: TarReader) throws(ArchiveFault) {
        summary.bytes += entry.storedBytes
        try budget.take(bytes: entry.storedBytes, entry.path)
        let parent = try parent(of: path, entry)
        let node = SquashNode(.file, metadata(entry))
        let file = LayerNode.file(node)
        put(file, path.name, parent)
        let isWanted = keepsHidden || parent.shows(path.name) || awaitedPaths.contains(path.full)
        guard isWanted || entry.size == 0 else {
            file.isSkipped = true
            return
        }
        writer.beginFile(node)
        if let segments = entry.segments {
            try writeSegments(segments, entry, archive)
        } else {
            try archive.readData { (piece) throws(ArchiveFault) in try writer.append(piece) }
        }
        try writer.endFile()
    }

    private func writeSegments(
        _ segments: [TarEntry.Segment], _ entry: TarEntry, _ archive: TarReader
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
        var next = 0
        var within: Int64 = 0
        var at: Int64 = 0
        try archive.readData { (piece) throws(ArchiveFault) in
            var rest = piece
            while !rest.isEmpty {
                while within == segments[next].length {
                    next += 1
                    within = 0
                }
                if within == 0 {
                    try writer.appendHole(segments[next].offset - at)
                    at = segments[next].offset
                }
                let n = Int(min(Int64(rest.count), segments[next].length - within))
                try writer.append(UnsafeRawBufferPointer(rebasing: rest[..<n]))
                within += Int64(n)
                at += Int64(n)
                rest = UnsafeRawBufferPointer(rebasing: rest[n...])
            }
        }
        try writer.appendHole(entry.size - at)
    }

    private func metadata(_ entry: TarEntry) -> SquashMetadata {
        var metadata = SquashMetadata(mode: entry.mode, modified: entry.modified.seconds)
        for attribute in entry.attributes {
            if LayerExtractor.isKept(attribute.name) {
                metadata.attributes.append(SquashAttribute(name: attribute.name, value: attribute.value))
            } else {
                summary.droppedAttributes += 1
            }
        }
        return metadata
    }

    // MARK: Hard links

    private func takeHardLink(_ entry: TarEntry, _ path: EntryPath) throws(ArchiveFault) {
        let target = try EntryPath(entry.linkTarget)
        guard !target.isRoot else { throw ArchiveFault(.hostile, entry: entry.path, "a hard link to the root") }
        if target.full == path.full { return }
        let parent = try parent(of: path, entry)
        let from = try directory(target.parent, entry, isMaking: false)
        var found = from?.children[target.name]
        if found?.isWhiteout == true { throw LayerMerge.isMissing(target.full, entry.path) }
        if found?.isDirectory == true { throw ArchiveFault(.corrupt, entry: entry.path, "a hard link to a directory") }
        if found == nil {
            let made = LayerNode.file(nil)
            awaited.append(Awaited(node: made, path: target.full, entry: entry.path))
            guard let from = try directory(target.parent, entry, isMaking: true) else { return }
            from.children[target.name] = made
            found = made
        }
        guard let found else { return }
        if found.isSkipped, parent.shows(path.name) { throw needsAll() }
        put(found, path.name, parent)
    }

    private func needsAll() -> ArchiveFault {
        needsHidden = true
        return ArchiveFault(.system, "hidden content is linked to")
    }

    private static func isMissing(_ path: [UInt8], _ entry: [UInt8]) -> ArchiveFault {
        ArchiveFault(
            .corrupt, entry: entry, "a hard link to '\(ArchiveFault.printable(path))', which is not in the image")
    }

    /// Gives the first `count` awaited files what this layer has of them.
    private func settle(_ count: Int) throws(ArchiveFault) {
        var rest: [Awaited] = []
        for (number, var wanted) in awaited.enumerated() {
            var found = wanted.source
            if number < count, found == nil {
                switch look(wanted.path) {
                case .absent: break
                case .hidden: throw LayerMerge.isMissing(wanted.path, wanted.entry)
                case .found(let node): found = node
                }
            }
            guard let found else {
                rest.append(wanted)
                continue
            }
            guard let node = found.node else {
                wanted.source = found
                rest.append(wanted)
                continue
            }
            guard !found.isDirectory else {
                throw ArchiveFault(.corrupt, entry: wanted.entry, "a hard link to a directory")
            }
            if found.isSkipped { throw needsAll() }
            // A file of its own, as overlayfs copies one up.
            let copy = SquashNode(node.kind, node.metadata, target: node.target)
            copy.data = node.data
            wanted.node.node = copy
        }
        awaited = rest
    }

    private enum Look { case found(LayerNode), hidden, absent }

    /// `path` of this layer itself, links not followed (`LayerLookup.look`).
    private func look(_ path: [UInt8]) -> Look {
        var here = root
        var isOpaque = root.isOpaque
        let components = path.split(separator: UInt8(ascii: "/"))
        for (number, component) in components.enumerated() {
            guard let child = here.children[Array(component)] else { return isOpaque ? .hidden : .absent }
            if child.isWhiteout { return .hidden }
            if number == components.count - 1 { return .found(child) }
            guard child.isDirectory else { return .hidden }
            isOpaque = isOpaque || child.isOpaque
            here = child
        }
        return .absent
    }

    // MARK: Directories

    private func forgetParent() { lastParent = nil }

    private func parent(of path: EntryPath, _ entry: TarEntry) throws(ArchiveFault) -> LayerNode {
        if let lastParent, lastParent.path == path.parent { return lastParent.node }
        guard let found = try directory(path.parent, entry, isMaking: true) else { return root }
        lastParent = (path.parent, found)
        return found
    }

    /// The directory at `path`, links followed within this layer, made where it is missing.
    private func directory(_ path: [UInt8], _ entry: TarEntry, isMaking: Bool) throws(ArchiveFault) -> LayerNode? {
        var pending = path.split(separator: UInt8(ascii: "/")).map(Array.init).reversed() as [[UInt8]]
        var trail = [root]
        var links = 0
        while let name = pending.popLast() {
            if name == [46] { continue }
            if name == [46, 46] {
                if trail.count > 1 { trail.removeLast() }
                continue
            }
            let here = trail[trail.count - 1]
            let child = here.children[name]
            if let child, child.isDirectory {
                trail.append(child)
            } else if let link = child?.node, link.kind == .symbolicLink {
                links += 1
                guard links <= Limit.links else {
                    throw ArchiveFault(.hostile, entry: entry.path, "too many levels of symbolic links")
                }
                if link.target.first == UInt8(ascii: "/") { trail = [root] }
                pending += link.target.split(separator: UInt8(ascii: "/")).map(Array.init).reversed()
            } else {
                guard isMaking else { return nil }
                let made = try made(name, in: here, entry)
                made.isImplied = true
                trail.append(made)
            }
        }
        return trail.last
    }

    /// A new directory; where something else stood, that hid what lower layers have, and so does this.
    private func made(_ name: [UInt8], in parent: LayerNode, _ entry: TarEntry) throws(ArchiveFault) -> LayerNode {
        guard parent.depth + 1 < SquashFormat.depth else {
            throw ArchiveFault(.limit, entry: entry.path, "too many directories inside each other")
        }
        let directory = LayerNode.directory(depth: parent.depth + 1, above: parent.above(name))
        directory.isOpaque = parent.children[name] != nil
        put(directory, name, parent)
        return directory
    }
}
