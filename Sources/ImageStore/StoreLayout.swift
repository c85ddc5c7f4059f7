import Glibc
import LinuxSystem
import OCIModel

/// Where things lie in a store. The shape is shared with the launcher, which reads `plans` and `layers`.
package struct StoreLayout: Sendable {
    /// Absolute.
    package let root: String

    package func blob(_ digest: Digest) -> String { "\(root)/blobs/sha256/\(digest.hex)" }
    package func layer(_ diffID: Digest) -> String { "\(root)/\(relativeLayer(diffID))" }
    package func relativeLayer(_ diffID: Digest) -> String { "layers/\(diffID.hex)" }
    package func image(_ manifest: Digest) -> String { "\(root)/images/\(manifest.hex)" }
    package func relativePrepared(_ manifest: Digest) -> String { "images/\(manifest.hex)/prepared" }
    package func record(_ manifest: Digest) -> String { image(manifest) + "/record.json" }
    package func signatures(_ manifest: Digest) -> String { image(manifest) + "/signatures.json" }
    package func pin(_ manifest: Digest) -> String { image(manifest) + "/pinned" }
    package func plan(fileName: String) -> String { "\(root)/plans/\(fileName)" }
    package var plans: String { root + "/plans" }
    package var images: String { root + "/images" }
    package var layers: String { root + "/layers" }
    package var blobs: String { root + "/blobs/sha256" }
    package var partials: String { root + "/partials" }
    package func partial(_ digest: Digest) -> String { "\(partials)/\(digest.hex)" }
    package var temporary: String { root + "/tmp" }
    package var lock: String { root + "/lock" }
    package var index: String { root + "/index.json" }
    package var marker: String { root + "/oci-layout" }

    /// Makes the store's directory, closed to everybody else: a store that others are to enter has a directory
    /// that was made for them before (`mkdir -m 755`), and everything in it can be read by whoever may.
    package func makeRoot() throws(SyscallError) {
        if Files.exists(root) { return }
        if let slash = root.lastIndex(of: "/"), slash != root.startIndex {
            try Files.makeDirectories(String(root[..<slash]))
        }
        if mkdir(root, 0o700) != 0, errno != EEXIST { throw SyscallError("mkdir", root) }
    }

    /// Whether others may enter: then nothing below is writable by them, whatever a layer says.
    package var isShared: Bool {
        var status = stat()
        return stat(root, &status) != 0 || status.st_mode & 0o077 != 0
    }

    /// Makes what is missing. Idempotent, and safe beside others doing the same.
    package func create() throws(SyscallError) {
        try makeRoot()
        for directory in [root + "/blobs", blobs, layers, images, plans, temporary] {
            try Files.makeDirectory(directory)
        }
    }
}

/// Whole-file steps on paths of our own making.
package enum Files {
    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Bytes of a file; nil when there is none.
    package static func size(_ path: String) -> Int64? {
        var status = stat()
        return stat(path, &status) == 0 ? Int64(status.st_size) : nil
    }

    package static func makeDirectory(_ path: String) throws(SyscallError) {
        if mkdir(path, 0o755) == 0 {
            _ = chmod(path, 0o755)
        } else if errno != EEXIST {
            throw SyscallError("mkdir", path)
        }
    }

    /// With the caller's umask, which says what a group may; others never write, whatever it is.
    package static func makeDirectories(_ path: String) throws(SyscallError) {
        let mode: mode_t = 0o775
        if mkdir(path, mode) == 0 || errno == EEXIST { return }
        guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
            throw SyscallError("mkdir", path)
        }
        try makeDirectories(String(path[..<slash]))
        if mkdir(path, mode) != 0, errno != EEXIST { throw SyscallError("mkdir", path) }
    }

    package static func read(_ path: String, limit: Int = 16 << 20) throws(SyscallError) -> [UInt8] {
        try OwnedDescriptor.open(path, O_RDONLY).readAll(limit: limit)
    }

    /// As `read`, without the file's time of access being noted (O_NOATIME, open(2)), which is its owner's to ask for.
    package static func readUnnoticed(_ path: String, limit: Int = 16 << 20) throws(SyscallError) -> [UInt8] {
        if let file = try? OwnedDescriptor.open(path, O_RDONLY | Flag.noAccessTime) {
            return try file.readAll(limit: limit)
        }
        return try read(path, limit: limit)
    }

    private enum Flag {
        /// O_NOATIME and, for utimensat(2), UTIME_NOW and UTIME_OMIT, which C makes of macros.
        static let noAccessTime: Int32 = 0o1000000
        static let now = (1 << 30) - 1
        static let omit = (1 << 30) - 2
    }

    /// Notes that `path` is used now.
    package static func touchAccess(_ path: String) {
        var times = [timespec(tv_sec: 0, tv_nsec: Flag.now), timespec(tv_sec: 0, tv_nsec: Flag.omit)]
        _ = utimensat(AT_FDCWD, path, &times, 0)
    }

    package static func write(_ bytes: [UInt8], to path: String) throws(SyscallError) {
        let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
        // Readers of a store for a group or a site are not their writer.
        _ = fchmod(file.raw, 0o644)
        var rest = bytes[...]
        while !rest.isEmpty {
            let n = try checked("write", path) {
                rest.withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress, $0.count) }
            }
            rest = rest.dropFirst(n)
        }
    }

    package static func rename(_ from: String, _ to: String) throws(SyscallError) {
        try checked("rename", to) { Glibc.rename(from, to) }
    }

    /// Names in a directory, without `.` and `..`; empty when it does not exist.
    package static func names(in path: String) throws(SyscallError) -> [String] {
        guard let directory = opendir(path) else {
            if errno == ENOENT { return [] }
            throw SyscallError("opendir", path)
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}
