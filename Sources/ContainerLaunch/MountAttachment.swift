import CLinux
import Glibc
import LinuxSystem

// Attaching the mounts: runs after pivot_root(2), so every path is the container's.

extension MountList {
    /// Attaches every request in order.
    /// - Parameter hasUpperLayer: missing mount points may be made in the root.
    func attachAll(hasUpperLayer: Bool) throws(LaunchFailure) {
        var ownDevices = OwnDevices(capacity: count + 1)
        if hasUpperLayer { try ownDevices.addRoot() }
        for index in 0..<count {
            switch requests[index].kind {
            case .bind, .stack, .image: try attach(requests[index], ownDevices)
            case .temporary:
                try attach(requests[index], ownDevices)
                try ownDevices.add(requests[index])
            case .file: try attachFile(requests[index], ownDevices)
            case .fileSystem: try attach(requests[index], ownDevices)
            case .link:
                guard symlink(requests[index].source, requests[index].destination) == 0 || errno == EEXIST else {
                    throw LaunchFailure(.attachMount, requests[index].destination)
                }
            }
        }
    }

    private func attach(_ request: MountRequest, _ own: OwnDevices) throws(LaunchFailure) {
        // The usual mounts go to the image's own mount points: one call, nothing to check.
        if request.origin == .standard, request.isReady {
            if linux_move_mount(request.tree, c(""), AT_FDCWD, request.destination, MountTree.moveFromEmptyPath) == 0 {
                return
            }
            throw LaunchFailure(.attachMount, request.destination, detail: request.source)
        }
        let place = try openPlace(request, own)
        defer { close(place) }
        try move(request, onto: place)
    }

    private func move(_ request: MountRequest, onto place: Int32) throws(LaunchFailure) {
        let flags = MountTree.moveFromEmptyPath | MountTree.moveToEmptyPath
        guard linux_move_mount(request.tree, c(""), place, c(""), flags) == 0 else {
            throw LaunchFailure(.attachMount, request.destination, detail: request.source)
        }
    }

    /// The destination, opened without passing through /proc's magic links and made when missing.
    private func openPlace(_ request: MountRequest, _ own: OwnDevices) throws(LaunchFailure) -> Int32 {
        // The image's own symbolic link (/etc/resolv.conf -> ../run/…) is not followed for a
        // standard file: it is replaced in the upper layer, so that what it leads to stays as it is.
        if request.origin == .standard || request.kind == .file, !request.isDirectory,
            own.holdsParent(of: request.destination)
        {
            var status = stat()
            if lstat(request.destination, &status) == 0, status.st_mode & S_IFMT == S_IFLNK {
                unlink(request.destination)
            }
        }
        var place = openInside(request.destination, PathFlags.path)
        if place < 0, errno == ENOENT {
            try makePlace(request.destination, isDirectory: request.isDirectory, own)
            place = openInside(request.destination, PathFlags.path)
        }
        guard place >= 0 else { throw LaunchFailure(.attachMount, request.destination, detail: request.source) }
        if request.origin == .user, isProtected(place) {
            close(place)
            throw LaunchFailure(.attachMount, request.destination, detail: request.source, errno: EBUSY)
        }
        return place
    }

    /// Makes the missing directories of `path` and, last, a directory or an empty file.
    /// Only on file systems of this launch: never in a directory of the host.
    private func makePlace(
        _ path: CString, isDirectory: Bool, _ own: OwnDevices, links: Int = 0
    ) throws(LaunchFailure) {
        let mask = umask(0o022)
        defer { umask(mask) }
        var prefix = ByteBuffer(capacity: strlen(path) + 2)
        prefix.append(slash)
        var parent = openInside(c("/"), PathFlags.path | O_DIRECTORY)
        guard parent >= 0 else { throw LaunchFailure(.makeMountPoint, path) }
        defer { close(parent) }
        var at = 1
        while true {
            let start = at
            while path[at] != 0, path[at] != slash { at += 1 }
            let isLast = path[at] == 0
            if start > 1 { prefix.append(slash) }
            prefix.append(path + start, count: at - start)
            let wantsDirectory = !isLast || isDirectory
            var next = openInside(prefix.cString, PathFlags.path | (isLast ? 0 : O_DIRECTORY))
            if next < 0, errno == ENOENT {
                var name = ByteBuffer(capacity: at - start + 2)
                name.append(path + start, count: at - start)
                if let target = linkTarget(parent, name.cString) {
                    // A link of the image that leads to nothing yet: what it means is made, inside the root.
                    guard links < 40 else { throw LaunchFailure(.makeMountPoint, path, errno: ELOOP) }
                    var meant = ByteBuffer(capacity: strlen(path) + strlen(target) + 2)
                    if target[0] != slash {
                        meant.append(path, count: start)
                    }
                    meant.append(target)
                    meant.append(path + at)
                    return try makePlace(meant.cString, isDirectory: isDirectory, own, links: links + 1)
                }
                guard own.holds(parent) else { throw LaunchFailure(.makeMountPoint, path, errno: ENOENT) }
                if wantsDirectory {
                    guard mkdirat(parent, name.cString, 0o755) == 0 else { throw LaunchFailure(.makeMountPoint, path) }
                } else {
                    let file = openat(parent, name.cString, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o644)
                    guard file >= 0 else { throw LaunchFailure(.makeMountPoint, path) }
                    close(file)
                }
                next = openInside(prefix.cString, PathFlags.path | (isLast ? 0 : O_DIRECTORY))
            }
            guard next >= 0 else { throw LaunchFailure(.makeMountPoint, path) }
            close(parent)
            parent = next
            if isLast { return }
            at += 1
        }
    }

    private func linkTarget(_ parent: Int32, _ name: CString) -> CString? {
        let buffer = UnsafeMutablePointer<CChar>.allocate(capacity: 4096)
        let length = readlinkat(parent, name, buffer, 4095)
        guard length > 0 else { return nil }
        buffer[length] = 0
        return CString(buffer)
    }

    /// Makes a start directory that the image names but does not have.
    func makeDirectory(_ path: CString) throws(LaunchFailure) {
        var own = OwnDevices(capacity: 1)
        try own.addRoot()
        try makePlace(path, isDirectory: true, own)
    }

    /// A file of the plan: written where the launch owns the directory, else onto the copy
    /// staged before (`tree`), which is bound over what the image has there.
    private func attachFile(_ request: MountRequest, _ own: OwnDevices) throws(LaunchFailure) {
        if request.tree >= 0 { return try attach(request, own) }
        unlinkOwn(request.destination, own)
        try makePlace(request.destination, isDirectory: false, own)
        let file = openInside(request.destination, O_WRONLY | O_TRUNC)
        guard file >= 0 else { throw LaunchFailure(.writeFile, request.destination) }
        defer { close(file) }
        try write(request.content, to: file, request.destination)
    }

    private func unlinkOwn(_ path: CString, _ own: OwnDevices) {
        if own.holdsParent(of: path) { unlink(path) }
    }

    /// Stages the content of the files that will be bound, on a tmpfs that is gone
    /// (but for those binds) once the root is mounted over it.
    /// - Returns: whether there is one now, on the host's /sys.
    func stageFiles(_ isStaged: (Int) -> Bool) throws(LaunchFailure) -> Bool {
        var isMounted = false
        for index in 0..<count where requests[index].kind == .file && isStaged(index) {
            if !isMounted {
                guard linux_mount(c("trireme"), c("/sys"), c("tmpfs"), 0, c("mode=0755")) == 0 else {
                    throw LaunchFailure(.writeFile, requests[index].destination)
                }
                isMounted = true
            }
            var path = ByteBuffer(capacity: 32)
            path.append("/sys/")
            path.append(decimal: UInt64(index))
            let file = open(path.cString, O_CREAT | O_WRONLY | O_CLOEXEC, 0o644)
            guard file >= 0 else { throw LaunchFailure(.writeFile, requests[index].destination) }
            defer { close(file) }
            fchmod(file, 0o644)
            try write(requests[index].content, to: file, requests[index].destination)
            requests[index].tree = linux_open_tree(
                AT_FDCWD, path.cString, MountTree.openClone | MountTree.openCloseOnExec)
            requests[index].isDirectory = false
            guard requests[index].tree >= 0 else { throw LaunchFailure(.writeFile, requests[index].destination) }
        }
        return isMounted
    }

    private func write(_ content: UnsafeRawBufferPointer, to file: Int32, _ path: CString) throws(LaunchFailure) {
        var done = 0
        while done < content.count {
            let n = Glibc.write(file, content.baseAddress! + done, content.count - done)
            if n < 0 {
                if errno == EINTR { continue }
                throw LaunchFailure(.writeFile, path)
            }
            done += n
        }
    }
}

/// open(2) that refuses /proc's magic links, which lead out of any root. openat2(2)
private func openInside(_ path: CString, _ flags: Int32) -> Int32 {
    let all = UInt64(UInt32(bitPattern: flags | O_CLOEXEC))
    return linux_openat2(AT_FDCWD, path, all, 0, ResolveFlags.noMagicLinks | ResolveFlags.inRoot)
}

/// `/`, and everything on the kernel's own file systems: a mount there could fool
/// programs that trust them.
private func isProtected(_ place: Int32) -> Bool {
    var here = stat()
    var root = stat()
    guard fstat(place, &here) == 0, stat(c("/"), &root) == 0 else { return true }
    if here.st_dev == root.st_dev, here.st_ino == root.st_ino { return true }
    switch linux_filesystem_magic(place) {
    case 0x9FA0, 0x6265_6572, 0x0027_E0EB, 0x6367_7270: return true  // proc, sysfs, cgroup, cgroup2 (linux/magic.h)
    default: return false
    }
}

/// The file systems this launch made: only there are directories and files created.
private struct OwnDevices {
    private let devices: UnsafeMutablePointer<dev_t>
    private var count = 0

    init(capacity: Int) { devices = UnsafeMutablePointer<dev_t>.allocate(capacity: capacity) }

    mutating func addRoot() throws(LaunchFailure) {
        var status = stat()
        guard stat(c("/"), &status) == 0 else { throw LaunchFailure(.attachMount, "/") }
        devices[count] = status.st_dev
        count += 1
    }

    mutating func add(_ request: MountRequest) throws(LaunchFailure) {
        var status = stat()
        guard fstat(request.tree, &status) == 0 else { throw LaunchFailure(.attachMount, request.destination) }
        devices[count] = status.st_dev
        count += 1
    }

    func holds(_ descriptor: Int32) -> Bool {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return false }
        for index in 0..<count where devices[index] == status.st_dev { return true }
        return false
    }

    func holdsParent(of path: CString) -> Bool {
        var length = strlen(path)
        while length > 1, path[length - 1] != slash { length -= 1 }
        var parent = ByteBuffer(capacity: length + 1)
        parent.append(path, count: length)
        let directory = openInside(parent.cString, PathFlags.path | O_DIRECTORY)
        guard directory >= 0 else { return false }
        defer { close(directory) }
        return holds(directory)
    }
}
