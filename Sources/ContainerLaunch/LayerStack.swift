import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

/// The image's layers as directories of the host, before they are mounted: what stands at a path,
/// the topmost layer deciding.
///
/// An opaque directory does not hide what lies below it here: the callers only ask for the mode of a
/// directory or for a file that any image has.
struct LayerStack {
    enum Found {
        case nothing, other, link
        case directory(mode_t)
    }

    private let layers: UnsafeMutablePointer<Int32>
    private let count: Int

    /// - Parameter base: what relative layers are relative to, a directory's descriptor or AT_FDCWD.
    init(_ plan: LaunchPlanReader, base: Int32) {
        var total = 0
        plan.forEach { if $0.tag == .layer { total += 1 } }
        let layers = UnsafeMutablePointer<Int32>.allocate(capacity: total + 1)
        var opened = 0
        plan.forEach { record in
            guard record.tag == .layer else { return }
            layers[opened] = openat(base, record.cString, PathFlags.path | O_DIRECTORY | O_CLOEXEC)
            if layers[opened] >= 0 { opened += 1 }
        }
        self.layers = layers
        count = opened
    }

    func close() { for index in 0..<count { Glibc.close(layers[index]) } }

    /// - Parameter path: relative to the root, without a slash in front.
    func find(_ path: CString) -> Found {
        for index in 0..<count {
            let there = open(path, in: index, PathFlags.path | O_NOFOLLOW)
            if there < 0 {
                if errno == ENOENT { continue }
                return .other
            }
            defer { Glibc.close(there) }
            var status = stat()
            guard fstat(there, &status) == 0 else { return .other }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: return .directory(status.st_mode & 0o7777)
            case S_IFLNK: return .link
            // A whiteout: what the layers below have is gone.
            case S_IFCHR where status.st_rdev == 0: return .nothing
            default: return .other
            }
        }
        return .nothing
    }

    /// The content of a file, at most `limit` bytes of it; empty when there is none. Links are followed
    /// inside the image.
    func contents(of path: CString, limit: Int) -> ByteBuffer {
        var name = path
        for _ in 0..<8 {
            for index in 0..<count {
                let file = open(name, in: index, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
                if file >= 0 {
                    defer { Glibc.close(file) }
                    return readAll(file, limit: limit)
                }
                if errno == ENOENT { continue }
                break
            }
            guard let target = linkTarget(name) else { break }
            name = target
        }
        return ByteBuffer(capacity: 64)
    }

    /// Where the link at `path` leads, cleaned by its text and without a slash in front.
    private func linkTarget(_ path: CString) -> CString? {
        for index in 0..<count {
            let link = open(path, in: index, PathFlags.path | O_NOFOLLOW)
            if link < 0 { continue }
            defer { Glibc.close(link) }
            let buffer = UnsafeMutablePointer<CChar>.allocate(capacity: 4096)
            let length = readlinkat(link, c(""), buffer, 4095)
            guard length > 0 else { return nil }
            buffer[length] = 0
            var directory = ByteBuffer(capacity: strlen(path) + 2)
            directory.append(slash)
            directory.append(path)
            while directory.count > 1, directory.bytes[directory.count - 1] != slash {
                directory.truncate(to: directory.count - 1)
            }
            return cleaned(CString(buffer), in: directory.cString) + 1
        }
        return nil
    }

    private func open(_ path: CString, in index: Int, _ flags: Int32) -> Int32 {
        let all = UInt64(UInt32(bitPattern: flags | O_CLOEXEC))
        return linux_openat2(layers[index], path, all, 0, ResolveFlags.beneath | ResolveFlags.noSymlinks)
    }
}

/// What an open file holds, at most `limit` bytes of it.
func readAll(_ file: Int32, limit: Int) -> ByteBuffer {
    var text = ByteBuffer(capacity: 4096)
    let chunk = UnsafeMutablePointer<CChar>.allocate(capacity: 4096)
    defer { chunk.deallocate() }
    while text.count < limit {
        let n = read(file, chunk, min(4096, limit - text.count))
        if n < 0, errno == EINTR { continue }
        if n <= 0 { break }
        text.append(chunk, count: n)
    }
    return text
}

/// A file of the host, empty when it cannot be read.
func hostFile(_ path: CString, limit: Int) -> ByteBuffer {
    let file = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { return ByteBuffer(capacity: 64) }
    defer { close(file) }
    return readAll(file, limit: limit)
}
