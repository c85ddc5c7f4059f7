import CLinux
import Glibc
import LinuxSystem

/// Makes missing mount points in the upper layer before it is mounted.
///
/// Afterwards it would be too late for an image of another owner: making a name in a directory of a
/// lower layer copies that directory up with its owner, which this user namespace has no number for
/// (EOVERFLOW). What the layers' symbolic links lead to is left to the attachment, which walks them
/// inside the finished root.
struct UpperLayer {
    /// The upper directory.
    let directory: Int32
    let layers: LayerStack

    /// Makes what `mounts` will need; a failure here is met again, and told, when the mount is attached.
    func prepare(for mounts: MountList) {
        let mask = umask(0o022)
        defer { umask(mask) }
        for index in 0..<mounts.count where !mounts.requests[index].isReady {
            let request = mounts.requests[index]
            if mounts.enclosing(request.destination, before: index) != nil { continue }
            make(
                request.destination, isDirectory: request.isDirectory,
                replacesLink: !request.isDirectory && (request.origin == .standard || request.kind == .file))
        }
    }

    private func make(_ path: CString, isDirectory: Bool, replacesLink: Bool) {
        var prefix = ByteBuffer(capacity: strlen(path) + 2)
        var at = 0
        while path[at] == slash {
            let start = at + 1
            at = start
            while path[at] != 0, path[at] != slash { at += 1 }
            let isLast = path[at] == 0
            if prefix.count > 0 { prefix.append(slash) }
            let parentLength = prefix.count
            prefix.append(path + start, count: at - start)
            let found = layers.find(prefix.cString)
            var mode: mode_t = 0o755
            switch found {
            case .directory(let below):
                if isLast { return }
                mode = below
            case .nothing: break
            case .link: guard isLast, replacesLink else { return }
            case .other: return
            }
            var parent = ByteBuffer(capacity: parentLength + 2)
            parent.append(prefix.bytes, count: max(0, parentLength - 1))
            guard create(path + start, at - start, in: parent.cString, mode, isFile: isLast && !isDirectory) else {
                return
            }
        }
    }

    private func create(_ start: CString, _ length: Int, in parent: CString, _ mode: mode_t, isFile: Bool) -> Bool {
        let flags = UInt64(UInt32(bitPattern: PathFlags.path | O_DIRECTORY | O_CLOEXEC))
        let place = linux_openat2(
            directory, parent[0] == 0 ? c(".") : parent, flags, 0, ResolveFlags.beneath | ResolveFlags.noSymlinks)
        guard place >= 0 else { return false }
        defer { close(place) }
        var name = ByteBuffer(capacity: length + 2)
        name.append(start, count: length)
        if isFile {
            let file = openat(place, name.cString, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0o644)
            if file >= 0 { close(file) }
            return file >= 0
        }
        if mkdirat(place, name.cString, 0o755) != 0 { return errno == EEXIST }
        if mode != 0o755 { fchmodat(place, name.cString, mode, 0) }
        return true
    }
}
