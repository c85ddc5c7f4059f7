import CLinux
import Glibc
import ImageFormats
import LinuxSystem

/// Serves one image on this node to one user: a FUSE mount in namespaces of its own, which launches
/// join through a socket (ContainerLaunch, `HolderJoin`), until nobody uses it.
///
/// The mount is the server's own and every container has a copy of it, so the kernel counts the users:
/// when the server has detached its copy and the last container is gone, reading /dev/fuse says ENODEV.
final class ImageServer {
    private let socket: Int32
    private var listener: RestingListener
    private var clients: [Int32] = []
    /// What each launch is answered with.
    private var namespaces: ContainerNamespaces?
    /// The kernel reads the image, and this process only keeps the mount to be joined.
    private var isKernels = false

    /// Where containers find the image, in the server's own mount namespace: a directory every host has.
    /// What is mounted there covers a tmpfs with the file system itself, for containers with an upper layer.
    static let place = "/sys"
    static let ownName = "image"
    private static let emptyName = "empty"
    /// Milliseconds between looks for users while no launch is connected.
    private static let watchMilliseconds: Int32 = 1000
    /// Looks that must find nobody before the server goes: a script's next command finds it still there.
    private static let idleLooks = 2

    init(listener socket: Int32) {
        self.socket = socket
        listener = RestingListener(socket)
    }

    /// Why serving could not begin.
    struct Failure: Error {
        var errno: Int32
        var reason: String
    }

    /// Mounts the image behind `image` and starts the threads that answer for it.
    func start(image: Int32) throws(Failure) {
        let userID = geteuid()
        let groupID = getegid()
        let fileSystem: FuseFileSystem
        let kernels: Int32?
        do throws(ArchiveFault) {
            let payload = try ImageFile.payload(image)
            let reader = try SquashReader(image, offset: payload.offset, length: payload.length)
            kernels = KernelMount(image: image, payload).mount(reader)
            fileSystem = try FuseFileSystem(reader, userID: userID, groupID: groupID)
        } catch {
            throw Failure(errno: error.errno == 0 ? EBADMSG : error.errno, reason: error.reason)
        }
        var device: Int32 = -1
        do throws(SyscallError) {
            try checked("unshare") { linux_unshare(CloneFlags.newUser | CloneFlags.newMount) }
            try IDMapping(insideUID: userID, outsideUID: userID, insideGID: groupID, outsideGID: groupID).write()
            // From here on containers may share this user namespace, and this is a program of the host.
            _ = linux_prctl(ProcessControl.setDumpable, 0, 0, 0, 0)
            try checked("mount", "tmpfs") {
                linux_mount("trireme", ImageServer.place, "tmpfs", ImageServer.flags, "mode=0755,size=64k")
            }
            for name in [ImageServer.ownName, ImageServer.emptyName] {
                try checked("mkdir", name) { mkdir(ImageServer.place + "/" + name, 0o755) }
            }
            if let kernels {
                try checked("mount", "squashfs") {
                    linux_move_mount(kernels, "", AT_FDCWD, ImageServer.own, MountTree.moveFromEmptyPath)
                }
            } else {
                device = try OwnedDescriptor.open("/dev/fuse", O_RDWR).release()
                let options =
                    "fd=\(device),rootmode=40000,user_id=\(userID),group_id=\(groupID),allow_other,"
                    + "max_read=\(FuseProtocol.readBytes)"
                try checked("mount", "fuse") {
                    linux_mount("trireme", ImageServer.own, "fuse.trireme", ImageServer.readOnly, options)
                }
            }
        } catch { throw Failure(errno: error.errno, reason: error.sentence) }
        chdir("/")
        isKernels = kernels != nil
        if !isKernels { startThreads(fileSystem, device) }
        do throws(SyscallError) { try cover() } catch { throw Failure(errno: error.errno, reason: error.sentence) }
        namespaces = ContainerNamespaces.own()
        guard namespaces != nil, listen(socket, 1024) == 0 else { throw Failure(errno: errno, reason: "listen") }
    }

    private func startThreads(_ fileSystem: FuseFileSystem, _ device: Int32) {
        for number in 0..<ImageServer.threadCount {
            startThread(FuseWorker(fileSystem, device: number == 0 ? device : ImageServer.cloned(device)))
        }
    }

    private static let flags = MountFlags.noSetuid | MountFlags.noDevices
    private static let readOnly = flags | MountFlags.readOnly
    private static var own: String { place + "/" + ownName }

    /// What FUSE cannot answer from the kernel's memory, overlayfs can: an ioctl(2) on a file is a request
    /// to the server each time, and Python asks each of the hundreds of files it opens whether it is a
    /// terminal. Pages are the FUSE mount's, one copy for all. One overlay for all containers, so that they
    /// share names and inodes as well.
    ///
    /// The empty directory is there because an overlay wants two layers; the image is the lowest, which is
    /// never asked for marks of overlayfs.
    private func cover() throws(SyscallError) {
        let layers = "userxattr,lowerdir=\(ImageServer.place)/\(ImageServer.emptyName):\(ImageServer.own)"
        // xino would put a mark into the highest bits of inode numbers, which programs of 32 bits and JavaScript
        // cannot hold. A kernel before 5.11 mounts no overlay in a user namespace: then FUSE itself serves.
        for options in [layers + ",xino=off", layers] where !isKernels {
            let flags = ImageServer.readOnly
            if linux_mount("trireme", ImageServer.place, "overlay", flags, options) == 0 { return }
        }
        try checked("mount", "bind") {
            linux_mount(ImageServer.own, ImageServer.place, nil, MountFlags.bind, nil)
        }
    }

    private static var threadCount: Int {
        var mask = [UInt64](repeating: 0, count: 128)
        let bytes = Int(linux_sched_getaffinity(0, 1024, &mask))
        let processors = mask.prefix(max(0, bytes) / 8).reduce(0) { $0 + $1.nonzeroBitCount }
        return min(SquashReader.threads, max(2, processors))
    }

    /// A descriptor of its own for each thread: the kernel then hands replies over without a common lock.
    private static func cloned(_ device: Int32) -> Int32 {
        let copy = open("/dev/fuse", O_RDWR | O_CLOEXEC)
        guard copy >= 0 else { return device }
        var original = UInt32(bitPattern: device)
        if linux_ioctl_pointer(copy, FuseProtocol.cloneRequest, &original) == 0 { return copy }
        close(copy)
        return device
    }

    private func startThread(_ worker: FuseWorker) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, 256 << 10)
        var thread = pthread_t()
        pthread_create(
            &thread, &attributes,
            { argument in
                Unmanaged<FuseWorker>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(worker).toOpaque())
        pthread_attr_destroy(&attributes)
    }

    /// Welcomes launches until nobody uses the image; then detaches the mount and never returns:
    /// the worker that reads ENODEV ends the process.
    func serve() -> Never {
        var users = NamespaceUsers()
        var idle = 0
        while idle < ImageServer.idleLooks {
            var slots = [pollfd(fd: listener.watched, events: Int16(POLLIN), revents: 0)]
            for client in clients { slots.append(pollfd(fd: client, events: Int16(POLLIN), revents: 0)) }
            let ready = poll(&slots, nfds_t(slots.count), listener.timeout(ImageServer.watchMilliseconds))
            if ready > 0 || listener.isResting {
                for slot in slots.dropFirst() where slot.revents != 0 { drop(slot.fd) }
                if slots[0].revents != 0 { welcome() }
                idle = 0
            } else if ready == 0, clients.isEmpty {
                idle = users.exist() ? 0 : idle + 1
            }
        }
        // Whoever connected at the last moment is told by the closed connection, and starts anew.
        close(socket)
        linux_umount2(ImageServer.place, MountTree.detach)
        linux_umount2(ImageServer.place, MountTree.detach)
        if isKernels { exit(0) }
        while true { pause() }
    }

    /// A launch says nothing: it holds its connection until it has its own copy of the mount.
    private func drop(_ client: Int32) {
        close(client)
        clients.removeAll { $0 == client }
    }

    private func welcome() {
        let client = listener.accept()
        guard client >= 0 else { return }
        guard namespaces?.send(to: client) ?? false else {
            close(client)
            return
        }
        clients.append(client)
    }
}

/// One thread's loop between the kernel and the image.
final class FuseWorker: Sendable {
    private let fileSystem: FuseFileSystem
    private let device: Int32

    init(_ fileSystem: FuseFileSystem, device: Int32) {
        self.fileSystem = fileSystem
        self.device = device
    }

    func run() {
        // Mapped and not allocated: what is never used is never resident.
        let replyBytes = FuseReply.capacity
        let requestBytes = 64 << 10
        let memory = mmap(
            nil, replyBytes + requestBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else { exit(1) }
        let reply = UnsafeMutableRawBufferPointer(start: memory, count: replyBytes)
        let request = UnsafeMutableRawBufferPointer(start: memory + replyBytes, count: requestBytes)
        while true {
            let n = read(device, request.baseAddress, request.count)
            if n < 0 {
                // ENOENT: the request was withdrawn before it was read.
                if errno == EINTR || errno == EAGAIN || errno == ENOENT { continue }
                exit(errno == ENODEV ? 0 : 1)
            }
            let bytes = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(request)[..<n])
            guard let asked = FuseRequest(bytes), let answer = fileSystem.answer(asked, in: reply) else { continue }
            // An interrupted request's reply finds no taker (ENOENT): nobody waits for it.
            _ = write(device, answer.baseAddress, answer.count)
        }
    }
}
