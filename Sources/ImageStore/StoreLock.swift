import Glibc
import ImageFormats
import LinuxSystem
import OCIModel

/// The store's one lock (flock(2)); held only while names and finished things change places.
/// The kernel lets go of it when its holder dies.
package struct StoreLock: ~Copyable {
    private let file: OwnedDescriptor

    package init(_ layout: StoreLayout) throws(SyscallError) {
        let file = try OwnedDescriptor.open(layout.lock, O_RDWR | O_CREAT, mode: 0o644)
        let raw = file.raw
        try checked("flock", layout.lock) { flock(raw, LOCK_EX) }
        self.file = file
    }
}

/// A directory of its own for one command, under `tmp/`. It is locked while the command lives,
/// so the next command can tell a dead one's from a living one's, whatever ended it.
package final class Staging {
    package let path: String
    private let directory: OwnedDescriptor
    private let parent: OwnedDescriptor
    private let name: String
    private var parts = 0

    /// - Parameter lock: held by the caller, so that no sweeper sees the directory before it is locked.
    package init(_ layout: StoreLayout, holding lock: borrowing StoreLock) throws(SyscallError) {
        name = "\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 36))"
        path = layout.temporary + "/" + name
        parent = try OwnedDescriptor.open(layout.temporary, O_RDONLY | O_DIRECTORY)
        try checked("mkdir", path) { [path] in mkdir(path, 0o700) }
        directory = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
        let raw = directory.raw
        try checked("flock", path) { flock(raw, LOCK_EX | LOCK_NB) }
    }

    /// A new directory below this one, empty.
    package func makePart() throws(SyscallError) -> String {
        parts += 1
        let part = "\(path)/\(parts)"
        try checked("mkdir", part) { mkdir(part, 0o700) }
        return part
    }

    deinit { try? DirectoryTree.remove(Array(name.utf8), in: parent.raw) }

    /// Removes what dead commands left. Idempotent.
    package static func sweep(_ layout: StoreLayout, holding lock: borrowing StoreLock) throws(SyscallError) {
        let parent = try OwnedDescriptor.open(layout.temporary, O_RDONLY | O_DIRECTORY)
        for name in try Files.names(in: layout.temporary) {
            let raw = openat(parent.raw, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if raw < 0 {
                if errno == ENOTDIR || errno == ELOOP { unlinkat(parent.raw, name, 0) }
                continue
            }
            let directory = OwnedDescriptor(owning: raw)
            guard flock(directory.raw, LOCK_EX | LOCK_NB) == 0 else { continue }
            try DirectoryTree.remove(Array(name.utf8), in: parent.raw)
        }
    }
}
