import CLinux
import Glibc
import LinuxSystem

/// Where FUSE cannot be used: the image unpacked once into this node's temporary space,
/// `TMP/trireme-UID/cache/KEY`, for every launch from it here.
///
/// TMP is TRIREME_TMPDIR, TMPDIR or /tmp. A copy that no launch has used for `unusedDays` is removed when
/// the next image is unpacked.
struct UnpackedCopy {
    let file: CString
    let host: UnsafePointer<UnsafeMutablePointer<CChar>?>

    private static let unusedDays = 14

    /// FUSE cannot be used, or the caller wants none of it (TRIREME_SINGLE_FILE=unpack).
    var isWanted: Bool {
        if let wish = variable("TRIREME_SINGLE_FILE"), isEqual(wish, "unpack") { return true }
        return access(c("/dev/fuse"), R_OK | W_OK) != 0
    }

    /// The path of the unpacked root.
    func directory() throws(LaunchFailure) -> CString {
        let image = open(file, O_RDONLY | O_CLOEXEC)
        guard image >= 0 else { throw LaunchFailure(.openImage, file) }
        defer { close(image) }
        var status = stat()
        guard fstat(image, &status) == 0 else { throw LaunchFailure(.openImage, file) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw LaunchFailure(.openImage, file, errno: EINVAL) }
        let cache = try cacheDirectory()
        var path = ByteBuffer(capacity: strlen(cache) + 160)
        path.append(cache)
        path.append(slash)
        let start = path.count
        for (number, separator) in [
            (UInt64(status.st_dev), CChar(0x2D)), (UInt64(status.st_ino), 0x2D), (UInt64(status.st_size), 0x2D),
            (UInt64(bitPattern: Int64(status.st_mtim.tv_sec)), 0x2D), (UInt64(status.st_mtim.tv_nsec), 0),
        ] {
            path.append(decimal: number)
            if separator != 0 { path.append(separator) }
        }
        let name = copied(UnsafeRawBufferPointer(start: path.bytes + start, count: path.count - start))
        let root = copied(UnsafeRawBufferPointer(start: path.bytes, count: path.count))
        if touch(root) { return root }
        let lock = try lock(cache)
        defer { close(lock) }
        if touch(root) { return root }
        say()
        removeOld(cache, but: name)
        try unpack(image, into: root)
        return root
    }

    private func unpack(_ image: Int32, into root: CString) throws(LaunchFailure) {
        let partial = joined(root, ".partial")
        removeTree(AT_FDCWD, partial)
        guard mkdir(partial, 0o700) == 0 else { throw LaunchFailure(.unpackImage, partial) }
        do throws(LaunchFailure) {
            try HolderProgram(file: file).run(c("unpack"), directory: partial, listener: -1, image: image)
        } catch {
            removeTree(AT_FDCWD, partial)
            throw LaunchFailure(.unpackImage, file, detail: error.detail, errno: error.errno)
        }
        guard rename(partial, root) == 0, touch(root) else { throw LaunchFailure(.unpackImage, root) }
    }

    /// `TMP/trireme-UID/cache`, ours and no link: others may write to TMP.
    private func cacheDirectory() throws(LaunchFailure) -> CString {
        let space = PrivateDirectory.temporarySpace(host)
        guard let own = PrivateDirectory.temporary(space) else { throw LaunchFailure(.unpackImage, space) }
        defer { close(own.descriptor) }
        let path = joined(own.path, "/cache")
        if mkdirat(own.descriptor, c("cache"), 0o700) != 0, errno != EEXIST {
            throw LaunchFailure(.unpackImage, path)
        }
        return path
    }

    private func variable(_ name: StaticString) -> CString? {
        ContainerEnvironment.find(c(name), name.utf8CodeUnitCount, in: host)
            .map { $0 + name.utf8CodeUnitCount + 1 }.flatMap { $0[0] == 0 ? nil : $0 }
    }

    /// The access time says when a launch last used a copy; its mtime is the image's own.
    private func touch(_ root: CString) -> Bool {
        // UTIME_NOW and UTIME_OMIT of utimensat(2), which are macros with a cast.
        var times = (timespec(tv_sec: 0, tv_nsec: 0x3FFF_FFFF), timespec(tv_sec: 0, tv_nsec: 0x3FFF_FFFE))
        return withUnsafeBytes(of: &times) {
            utimensat(AT_FDCWD, root, $0.assumingMemoryBound(to: timespec.self).baseAddress!, 0) == 0
        }
    }

    private func lock(_ cache: CString) throws(LaunchFailure) -> Int32 {
        let path = joined(cache, "/lock")
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw LaunchFailure(.unpackImage, path) }
        while flock(descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else { throw LaunchFailure(.unpackImage, path) }
        }
        return descriptor
    }

    private func say() {
        var text = ByteBuffer(capacity: 256)
        text.append("trireme: ")
        text.append(file)
        text.append(": not served by FUSE here; unpacking the image once on this node\n")
        _ = write(2, text.bytes, text.count)
    }

    /// Removes copies that no launch has used lately, and what a killed launch left half unpacked.
    private func removeOld(_ cache: CString, but current: CString) {
        guard let directory = opendir(cache) else { return }
        defer { closedir(directory) }
        let oldest = time(nil) - Self.unusedDays * 86400
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self)
            }
            if name[0] < 0x30 || name[0] > 0x39 || isEqual(name, current) { continue }
            var status = stat()
            guard fstatat(dirfd(directory), name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
            if strstr(name, c(".partial")) != nil || status.st_atim.tv_sec < oldest {
                removeTree(dirfd(directory), name)
            }
        }
    }
}

/// Removes `name` in `parent` and everything below it; links are removed, not followed.
private func removeTree(_ parent: Int32, _ name: CString) {
    if unlinkat(parent, name, 0) == 0 || errno == ENOENT { return }
    let raw = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard raw >= 0, let directory = fdopendir(raw) else { return }
    fchmod(raw, 0o700)
    while let entry = readdir(directory) {
        let child = withUnsafePointer(to: &entry.pointee.d_name) {
            UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self)
        }
        if isEqual(child, ".") || isEqual(child, "..") { continue }
        removeTree(raw, child)
    }
    closedir(directory)
    _ = unlinkat(parent, name, AT_REMOVEDIR)
}
