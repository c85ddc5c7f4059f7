import CLinux
import Glibc
import LinuxSystem

/// Whether what a load wrote is on disk before it becomes visible: a name must never lead to files that a
/// power cut emptied. `TRIREME_STORE_SYNC=no` leaves that to the kernel, for stores that can be filled again.
enum StoreSync {
    private static var isWanted: Bool {
        guard let value = getenv("TRIREME_STORE_SYNC") else { return true }
        return !["no", "0", "false", "off"].contains(String(cString: value))
    }

    /// Writes everything of the file system that `path` lies on to disk: one call for blobs, records and
    /// thousands of unpacked files, where an fsync(2) each would cost a journal commit each. syncfs(2)
    static func flush(_ path: String) throws(SyscallError) {
        guard isWanted else { return }
        let directory = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
        let raw = directory.raw
        try checked("syncfs", path) { linux_syncfs(raw) }
    }
}
