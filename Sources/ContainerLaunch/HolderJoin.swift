import CLinux
import Glibc
import LinuxSystem

/// A launch from a single-file image: joins the process that holds the image mounted on this node
/// (`trireme-mount`), started when there is none yet.
///
/// The holder listens on a socket whose name is the image file's identity; the name is bound before the
/// program starts, so of many launches at once one starts it and the others find it.
struct HolderJoin {
    /// The image file as an absolute path.
    let file: CString
    /// The caller's environment: temporary space, and the job whose end ends the holder.
    let host: UnsafePointer<UnsafeMutablePointer<CChar>?>

    private enum Limit {
        /// Milliseconds for a holder to come up; a large image on a slow file system is read for seconds.
        static let startMilliseconds = 30_000
        static let retryMicroseconds: UInt32 = 2_000
    }
    /// What an image can be mounted as (linux/magic.h).
    enum Magic {
        static let fuse = 0x6573_5546
        static let overlay = 0x794C_7630
        static let squash = 0x7371_7368
    }
    /// Where the holder has mounted the image (ImageMount, `ImageServer.place`), and what that covers: the
    /// file system itself.
    static var place: CString { c("/sys") }
    private static var ownPlace: CString { c("/sys/image") }

    /// Enters the holder's user namespace and a mount namespace of our own with its mounts.
    func join() throws(LaunchFailure) {
        let image = open(file, O_RDONLY | O_CLOEXEC)
        guard image >= 0 else { throw LaunchFailure(.openImage, file) }
        defer { close(image) }
        let (socket, namespaces) = try holder(image)
        defer {
            close(socket)
            namespaces.closeBoth()
        }
        guard namespaces.enter(), linux_unshare(CloneFlags.newMount) == 0 else {
            throw LaunchFailure(.joinImage, file)
        }
    }

    /// The image's root as mounts that are nowhere, taken from where they cover the host's /sys.
    func takeRoot() throws(LaunchFailure) -> ImageRoot {
        let cover = try take(Self.place)
        let own = try take(Self.ownPlace)
        guard linux_umount2(Self.place, MountTree.detach) == 0 else { throw LaunchFailure(.joinImage, file) }
        return ImageRoot(file: file, cover: cover, own: own)
    }

    /// A copy of what is mounted at `path`, which is then uncovered.
    private func take(_ path: CString) throws(LaunchFailure) -> Int32 {
        let tree = linux_open_tree(AT_FDCWD, path, MountTree.openClone | MountTree.openCloseOnExec)
        guard tree >= 0 else { throw LaunchFailure(.joinImage, file) }
        let magic = linux_filesystem_magic(tree)
        guard magic == Magic.overlay || magic == Magic.fuse || magic == Magic.squash else {
            throw LaunchFailure(.joinImage, file, errno: ESTALE)
        }
        guard linux_umount2(path, MountTree.detach) == 0 else { throw LaunchFailure(.joinImage, file) }
        return tree
    }

    // MARK: Meeting the holder

    /// The namespaces of the process that serves the image on this node, and a connection that it has
    /// welcomed: while that is open the holder stays.
    func holder(_ image: Int32) throws(LaunchFailure) -> (socket: Int32, namespaces: ContainerNamespaces) {
        guard let place = MeetingPlace(host) else { throw LaunchFailure(.serveImage, "/tmp") }
        defer { place.leave() }
        var name = ByteBuffer(capacity: 128)
        try appendName(image, to: &name)
        let deadline = MonotonicTime.now() + Limit.startMilliseconds
        while true {
            if let met = try meet(place, name.cString) { return met }
            // Nobody listens: the one who has the lock starts the holder.
            let lock = place.lock(name.cString)
            if lock >= 0 {
                defer { close(lock) }
                // It may have come up while the lock was another's.
                if let met = try meet(place, name.cString) { return met }
                let listener = try newSocket()
                defer { close(listener) }
                guard place.bind(listener, to: name.cString) else { throw LaunchFailure(.serveImage, file) }
                try startHolder(listener: listener, image)
                continue
            }
            guard errno == EWOULDBLOCK else { throw LaunchFailure(.serveImage, file) }
            guard MonotonicTime.now() < deadline else { throw LaunchFailure(.serveImage, file, errno: ETIMEDOUT) }
            usleep(Limit.retryMicroseconds)
        }
    }

    /// nil when nobody is there, or somebody who was just going.
    private func meet(
        _ place: MeetingPlace, _ name: CString
    ) throws(LaunchFailure) -> (socket: Int32, namespaces: ContainerNamespaces)? {
        let socket = try newSocket()
        if place.connect(socket, to: name) {
            guard let peer = PeerProcess(behind: socket) else { throw LaunchFailure(.joinImage, file) }
            defer { peer.leave() }
            if let namespaces = ContainerNamespaces.receive(from: socket) {
                try check(peer, namespaces)
                return (socket, namespaces)
            }
            guard errno == ECONNRESET else { throw LaunchFailure(.joinImage, file) }
        }
        close(socket)
        return nil
    }

    /// Whoever answers must be the server, before anything of what it gives is used.
    private func check(_ peer: PeerProcess, _ namespaces: ContainerNamespaces) throws(LaunchFailure) {
        if peer.isConfined { throw stranger(peer, ", which is in a container, answers in its server's place") }
        guard peer.mayRun(try HolderProgram(file: file).path()) else {
            throw stranger(peer, ", which is not trireme-mount, answers in its server's place")
        }
        guard namespaces.isChildOfOwn, namespaces.belongTogether else {
            throw stranger(peer, " gives namespaces that were not made from here")
        }
    }

    private func stranger(_ peer: PeerProcess, _ what: StaticString) -> LaunchFailure {
        var text = ByteBuffer(capacity: 96)
        text.append("process ")
        text.append(decimal: UInt64(max(0, peer.number)))
        text.append(what)
        return LaunchFailure(.joinImage, file, detail: text.cString, errno: EPERM)
    }

    private func newSocket() throws(LaunchFailure) -> Int32 {
        let socket = UnixSocket.make()
        guard socket >= 0 else { throw LaunchFailure(.serveImage, file) }
        return socket
    }

    /// `image-DEV-INO-SIZE-MTIME-VIEW-JOB`, in hexadecimal; the job, because its end kills its processes.
    private func appendName(_ image: Int32, to name: inout ByteBuffer) throws(LaunchFailure) {
        var status = stat()
        guard fstat(image, &status) == 0 else { throw LaunchFailure(.openImage, file) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw LaunchFailure(.openImage, file, errno: EINVAL) }
        name.append("image")
        append(UInt64(status.st_dev), to: &name)
        append(UInt64(status.st_ino), to: &name)
        append(UInt64(status.st_size), to: &name)
        append(UInt64(bitPattern: Int64(status.st_mtim.tv_sec)), to: &name)
        append(UInt64(status.st_mtim.tv_nsec), to: &name)
        append(try view(), to: &name)
        guard let job = jobName else { return }
        name.append(minus)
        // Job ids are short.
        let room = MeetingPlace.nameBytes - name.count
        var index = 0
        while index < room, job[index] != 0 {
            name.append(job[index] == slash ? minus : job[index])
            index += 1
        }
    }

    /// What must be the same on both sides: the mount namespace, as what is mounted into the container is the
    /// holder's view of the host; the user namespace, as nobody in another may enter the holder's; `no_new_privs`,
    /// as who is without follows nobody who has it (`PeerProcess.isConfined`); and the installation.
    private func view() throws(LaunchFailure) -> UInt64 {
        var hash = NameHash()
        try add(c("/proc/self/ns/mnt"), to: &hash)
        try add(c("/proc/self/ns/user"), to: &hash)
        try add(try HolderProgram(file: file).path(), to: &hash)
        hash.add(UInt64(linux_prctl(ProcessControl.getNoNewPrivileges, 0, 0, 0, 0) == 1 ? 1 : 0))
        return hash.value
    }

    private func add(_ path: CString, to hash: inout NameHash) throws(LaunchFailure) {
        var status = stat()
        guard stat(path, &status) == 0 else { throw LaunchFailure(.openImage, path) }
        hash.add(UInt64(status.st_dev))
        hash.add(UInt64(status.st_ino))
    }

    private func append(_ number: UInt64, to name: inout ByteBuffer) {
        name.append(minus)
        var shift = 60
        while shift > 0, number >> UInt64(shift) == 0 { shift -= 4 }
        while shift >= 0 {
            let digit = CChar(number >> UInt64(shift) & 15)
            name.append(digit < 10 ? 0x30 + digit : 0x57 + digit)
            shift -= 4
        }
    }

    private var jobName: CString? {
        variable("SLURM_JOB_ID") ?? variable("PBS_JOBID") ?? variable("LSB_JOBID") ?? variable("FLUX_JOB_ID")
            ?? variable("JOB_ID")
    }

    private func variable(_ name: StaticString) -> CString? {
        ContainerEnvironment.find(c(name), name.utf8CodeUnitCount, in: host)
            .map { $0 + name.utf8CodeUnitCount + 1 }.flatMap { $0[0] == 0 ? nil : $0 }
    }

    // MARK: Starting it

    private func startHolder(listener: Int32, _ image: Int32) throws(LaunchFailure) {
        try HolderProgram(file: file).run(c("serve"), directory: nil, listener: listener, image: image)
    }
}

/// A single-file image's root, mounted nowhere yet.
struct ImageRoot {
    let file: CString
    /// What all containers share.
    let cover: Int32
    /// Below it, for an overlay of the container's own: one on top of another would be a layer too many,
    /// and the kernel allows two.
    let own: Int32

    /// Puts it where the host's /sys is, which is needed no more.
    /// - Returns: a path of the image's root directory, good until this process executes a program.
    func put() throws(LaunchFailure) -> CString { try put(cover) }

    /// Puts the file system itself in its place.
    func putOwn() throws(LaunchFailure) -> CString {
        guard linux_umount2(c("/sys"), MountTree.detach) == 0 else { throw LaunchFailure(.joinImage, file) }
        return try put(own)
    }

    private func put(_ tree: Int32) throws(LaunchFailure) -> CString {
        guard linux_move_mount(tree, c(""), AT_FDCWD, c("/sys"), MountTree.moveFromEmptyPath) == 0 else {
            throw LaunchFailure(.joinImage, file)
        }
        let root = open(c("/sys"), PathFlags.path | O_DIRECTORY | O_CLOEXEC)
        guard root >= 0 else { throw LaunchFailure(.joinImage, file) }
        var path = ByteBuffer(capacity: 40)
        path.append("/proc/self/fd/")
        path.append(decimal: UInt64(root))
        return path.cString
    }
}

extension ContainerEntry {
    /// For a single-file image: says whether the namespaces are made already. They are the holder's; who is
    /// shown as another gets a user namespace inside that one.
    mutating func joinHolder(_ identity: Identity) throws(LaunchFailure) -> Bool {
        guard let file = facts.imageFile else { return false }
        let copy = UnpackedCopy(file: file, host: host)
        // Subordinate ids can be mapped below the host's user namespace only (newuidmap(1)), not below the server's.
        if copy.isWanted || facts.uidMap != nil {
            store = try copy.directory()
            return false
        }
        let holder = HolderJoin(file: file, host: host)
        try holder.join()
        imageRoot = try holder.takeRoot()
        let shown = try shownIdentity(identity)
        if facts.uidMap != nil || shown != (identity.callerUID, identity.callerGID) {
            try makeNamespaces(identity)
        } else if namespaces != 0, linux_unshare(namespaces) != 0 {
            throw LaunchFailure(.createNamespaces, "unshare")
        }
        return true
    }

    /// Makes the image's root what the plan's layer is relative to; after the mounts' sources are opened.
    mutating func placeImage() throws(LaunchFailure) {
        if let imageRoot { store = try imageRoot.put() }
    }
}

/// `trireme-mount`, which lies beside the running program, as a child that is nobody's: it is made by a
/// process that ends at once, so that the application never finds a child it did not make.
struct HolderProgram {
    let file: CString

    /// Runs it until it reports.
    /// - Parameter listener: -1 for none.
    func run(_ verb: CString, directory: CString?, listener: Int32, image: Int32) throws(LaunchFailure) {
        var ends: (Int32, Int32) = (-1, -1)
        let made = withUnsafeMutableBytes(of: &ends) {
            linux_pipe2($0.assumingMemoryBound(to: Int32.self).baseAddress!, O_CLOEXEC)
        }
        guard made == 0 else { throw LaunchFailure(.serveImage, file) }
        let program = try path()
        let child = linux_clone(0, nil)
        guard child >= 0 else { throw LaunchFailure(.serveImage, file) }
        if child == 0 {
            let grandchild = linux_clone(0, nil)
            if grandchild == 0 { become(program, verb, directory, listener: listener, image: image, report: ends.1) }
            _exit(grandchild < 0 ? 1 : 0)
        }
        close(ends.1)
        defer { close(ends.0) }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        try hear(ends.0)
    }

    func path() throws(LaunchFailure) -> CString {
        let buffer = UnsafeMutablePointer<CChar>.allocate(capacity: 4096 + 16)
        var length = readlink(c("/proc/self/exe"), buffer, 4096)
        guard length > 0 else { throw LaunchFailure(.handOver, "/proc/self/exe") }
        while length > 0, buffer[length - 1] != slash { length -= 1 }
        memcpy(buffer + length, c("trireme-mount"), 14)
        guard access(buffer, X_OK) == 0 else { throw LaunchFailure(.handOver, CString(buffer)) }
        return CString(buffer)
    }

    /// In the new process: a session of its own, nothing of ours open but the three descriptors.
    private func become(
        _ program: CString, _ verb: CString, _ directory: CString?, listener: Int32, image: Int32, report: Int32
    ) -> Never {
        setsid()
        // Out of the way of 3 to 5 first: any of them may be there already.
        let high = (
            listener < 0 ? -1 : linux_fcntl_int(listener, F_DUPFD, 20), linux_fcntl_int(image, F_DUPFD, 20),
            linux_fcntl_int(report, F_DUPFD, 20)
        )
        let null = open(c("/dev/null"), O_RDWR)
        for descriptor in 0..<Int32(3) where null >= 0 { dup2(null, descriptor) }
        if high.0 >= 0 { dup2(high.0, 3) } else { close(3) }
        dup2(high.1, 4)
        dup2(high.2, 5)
        linux_close_range(6, UInt32.max, 0)
        linux_sigprocmask(SIG_SETMASK, 0, nil)
        let arguments = CStringVector.allocate(capacity: 5)
        for (index, word) in [0: c("trireme-mount"), 1: verb, 2: file] {
            arguments[index] = UnsafeMutablePointer(mutating: word)
        }
        arguments[3] = directory.map { UnsafeMutablePointer(mutating: $0) }
        arguments[4] = nil
        execve(program, arguments, UnsafePointer(linux_environ()!))
        _exit(127)
    }

    private func hear(_ report: Int32) throws(LaunchFailure) {
        let message = UnsafeMutableRawBufferPointer.allocate(byteCount: 512, alignment: 8)
        var count = 0
        while count < 508 {
            let n = read(report, message.baseAddress! + count, 508 - count)
            if n < 0, errno == EINTR { continue }
            if n <= 0 { break }
            count += n
        }
        // It ended without a word: killed, or it could not be executed.
        guard count >= 4 else { throw LaunchFailure(.serveImage, file, errno: ECHILD) }
        let code = message.load(as: Int32.self)
        guard code != 0 else { return }
        let reason = copied(UnsafeRawBufferPointer(rebasing: message[4..<count]))
        throw LaunchFailure(.serveImage, file, detail: reason, errno: code)
    }
}

private let minus = CChar(0x2D)
