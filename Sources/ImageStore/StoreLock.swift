import Glibc
import ImageFormats
import LinuxSystem
import OCIModel

/// The store's one lock; held only while names and finished things change places. The kernel lets go of it
/// when its holder dies, the server when its holder's node does.
package struct StoreLock: ~Copyable {
    private let file: OwnedDescriptor

    package init(_ layout: StoreLayout) throws(SyscallError) {
        file = try FileLock.open(layout.lock, waits: true)
    }
}

/// A lock on a whole file: flock(2). On NFS Linux makes of it a byte-range lock that the server knows, for
/// which the file must be open for writing; on Lustre it needs the mount option `flock`. Where there are no
/// locks at all (ENOLCK, ENOSYS, EOPNOTSUPP) the failure says so: without them two loads would not see each
/// other, and a lock file that outlives its node would need a person to remove it.
enum FileLock {
    /// Opens `path`, made where missing, and locks it; the lock goes with the descriptor.
    ///
    /// - Throws: `EWOULDBLOCK` when another has it and `waits` is false.
    static func open(_ path: String, waits: Bool) throws(SyscallError) -> OwnedDescriptor {
        let file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o644)
        let raw = file.raw
        try checked("flock", path) { flock(raw, waits ? LOCK_EX : LOCK_EX | LOCK_NB) }
        return file
    }
}

/// A directory of its own for one command, under `tmp/`. It is locked while the command lives,
/// so the next command can tell a dead one's from a living one's, whatever ended it.
package final class Staging {
    package let path: String
    private let held: OwnedDescriptor
    private let parent: OwnedDescriptor
    private let name: String
    private let layout: StoreLayout
    private var parts = 0
    private static let lockName = "lock"

    /// - Parameter lock: held by the caller, so that no sweeper sees the directory before it is locked.
    package init(_ layout: StoreLayout, holding lock: borrowing StoreLock) throws(SyscallError) {
        name = "\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 36))"
        path = layout.temporary + "/" + name
        self.layout = layout
        parent = try OwnedDescriptor.open(layout.temporary, O_RDONLY | O_DIRECTORY)
        try checked("mkdir", path) { [path] in mkdir(path, 0o700) }
        held = try FileLock.open(path + "/" + Staging.lockName, waits: false)
    }

    /// A new directory below this one, empty.
    package func makePart() throws(SyscallError) -> String {
        parts += 1
        let part = "\(path)/\(parts)"
        try checked("mkdir", part) { mkdir(part, 0o700) }
        return part
    }

    deinit {
        Staging.keepPartials(of: path, in: layout)
        try? DirectoryTree.remove(Array(name.utf8), in: parent.raw)
    }

    /// The directories of commands that have died, by name.
    ///
    /// - Parameter lock: the store's, which whoever makes such a directory holds until it is locked.
    static func dead(_ layout: StoreLayout, holding lock: borrowing StoreLock) throws(SyscallError) -> [String] {
        try Files.names(in: layout.temporary).filter { name in
            // One without a lock file was killed before it made one: that happens under the store's lock.
            guard let file = try? OwnedDescriptor.open("\(layout.temporary)/\(name)/\(lockName)", O_RDWR | O_NOFOLLOW)
            else { return errno != EACCES }
            return flock(file.raw, LOCK_EX | LOCK_NB) == 0
        }
    }

    /// Removes directories beside this one.
    func remove(_ names: [String], holding lock: borrowing StoreLock) {
        // Its owner may be removing it just now; what cannot be removed is the next command's.
        for name in names {
            Staging.keepPartials(of: layout.temporary + "/" + name, in: layout)
            try? DirectoryTree.remove(Array(name.utf8), in: parent.raw)
        }
    }
}
