/// One file of a layer, or of several layers as they show together. Names of one file share it.
final class LayerNode {
    /// What is written; nil for a whiteout, and for a file of a lower layer that has not come yet.
    var node: SquashNode?
    let isDirectory: Bool
    /// `.wh.NAME`: what lower layers have by this name does not show.
    let isWhiteout: Bool

    // Of a directory.
    var children: [[UInt8]: LayerNode] = [:]
    /// Lower layers' content of it does not show.
    var isOpaque = false
    /// No entry spoke of it: it is like the one below.
    var isImplied = false
    let depth: Int
    /// What the layers above have in its place.
    let above: Above

    /// Content that does not show was passed over.
    var isSkipped = false

    enum Above {
        case nothing
        case directory(LayerNode)
        /// Whatever it is, nothing below shows.
        case hidden
    }

    private init(_ node: SquashNode?, isDirectory: Bool, isWhiteout: Bool, depth: Int, above: Above) {
        self.node = node
        self.isDirectory = isDirectory
        self.isWhiteout = isWhiteout
        self.depth = depth
        self.above = above
    }

    static func directory(depth: Int, above: Above) -> LayerNode {
        LayerNode(SquashNode(.directory), isDirectory: true, isWhiteout: false, depth: depth, above: above)
    }
    static func file(_ node: SquashNode?) -> LayerNode {
        LayerNode(node, isDirectory: false, isWhiteout: false, depth: 0, above: .nothing)
    }
    static func whiteout() -> LayerNode {
        LayerNode(nil, isDirectory: false, isWhiteout: true, depth: 0, above: .nothing)
    }

    /// What the layers above have by `name` in this directory.
    func above(_ name: [UInt8]) -> Above {
        switch above {
        case .nothing: return .nothing
        case .hidden: return .hidden
        case .directory(let directory):
            guard !directory.isOpaque else { return .hidden }
            guard let found = directory.children[name] else { return .nothing }
            return found.isDirectory ? .directory(found) : .hidden
        }
    }

    /// Whether a file by `name` in this directory shows.
    func shows(_ name: [UInt8]) -> Bool {
        if case .nothing = above(name) { return true }
        return false
    }

    /// Puts `lower`, the same directory of the next layer below, under what is here.
    ///
    /// - Parameter shows: false when only what directories are like is still taken.
    func lay(over lower: LayerNode, shows: Bool) {
        if isImplied, let like = lower.node?.metadata {
            node?.metadata.mode = like.mode & 0o1777 | 0o700
            node?.metadata.modified = like.modified
            isImplied = lower.isImplied
        }
        let shows = shows && !isOpaque
        for (name, child) in lower.children {
            guard let here = children[name] else {
                if shows { children[name] = child }
                continue
            }
            guard here.isDirectory else { continue }
            if child.isDirectory {
                here.lay(over: child, shows: shows)
            } else {
                // What is no directory ends the merging there (overlayfs documentation, "Lower layers").
                here.isOpaque = true
                here.isImplied = false
            }
        }
        if lower.isOpaque { isOpaque = true }
    }

    /// Puts what shows of this directory into `target`; says how many files that are.
    func copy(to target: SquashNode, _ writer: SquashWriter) throws(ArchiveFault) -> Int {
        var count = 0
        for (name, child) in children {
            guard let node = child.node else { continue }
            try writer.add(node, named: name, to: target)
            count += 1
            if child.isDirectory { count += try child.copy(to: node, writer) }
        }
        children = [:]
        return count
    }
}
