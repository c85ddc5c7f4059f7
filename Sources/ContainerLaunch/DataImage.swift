import CLinux
import Glibc
import LinuxSystem

// Single-file images as data: `--data x.sqfs:/dst`.

extension MountList {
    /// Takes a copy of each single-file image's mount from the process that serves it on this node; before
    /// this process has namespaces of its own, from where that one's could not be entered.
    mutating func openImages(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) throws(LaunchFailure) {
        for index in 0..<count where requests[index].kind == .image {
            try requests[index].openImage(host)
        }
    }
}

extension MountRequest {
    fileprivate mutating func openImage(
        _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>
    ) throws(LaunchFailure) {
        isDirectory = true
        isReadOnly = true
        let copy = UnpackedCopy(file: source, host: host)
        if !copy.isWanted {
            tree = try HolderJoin(file: source, host: host).copyCover()
            if tree >= 0 { return }
        }
        kind = .bind
        source = try copy.directory()
    }
}

extension HolderJoin {
    /// CLONE_FILES of clone(2).
    private static let sharedFiles: UInt64 = 0x400

    /// The image's root as a mount that is nowhere, without leaving our own namespaces: a child enters the
    /// holder's and takes it there. We share one table of descriptors, so what it opens is ours.
    ///
    /// The connection stays open until this process executes a program: by then the copy is attached.
    /// - Returns: -1 when the holder could not mount an overlay, before Linux 5.11: FUSE by itself answers
    ///   nobody outside the holder's user namespace.
    fileprivate func copyCover() throws(LaunchFailure) -> Int32 {
        let image = open(file, O_RDONLY | O_CLOEXEC)
        guard image >= 0 else { throw LaunchFailure(.openImage, file) }
        defer { close(image) }
        let (_, namespaces) = try holder(image)
        defer { namespaces.closeBoth() }
        let memory = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        guard let memory, Int(bitPattern: memory) != -1 else { throw LaunchFailure(.joinImage, file) }
        defer { munmap(memory, 4096) }
        let result = memory.assumingMemoryBound(to: Int32.self)
        result[0] = -1
        result[1] = EINTR
        let child = linux_clone(Self.sharedFiles, nil)
        guard child >= 0 else { throw LaunchFailure(.joinImage, file) }
        if child == 0 {
            result[0] = Self.coverInside(namespaces)
            result[1] = errno
            _exit(0)
        }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        if result[0] >= 0 { return result[0] }
        guard result[1] == EOPNOTSUPP else { throw LaunchFailure(.joinImage, file, errno: result[1]) }
        return -1
    }

    /// In the child. Negative with errno set.
    private static func coverInside(_ holder: ContainerNamespaces) -> Int32 {
        guard holder.enter() else { return -1 }
        let tree = linux_open_tree(AT_FDCWD, place, MountTree.openClone | MountTree.openCloseOnExec)
        guard tree >= 0 else { return -1 }
        let magic = linux_filesystem_magic(tree)
        if magic == Magic.overlay || magic == Magic.squash { return tree }
        close(tree)
        errno = magic == Magic.fuse ? EOPNOTSUPP : ESTALE
        return -1
    }
}
