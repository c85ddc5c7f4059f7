import Glibc
import ImageStore
import LinuxSystem
import OCIModel

/// One download of one thing at a time, among all processes that share a store (flock(2), which NFS
/// passes on to its server). The kernel lets go of it when its holder dies.
///
/// The file is removed by its holder, so whoever waited finds out whether it got the lock of the
/// file that is there now. What the holder wrote into it tells those who waited how it ended.
final class PullLock {
    private let file: OwnedDescriptor
    private let path: String
    /// What the one before us wrote; nil when we did not wait, or it ended without.
    let message: String?

    private enum Limit { static let messageBytes = 4096 }

    private init(_ file: consuming OwnedDescriptor, _ path: String, message: String?) {
        self.file = file
        self.path = path
        self.message = message
    }

    /// - Parameters:
    ///   - name: a file name.
    ///   - waiting: called once, before this waits for another.
    static func take(_ name: String, in layout: StoreLayout, waiting: () -> Void) throws(SyscallError) -> PullLock {
        let directory = layout.root + "/pulls"
        try Files.makeDirectories(directory)
        let path = directory + "/" + name
        var hasWaited = false
        while true {
            let file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT, mode: 0o644)
            let raw = file.raw
            if flock(raw, LOCK_EX | LOCK_NB) != 0 {
                guard errno == EWOULDBLOCK || errno == EINTR else { throw SyscallError("flock", path) }
                if !hasWaited { waiting() }
                hasWaited = true
                try checked("flock", path) { flock(raw, LOCK_EX) }
            }
            let isThere = isFile(raw, at: path)
            let text = hasWaited ? (try? file.readAll(limit: Limit.messageBytes)) ?? [] : []
            let lock = PullLock(file, path, message: text.isEmpty ? nil : String(decoding: text, as: UTF8.self))
            if isThere || lock.message != nil { return lock }
        }
    }

    /// Tells those who wait that there is nothing left to do for them.
    func say(_ text: String) { try? file.writeAll(text) }

    deinit { if PullLock.isFile(file.raw, at: path) { unlink(path) } }

    private static func isFile(_ descriptor: Int32, at path: String) -> Bool {
        var ours = stat()
        var there = stat()
        return fstat(descriptor, &ours) == 0 && lstat(path, &there) == 0 && ours.st_ino == there.st_ino
    }
}

/// Several locks held together. All take them in the same order, so that two who want the same ones
/// never wait for each other: the image, then its blobs by digest.
final class BlobLocks {
    private var held: [PullLock] = []
    private let layout: StoreLayout
    private let waiting: () -> Void

    init(in layout: StoreLayout, waiting: @escaping () -> Void) {
        self.layout = layout
        self.waiting = waiting
    }

    func take(_ name: String) throws(SyscallError) {
        held.append(try PullLock.take(name, in: layout, waiting: waiting))
    }
}
