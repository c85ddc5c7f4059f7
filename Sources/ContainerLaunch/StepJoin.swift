import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

/// Ranks that a batch system or an MPI launcher starts as launches of their own (`srun trireme run IMAGE`)
/// share one container per node: in different user namespaces they could not read each other's memory
/// (process_vm_readv(2) asks for a capability over the other's namespace), and MPI libraries copy large
/// messages that way.
///
/// The first makes the container and, being the application by then, holds a socket that nobody accepts on:
/// who connects learns its pid (SO_PEERCRED) and follows it. When the first has ended, nobody listens, and the
/// next one makes the container afresh. The name is a hash of everything that decides what
/// the container is; where it does not work out, a launch has its own container, as it always had.
struct StepJoin {
    private enum Limit {
        static let waitMilliseconds = 10_000
        static let firstPause: UInt32 = 500
        static let longestPause: UInt32 = 20_000
        /// Connections wait in the queue for ever, so this many ranks join; the kernel caps it (somaxconn).
        static let queue: Int32 = 4096
        /// Where the application is not looking for descriptors of its own.
        static let descriptors = 200
    }
    enum Outcome { case alone, joined, first }

    private var name = ByteBuffer(capacity: 108)
    private let place: MeetingPlace
    private var listener: Int32 = -1
    private var lock: Int32 = -1

    /// The cheap question first: most launches are no ranks.
    static func isRank(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Bool {
        var hash = NameHash()
        return addStep(host, to: &hash)
    }

    /// nil when this launch is no rank among others, or wants something of its own.
    init?(_ entry: ContainerEntry, plan: UnsafeRawBufferPointer, directory: CString?) {
        let own: LaunchPlan.Options = [.writable, .fakeRoot, .isolated, .imageUser, .ownTerminal, .privateTemporary]
        guard entry.options.rawValue & own.rawValue == 0, entry.namespaces == 0, !entry.facts.hasLimits,
            entry.facts.overlay == nil, entry.facts.imageFile == nil, entry.facts.uidMap == nil,
            entry.facts.keptDescriptors == nil
        else { return nil }
        let host = entry.host
        var hash = NameHash()
        guard Self.addStep(host, to: &hash) else { return nil }
        if let wish = Self.variable("TRIREME_JOIN", host), isEqual(wish, "never") { return nil }
        var namespace = stat()
        guard stat(c("/proc/self/ns/mnt"), &namespace) == 0 else { return nil }
        hash.add(UInt64(namespace.st_ino))
        hash.add(UInt64(getegid()))
        hash.add(UInt64(entry.options.rawValue))
        hash.add(plan)
        hash.add(entry.store)
        hash.add(directory)
        hash.add(Self.variable("HOME", host))
        hash.add(SiteBinds.find(host)?.text)
        hash.add(Self.variable("TZ", host))
        hash.add(entry.request.workingDirectory)
        var index = 0
        while let bind = entry.request.binds[index] {
            hash.add(CString(bind))
            index += 1
        }
        name.append("step-")
        name.append(decimal: hash.value)
        guard let place = MeetingPlace(host) else { return nil }
        self.place = place
    }

    /// Enters the container of a rank that came before, or takes the name that later ones look for.
    mutating func meet() -> Outcome {
        let deadline = MonotonicTime.now() + Limit.waitMilliseconds
        var pause = Limit.firstPause
        while true {
            if let met = join() { return met }
            let held = place.lock(name.cString)
            if held >= 0 {
                if let met = join() {
                    close(held)
                    return met
                }
                return bind(held)
            }
            // Locked and not listening yet: the first is making the container.
            guard errno == EWOULDBLOCK, MonotonicTime.now() < deadline else { return .alone }
            usleep(pause)
            pause = min(pause * 2, Limit.longestPause)
        }
    }

    /// nil when nobody is there.
    private func join() -> Outcome? {
        // Without blocking: a full queue must not hold a rank up.
        let socket = UnixSocket.make(isBlocking: false)
        guard socket >= 0 else { return .alone }
        defer { close(socket) }
        if place.connect(socket, to: name.cString) { return follow(socket) ? .joined : .alone }
        // EAGAIN: more ranks than the queue holds.
        return errno == EAGAIN ? .alone : nil
    }

    private mutating func bind(_ held: Int32) -> Outcome {
        let socket = UnixSocket.make(isBlocking: false)
        guard socket >= 0, place.bind(socket, to: name.cString) else {
            if socket >= 0 { close(socket) }
            close(held)
            return .alone
        }
        listener = socket
        lock = held
        return .first
    }

    /// Lets the others in: this process is inside, with nothing left to do but to become the application.
    func open() {
        defer {
            close(listener)
            close(lock)
        }
        var namespace = stat()
        // The note says which mount namespace is meant: the pid alone may be another's by now, when the
        // first has ended and a process that it started still holds the socket.
        guard stat(c("/proc/self/ns/mnt"), &namespace) == 0,
            MeetingPlace.write(note: UInt64(namespace.st_ino), to: lock),
            linux_fcntl_int(listener, F_DUPFD, Limit.descriptors) >= 0
        else { return }
        // Who follows looks into this process, a moment before execve(2) would open it to them. Only containers
        // that are not isolated are shared so: their processes may do whatever the caller may.
        _ = linux_prctl(ProcessControl.setDumpable, 1, 0, 0, 0)
        listen(listener, Limit.queue)
    }

    private func follow(_ socket: Int32) -> Bool {
        var process: pid_t = 0
        var user: uid_t = 0
        var group: gid_t = 0
        guard linux_peer_credentials(socket, &process, &user, &group) == 0, user == geteuid(), process > 0 else {
            return false
        }
        guard let namespaces = ContainerNamespaces.at((namespace(c("user"), process), namespace(c("mnt"), process)))
        else { return false }
        defer { namespaces.closeBoth() }
        guard namespaces.isChildOfOwn, namespaces.belongTogether,
            namespaces.mountNumber == place.note(name.cString)
        else { return false }
        if namespaces.enter() { return true }
        _ = linux_prctl(ProcessControl.setDumpable, 1, 0, 0, 0)
        return false
    }

    private func namespace(_ kind: CString, _ process: pid_t) -> CString {
        var path = ByteBuffer(capacity: 40)
        path.append("/proc/")
        path.append(decimal: UInt64(process))
        path.append("/ns/")
        path.append(kind)
        return path.cString
    }

    // MARK: Which step

    /// Adds what names the step: Slurm's own numbers, else the launcher's process that all ranks of a node have.
    private static func addStep(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>, to hash: inout NameHash) -> Bool {
        if let step = variable("SLURM_STEP_ID", host), let tasks = variable("SLURM_STEP_NUM_TASKS", host) {
            guard !isEqual(tasks, "1"), let job = variable("SLURM_JOB_ID", host) else { return false }
            hash.add(job)
            hash.add(step)
            hash.add(variable("SLURM_CLUSTER_NAME", host))
            return true
        }
        // Open MPI's, and that of MPICH's Hydra and Intel MPI.
        guard
            let local = variable("OMPI_COMM_WORLD_LOCAL_SIZE", host) ?? variable("MPI_LOCALNRANKS", host),
            !isEqual(local, "1")
        else { return false }
        hash.add(UInt64(getppid()))
        return true
    }

    private static func variable(_ name: StaticString, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) -> CString?
    {
        ContainerEnvironment.find(c(name), name.utf8CodeUnitCount, in: host).map { $0 + name.utf8CodeUnitCount + 1 }
    }
}
