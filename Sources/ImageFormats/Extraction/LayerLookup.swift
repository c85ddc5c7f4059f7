import CLinux
import Glibc
import LinuxSystem

/// Looks up single paths in a stack of unpacked layers as overlayfs would show them, symbolic links
/// not followed. `MergedTree` is the full view; this is what an extractor needs of it.
package enum LayerLookup {
    package struct Found {
        /// The layer that shows the path, open.
        package var layer: Int32
        package var path: [UInt8]
        package var status: stat
    }

    /// The topmost `path`, unless a layer above it hides it.
    package static func find(_ path: [UInt8], in layers: [Int32]) -> Found? {
        for layer in layers {
            switch look(path, in: layer) {
            case .found(let status): return Found(layer: layer, path: path, status: status)
            case .hidden: return nil
            case .absent: continue
            }
        }
        return nil
    }

    /// What directory `path` of the layers is like, for one made in its place.
    static func directory(_ path: [UInt8], in layers: [Int32]) -> (mode: UInt32, modified: TarEntry.Time)? {
        guard let found = find(path, in: layers), found.status.isDirectory else { return nil }
        let time = found.status.st_mtim
        return (
            found.status.st_mode & 0o1777, TarEntry.Time(seconds: Int64(time.tv_sec), nanoseconds: Int64(time.tv_nsec))
        )
    }

    static func isOpaque(_ directory: Int32) -> Bool {
        var value: UInt8 = 0
        return linux_fgetxattr(directory, LayerExtractor.Attribute.opaque, &value, 1) == 1
    }

    enum Look { case found(stat), hidden, absent }

    static func look(_ path: [UInt8], in layer: Int32) -> Look {
        let components = path.split(separator: UInt8(ascii: "/"))
        var prefix: [UInt8] = []
        var isOpaque = false
        for (i, component) in components.enumerated() {
            prefix += (prefix.isEmpty ? [] : [UInt8(ascii: "/")]) + component
            guard let status = try? DirectoryTree.status(prefix, in: layer) else { return isOpaque ? .hidden : .absent }
            if status.isWhiteout { return .hidden }
            if i == components.count - 1 { return .found(status) }
            guard status.isDirectory else { return .hidden }
            let directory = DirectoryTree.open(
                prefix, below: layer, flags: DirectoryTree.openFlags | UInt64(O_NOFOLLOW))
            if directory >= 0 {
                if self.isOpaque(directory) { isOpaque = true }
                close(directory)
            }
        }
        return .absent
    }
}
