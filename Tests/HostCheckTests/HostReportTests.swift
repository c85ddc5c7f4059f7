import Testing

@testable import HostCheck

/// A host on which everything is well, to be spoiled in one place per case.
private func healthy() -> HostFacts {
    var facts = HostFacts()
    facts.kernel = "6.1.0-18-amd64 x86_64"
    facts.maxUserNamespaces = 60000
    facts.ptraceScope = 0
    facts.cgroup.mode = .v2
    facts.cgroup.isDelegated = true
    facts.cgroup.controllers = ["cpu", "memory", "pids"]
    facts.cgroup.ownDirectory = "/sys/fs/cgroup/user.slice/x"
    facts.store = directory("/home/u/store")
    facts.temporary = directory("/tmp")
    facts.sharedMemory = directory("/dev/shm")
    facts.congestionControl = "cubic"
    facts.schedulers = [.init(name: "Slurm", command: "/usr/bin/srun", launcher: "srun", launcherFound: true, job: nil)]
    facts.programs = [.init(path: "/opt/bin/trireme", isExecutable: true)]
    facts.clock = 1_790_000_000
    return facts
}

private func directory(_ path: String) -> HostFacts.Directory {
    var directory = HostFacts.Directory()
    directory.path = path
    directory.existing = path
    directory.magic = 0xEF53
    directory.totalBytes = 100 << 30
    directory.freeBytes = 50 << 30
    return directory
}

private func refused(_ step: String, _ errno: Int32) -> Attempt { .failed(step: step, errno: errno) }

/// One spoiled fact, the check that must notice, and words its cause and fix must have.
struct Spoiled: Sendable, CustomTestStringConvertible {
    var check: String
    var level: Finding.Level
    var cause: String
    var fix: String
    var spoil: @Sendable (inout HostFacts) -> Void
    init(
        _ check: String, _ level: Finding.Level, cause: String, fix: String,
        _ spoil: @escaping @Sendable (inout HostFacts) -> Void
    ) {
        (self.check, self.level, self.cause, self.fix, self.spoil) = (check, level, cause, fix, spoil)
    }
    var testDescription: String { "\(check): \(cause)" }
}

private let permission: Int32 = 1
private let noSuchFile: Int32 = 2
private let access: Int32 = 13
private let noDevice: Int32 = 19
private let invalid: Int32 = 22
private let noSpace: Int32 = 28
private let noSuchCall: Int32 = 38
private let notSupported: Int32 = 95

@Suite struct HostReportTests {
    @Test func aHealthyHostIsOkThroughout() {
        let report = HostReport(healthy())
        #expect(report.findings.allSatisfy { $0.level == .ok && $0.cause == nil && $0.fix == nil })
        #expect(report.exitStatus == 0)
        #expect(report.summary == "25 ok, 0 warn, 0 fail, 0 skip")
        #expect(Set(report.findings.map(\.check)).count == report.findings.count)
    }

    static let namespaces: [Spoiled] = [
        Spoiled("user-namespaces", .fail, cause: "switched off", fix: "sysctl -w user.max_user_namespaces") {
            $0.userNamespace = refused("unshare user namespace", noSpace)
            $0.maxUserNamespaces = 0
        },
        Spoiled("user-namespaces", .fail, cause: "max_user_namespaces=500 is used up", fix: "lsns -t user") {
            $0.userNamespace = refused("unshare user namespace", noSpace)
            $0.maxUserNamespaces = 500
        },
        Spoiled("user-namespaces", .fail, cause: "CONFIG_USER_NS", fix: "boot a kernel") {
            $0.userNamespace = refused("unshare user namespace", invalid)
        },
        Spoiled("user-namespaces", .fail, cause: "unprivileged_userns_clone is 0", fix: "unprivileged_userns_clone=1") {
            $0.userNamespace = refused("unshare user namespace", permission)
            $0.unprivilegedUserNamespaces = 0
        },
        Spoiled("user-namespaces", .fail, cause: "AppArmor", fix: "userns,") {
            $0.userNamespace = refused("mount / private", access)
            $0.appArmorRestrictsUserNamespaces = 1
        },
        Spoiled("user-namespaces", .fail, cause: "chroot", fix: "outside the chroot") {
            $0.userNamespace = refused("unshare user namespace", permission)
            $0.isChrooted = true
        },
        Spoiled("user-namespaces", .fail, cause: "filter from outside", fix: "seccomp=unconfined") {
            $0.userNamespace = refused("unshare user namespace", permission)
            $0.seccompMode = 2
        },
        Spoiled("user-namespaces", .fail, cause: "security module", fix: "dmesg") {
            $0.userNamespace = refused("unshare user namespace", permission)
        },
        Spoiled("user-namespaces", .fail, cause: "mount_setattr", fix: "5.12") {
            $0.userNamespace = refused("mount_setattr /tmp", noSuchCall)
        },
        Spoiled("user-namespace-limit", .fail, cause: "switched off", fix: "max_user_namespaces=65536") {
            $0.maxUserNamespaces = 0
        },
        Spoiled("user-namespace-limit", .warn, cause: "use the limit up", fix: "max_user_namespaces=65536") {
            $0.maxUserNamespaces = 100
        },
        Spoiled("pid-namespaces", .warn, cause: "/proc", fix: "unmask=ALL") {
            $0.pidNamespace = refused("mount proc on /proc", permission)
        },
        Spoiled("kernel", .warn, cause: "5.12", fix: "boot a kernel") {
            $0.kernel = "4.18.0-553.el8_10.x86_64 x86_64"
            $0.userNamespace = refused("mount_setattr /tmp", noSuchCall)
        },
        Spoiled("seccomp", .fail, cause: "filters", fix: "CONFIG_SECCOMP_FILTER") {
            $0.seccomp = refused("seccomp filter", invalid)
        },
        Spoiled("no-new-privs", .fail, cause: "setuid", fix: "prctl") {
            $0.noNewPrivileges = refused("prctl no_new_privs", permission)
        },
        Spoiled("programs", .fail, cause: "side by side", fix: "install trireme-agent") {
            $0.programs.append(.init(path: "/opt/bin/trireme-agent", isExecutable: false))
        },
        Spoiled("cgroup", .warn, cause: "--memory", fix: "mount -t cgroup2") { $0.cgroup = .init() },
        Spoiled("cgroup", .warn, cause: "--memory", fix: "systemd-run --user") {
            $0.cgroup.isDelegated = false
            $0.cgroup.hasUserManager = true
        },
        Spoiled("cgroup", .warn, cause: "--memory", fix: "Delegate=yes") { $0.cgroup.isDelegated = false },
        Spoiled("cgroup", .warn, cause: "--memory", fix: "batch system") { $0.cgroup.mode = .v1 },
    ]

    static let fileSystems: [Spoiled] = [
        Spoiled("overlay", .fail, cause: "no overlay file system", fix: "modprobe overlay") {
            $0.overlayLower = refused("mount overlay on /proc/root", noDevice)
        },
        Spoiled("overlay", .fail, cause: "userxattr", fix: "5.11") {
            $0.overlayLower = refused("mount overlay on /proc/root", invalid)
        },
        Spoiled("overlay", .fail, cause: "refused", fix: "5.11") {
            $0.overlayLower = refused("mount overlay on /proc/root", permission)
        },
        Spoiled("overlay-upper", .warn, cause: "--writable-tmpfs", fix: "6.6") {
            $0.overlayUpper = refused("mount overlay on /proc/root", invalid)
        },
        Spoiled("fuse", .warn, cause: "single-file", fix: "chmod 0666") { $0.fuse = refused("open /dev/fuse", access) },
        Spoiled("fuse", .warn, cause: "single-file", fix: "--device /dev/fuse") {
            $0.fuse = refused("open /dev/fuse", noSuchFile)
        },
        Spoiled("fuse", .warn, cause: "single-file", fix: "modprobe fuse") {
            $0.fuse = refused("open /dev/fuse", noDevice)
        },
        Spoiled("store", .fail, cause: "cannot be kept", fix: "TRIREME_STORE") {
            $0.store.writable = refused("mkdir /home/u/store/x", access)
        },
        Spoiled("store", .fail, cause: "full", fix: "free some space") {
            $0.store.writable = refused("write /home/u/store/x", noSpace)
        },
        Spoiled("store", .fail, cause: "quota", fix: "free some space") {
            $0.store.writable = refused("write /home/u/store/x", 122)
        },
        Spoiled("store", .fail, cause: "does not answer", fix: "TRIREME_STORE") {
            $0.store.writable = .noAnswer(seconds: 10)
        },
        Spoiled("store", .fail, cause: "executed", fix: "noexec") { $0.store.isNoExec = true },
        Spoiled("store", .warn, cause: "small files", fix: "/LOCAL/DISK") { $0.store.magic = 0x6969 },
        Spoiled("store", .warn, cause: "small files", fix: "/LOCAL/DISK") { $0.store.magic = 0x0BD0_0BD0 },
        Spoiled("store", .warn, cause: "small files", fix: "/LOCAL/DISK") { $0.store.magic = 0x4750_4653 },
        Spoiled("store", .warn, cause: "gone after a restart", fix: "local disk") { $0.store.magic = 0x0102_1994 },
        Spoiled("store-space", .fail, cause: "small image", fix: "free some space") { $0.store.freeBytes = 1 << 20 },
        Spoiled("store-space", .warn, cause: "10 GiB", fix: "free some space") { $0.store.freeBytes = 1 << 30 },
        Spoiled("store-space", .warn, cause: "files", fix: "free some space") { $0.store.freeFiles = 10 },
        Spoiled("store-xattr", .fail, cause: "NFS does not keep", fix: "4.2") {
            $0.store.magic = 0x6969
            $0.storeXattr = refused("setxattr user.overlay.opaque", notSupported)
        },
        Spoiled("store-whiteout", .fail, cause: "whiteout", fix: "5.8") {
            $0.storeWhiteout = refused("mknod character device 0:0", permission)
        },
        Spoiled("store-overlay", .fail, cause: "cannot be a layer", fix: "local disk") {
            $0.storeOverlay = refused("mount overlay", invalid)
        },
        Spoiled("temporary", .fail, cause: "unpacked", fix: "mkdir -p /tmp") { $0.temporary.existing = "/" },
        Spoiled("temporary", .fail, cause: "unpacked", fix: "TRIREME_TMPDIR") {
            $0.temporary.writable = refused("mkdir /tmp/x", access)
        },
        Spoiled("temporary", .warn, cause: "build or unpack code", fix: "noexec") { $0.temporary.isNoExec = true },
        Spoiled("temporary", .warn, cause: "can take more", fix: "TRIREME_TMPDIR") { $0.temporary.freeBytes = 9 },
        Spoiled("shared-memory", .warn, cause: "ranks", fix: "mount -t tmpfs") { $0.sharedMemory.existing = "/dev" },
        Spoiled("shared-memory", .warn, cause: "bus error", fix: "--shm-size") {
            ($0.sharedMemory.totalBytes, $0.sharedMemory.freeBytes) = (64 << 20, 64 << 20)
        },
        Spoiled("shared-memory", .warn, cause: "bus error", fix: "left behind") { $0.sharedMemory.freeBytes = 9 },
    ]

    static let parallelism: [Spoiled] = [
        Spoiled("memlock", .warn, cause: "InfiniBand", fix: "memlock unlimited") {
            $0.lockedMemoryBytes = 8 << 20
            $0.verbsDevices = ["mlx5_0"]
        },
        Spoiled("ptrace-scope", .warn, cause: "CMA", fix: "ptrace_scope=0") {
            $0.ptraceScope = 1
            $0.siblingMemory = refused("process_vm_readv sibling", permission)
        },
        Spoiled("ptrace-scope", .warn, cause: "filter", fix: "SYS_PTRACE") {
            $0.ptraceScope = nil
            $0.siblingMemory = refused("process_vm_readv sibling", permission)
        },
        Spoiled("virtual-network", .warn, cause: "link type", fix: "modprobe -a bridge veth") {
            $0.virtualNetwork = refused("netlink new bridge", notSupported)
        },
        Spoiled("virtual-network", .warn, cause: "network namespace", fix: "max_net_namespaces") {
            $0.virtualNetwork = refused("unshare network namespace", noSpace)
        },
        Spoiled("virtual-network", .warn, cause: "network namespace", fix: "profile") {
            $0.virtualNetwork = refused("unshare network namespace", permission)
        },
        Spoiled("tcp-congestion-control", .warn, cause: "slows MPI", fix: "tcp_congestion_control=cubic") {
            $0.congestionControl = "bbr"
            $0.renoSelectable = refused("open /proc/sys/net/ipv4/tcp_congestion_control", 30)
        },
        Spoiled("scheduler", .warn, cause: "other nodes", fix: "module load slurm") {
            $0.schedulers = [.init(name: "Slurm", command: nil, launcher: "srun", launcherFound: false, job: "77")]
        },
        Spoiled("clock", .warn, cause: "behind", fix: "set-ntp") { $0.programsWritten = $0.clock + 60 },
    ]

    @Test(arguments: namespaces + fileSystems + parallelism)
    func aSpoiledFactIsNoticed(_ spoiled: Spoiled) throws {
        var facts = healthy()
        spoiled.spoil(&facts)
        let report = HostReport(facts)
        let finding = try #require(report.findings.first { $0.check == spoiled.check })
        #expect(finding.level == spoiled.level)
        #expect(finding.cause?.contains(spoiled.cause) == true, "\(finding)")
        #expect(finding.fix?.contains(spoiled.fix) == true, "\(finding)")
        #expect(report.exitStatus == (report.findings.contains { $0.level == .fail } ? 1 : 0))
        #expect(!report.table.contains("\n\n"))
    }

    /// Every warn and fail has a cause and a fix, and only those have a fix.
    @Test(arguments: namespaces + fileSystems + parallelism)
    func everyTroubleHasOneCauseAndOneFix(_ spoiled: Spoiled) {
        var facts = healthy()
        spoiled.spoil(&facts)
        for finding in HostReport(facts).findings {
            let isTrouble = finding.level == .warn || finding.level == .fail
            #expect((finding.fix != nil) == isTrouble)
            #expect((finding.cause != nil) == (finding.level != .ok))
            #expect(![finding.fact, finding.cause ?? "", finding.fix ?? ""].contains { $0.contains("\n") })
        }
    }

    @Test func withoutUserNamespacesTheRestIsSkippedNotBlamed() {
        var facts = healthy()
        facts.userNamespace = refused("unshare user namespace", permission)
        facts.overlayLower = refused("unshare user namespace", permission)
        facts.virtualNetwork = refused("unshare user namespace", permission)
        let levels = Dictionary(
            HostReport(facts).findings.map { ($0.check, $0.level) }, uniquingKeysWith: { first, _ in first })
        for check in ["overlay", "overlay-upper", "pid-namespaces", "virtual-network", "store-overlay"] {
            #expect(levels[check] == .skip)
        }
        #expect(levels["user-namespaces"] == .fail)
        #expect(levels["store"] == .ok)
    }

    @Test func insideAnAllocationTheJobIsNamed() throws {
        var facts = healthy()
        facts.schedulers = [
            .init(name: "PBS", command: "/usr/bin/pbsdsh", launcher: "pbsdsh", launcherFound: true, job: nil),
            .init(name: "Slurm", command: "/usr/bin/srun", launcher: "srun", launcherFound: true, job: "4711"),
        ]
        let finding = try #require(HostReport(facts).findings.first { $0.check == "scheduler" })
        #expect(finding.fact == "Slurm, inside allocation 4711, srun found")
    }

    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00Z"), (951_827_696, "2000-02-29T12:34:56Z"), (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"), (-1, "1969-12-31T23:59:59Z"),
        ] as [(Int64, String)])
    func timesAreRFC3339(seconds: Int64, text: String) {
        #expect(HostReport.timestamp(seconds) == text)
    }

    @Test(
        arguments: [
            (0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (8 << 20, "8.0 MiB"), (75 << 30, "75 GiB"),
        ] as [(UInt64, String)])
    func sizesAreReadable(bytes: UInt64, text: String) {
        #expect(inWords(bytes: bytes) == text)
    }
}
