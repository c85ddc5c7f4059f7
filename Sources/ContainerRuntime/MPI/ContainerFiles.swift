import Glibc
import ImageFormats
import LinuxSystem

/// A container's files as its processes will see them, read without starting it: the image's, and over
/// them what is bound from the host. A program that its user compiled lies in the latter.
package struct ContainerFiles {
    /// Something that covers `destination`: a path of the host, or nil for what cannot be looked into.
    package struct Cover {
        var destination: String
        var source: String?

        /// - Parameter source: absolute.
        package init(destination: String, source: String?) {
            self.destination = destination
            self.source = source
        }
    }

    private let tree: MergedTree
    /// In the order in which they are attached.
    private let covers: [Cover]
    /// What relative paths start from.
    private let directory: String

    package init(_ tree: MergedTree, covers: [Cover] = [], directory: String = "/") {
        self.tree = tree
        self.covers = covers
        self.directory = directory
    }

    private enum Place { case image(String), host(String), hidden }

    private func place(_ path: String) -> Place {
        let absolute = path.hasPrefix("/") ? path : directory + "/" + path
        // `./a` and `a//b` must compare equal to what a bind names.
        var parts: [Substring] = []
        for part in absolute.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        let clean = "/" + parts.joined(separator: "/")
        for cover in covers.reversed() {
            if clean == cover.destination { return cover.source.map { .host($0) } ?? .hidden }
            let prefix = cover.destination.hasSuffix("/") ? cover.destination : cover.destination + "/"
            if clean.hasPrefix(prefix) {
                return cover.source.map { .host($0 + "/" + clean.dropFirst(prefix.count)) } ?? .hidden
            }
        }
        return .image(clean)
    }

    package func isFile(_ path: String) -> Bool {
        switch place(path) {
        case .image(let path): return tree.find(path)?.isFile == true
        case .host(let path):
            var status = stat()
            return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        case .hidden: return false
        }
    }

    /// Where `path` really lies in the image; nil when it is none of the image's.
    func inImage(_ path: String) -> String? {
        guard case .image(let path) = place(path) else { return nil }
        return tree.find(path).map { "/" + $0.path }
    }

    /// The first `limit` bytes of the file at `path`; nil when there is none.
    package func contents(of path: String, limit: Int) -> [UInt8]? {
        switch place(path) {
        case .image(let path): return tree.contents(of: path, limit: limit)
        case .host(let path):
            guard let real = realpath(path, nil) else { return nil }
            defer { free(real) }
            let name = String(cString: real)
            guard let slash = name.lastIndex(of: "/"),
                let beside = try? MergedTree([slash == name.startIndex ? "/" : String(name[..<slash])])
            else { return nil }
            return beside.contents(of: String(name[name.index(after: slash)...]), limit: limit)
        case .hidden: return nil
        }
    }
}
