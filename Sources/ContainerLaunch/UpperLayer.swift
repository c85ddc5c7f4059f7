import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

/// Makes missing mount points in the upper layer before it is mounted.
///
/// Afterwards it would be too late for an image of another owner: making a name in a directory of a
/// lower layer copies that directory up with its owner, which this user namespace has no number for
/// (EOVERFLOW). What the layers' symbolic links lead to is left to the attachment, which walks them
/// inside the finished root.
struct UpperLayer {
    private enum Found {
        case nothing, other, link
        case directory(mode_t)
    }

    /// The upper directory.
    let directory: Int32
    private let layers: UnsafeMutablePointer<Int32>
    private var layerCount = 0

    /// - Parameter plan: its relative layers are relative to the working directory.
    init(_ directory: Int32, plan: LaunchPlanReader, layerCount count: Int) {
        self.directory = directory
        layers = UnsafeMutablePointer<Int32>.allocate(capacity: count)
        var opened = 0
        plan.forEach { record in
            guard record.tag == .layer else { return }
            layers[opened] = open(record.cString, PathFlags.path | O_DIRECTORY | O_CLOEXEC)
            if layers[opened] >= 0 { opened += 1 }
        }
        layerCount = opened
    }

    func closeLayers() { for index in 0..<layerCount { close(layers[index]) } }

    /// Makes what `mounts` will need; a failure here is met again, and told, when the mount is attached.
    func prepare(for mounts: MountList) {
        let mask = umask(0o022)
        defer { umask(mask) }
        for index in 0..<mounts.count where !mounts.requests[index].isReady {
            let request = mounts.requests[index]
            if mounts.enclosing(request.destination, before: index) != nil { continue }
            make(
                request.destination, isDirectory: request.isDirectory,
                replacesLink: request.origin == .standard && !request.isDirectory)
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
            let found = find(prefix.cString)
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

    /// What the layers have at `path`, the topmost deciding.
    private func find(_ path: CString) -> Found {
        let flags = UInt64(UInt32(bitPattern: PathFlags.path | O_NOFOLLOW | O_CLOEXEC))
        for index in 0..<layerCount {
            let there = linux_openat2(
                layers[index], path, flags, 0, ResolveFlags.beneath | ResolveFlags.noSymlinks)
            if there < 0 {
                if errno == ENOENT { continue }
                return .other
            }
            defer { close(there) }
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
}
