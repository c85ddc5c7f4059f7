/// Everything `trireme doctor` knows about a host. `HostProbe` measures it; tests make it up.
package struct HostFacts: Sendable {
    /// Release and machine of uname(2), as `6.1.0 x86_64`.
    package var kernel = ""
    package var isRoot = false

    // User namespaces.
    package var userNamespace = Attempt.worked
    /// A new pid namespace with its own proc, as `--unshare pid` and clusters make it.
    package var pidNamespace = Attempt.worked
    /// user.max_user_namespaces; nil when the kernel has no such setting.
    package var maxUserNamespaces: Int?
    /// kernel.unprivileged_userns_clone (Debian, older Ubuntu).
    package var unprivilegedUserNamespaces: Int?
    /// kernel.apparmor_restrict_unprivileged_userns (Ubuntu 23.10 and later).
    package var appArmorRestrictsUserNamespaces: Int?
    /// `Seccomp:` of /proc/self/status: 0 none, 2 filtered from outside.
    package var seccompMode = 0
    /// No mount lies on `/`: a chroot, where the kernel refuses user namespaces.
    package var isChrooted = false
    /// Subordinate ids listed for the user in /etc/subuid and /etc/subgid.
    package var subordinateUsers = 0
    package var subordinateGroups = 0

    // File systems and protections.
    package var overlayLower = Attempt.worked
    package var overlayUpper = Attempt.worked
    package var fuse = Attempt.worked
    package var seccomp = Attempt.worked
    package var noNewPrivileges = Attempt.worked
    package var cgroup = ControlGroups()
    package var store = Directory()
    package var storeOverlay = Attempt.worked
    package var storeXattr = Attempt.worked
    package var storeWhiteout = Attempt.worked
    package var temporary = Directory()
    package var sharedMemory = Directory()

    // Parallel programs.
    /// Soft limit of RLIMIT_MEMLOCK in bytes; nil when unlimited.
    package var lockedMemoryBytes: UInt64?
    /// Names under /sys/class/infiniband.
    package var verbsDevices: [String] = []
    /// One child process reading another's memory, as ranks do (process_vm_readv(2)).
    package var siblingMemory = Attempt.worked
    /// kernel.yama.ptrace_scope; nil without Yama.
    package var ptraceScope: Int?

    // Virtual clusters.
    package var virtualNetwork = Attempt.worked
    /// Whether a new network namespace accepts `reno`.
    package var renoSelectable = Attempt.worked
    package var congestionControl: String?

    package var schedulers: [Scheduler] = []
    /// Nil when nobody looked for them; the lines are then left out.
    package var devices: DeviceFacts?
    package var programs: [Program] = []
    /// Seconds since 1970 in UTC.
    package var clock: Int64 = 0
    /// When the youngest of trireme's programs was written, seconds since 1970.
    package var programsWritten: Int64 = 0

    package init() {}

    package struct ControlGroups: Sendable {
        package enum Mode: String, Sendable {
            case none
            case v1
            case hybrid
            case v2
        }
        package var mode = Mode.none
        /// This process's directory in the v2 tree, if it is mounted.
        package var ownDirectory: String?
        /// What may be limited in groups below its own (`cgroup.controllers`, v2).
        package var controllers: [String] = []
        /// Whether the caller may make groups below its own (v2).
        package var isDelegated = false
        /// v1 controllers in which the caller may make groups.
        package var writableControllers: [String] = []
        /// A systemd user manager answers here, which can start a delegated scope.
        package var hasUserManager = false

        package init() {}
    }

    /// A directory and the file system below it.
    package struct Directory: Sendable {
        package var path = ""
        /// The nearest ancestor that exists (`path` itself when it does).
        package var existing = ""
        /// Making a directory, and writing a file of 64 KiB in it.
        package var writable = Attempt.worked
        /// f_type of statfs(2).
        package var magic: UInt32 = 0
        package var totalBytes: UInt64 = 0
        package var freeBytes: UInt64 = 0
        package var freeFiles: UInt64 = .max
        package var isNoExec = false

        package init() {}
    }

    package struct Scheduler: Sendable, Equatable {
        /// Its name in words.
        package var name: String
        /// The command found in PATH, absolute; nil when none was.
        package var command: String?
        /// The command that starts tasks inside an allocation.
        package var launcher: String
        package var launcherFound: Bool
        /// Identifier of the allocation this process runs in.
        package var job: String?

        package init(name: String, command: String?, launcher: String, launcherFound: Bool, job: String?) {
            self.name = name
            self.command = command
            self.launcher = launcher
            self.launcherFound = launcherFound
            self.job = job
        }
    }

    package struct Program: Sendable, Equatable {
        package var path: String
        package var isExecutable: Bool

        package init(path: String, isExecutable: Bool) {
            self.path = path
            self.isExecutable = isExecutable
        }
    }
}
