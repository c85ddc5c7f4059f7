import Glibc

extension SeccompProfile {
    /// One refused system call: its number per table and why. The answer is EPERM.
    ///
    /// nil: the table has no such call or, in the 32-bit table only, the kernel itself refuses it
    /// to a process without capabilities of the host. The short second table halves its cost, and
    /// nothing is lost but the second lock on those doors.
    package struct Refusal: Sendable {
        package var name: StaticString
        package var x86: Int32?
        package var i386: Int32?
        package var arm64: Int32?
        package var reason: StaticString

        init(
            _ name: StaticString, x86: Int32?, i386: Int32?, arm64: Int32?, _ reason: StaticString
        ) {
            self.name = name
            self.x86 = x86
            self.i386 = i386
            self.arm64 = arm64
            self.reason = reason
        }

        package func number(on architecture: Architecture) -> Int32? {
            switch architecture {
            case .x86: x86
            case .i386: i386
            case .arm64: arm64
            }
        }
    }

    /// A system call table of the kernel. The raw value is its AUDIT_ARCH_* (linux/audit.h).
    package enum Architecture: UInt32, Sendable {
        case x86 = 0xC000_003E
        case i386 = 0x4000_0003
        case arm64 = 0xC000_00B7

        /// ioctl(2), the one call whose arguments are looked at.
        var ioctl: Int32 {
            switch self {
            case .x86: 16
            case .i386: 54
            case .arm64: 29
            }
        }
    }

    /// Requests of ioctl(2) that type into the caller's terminal, as if the user had (ioctl_tty(2)).
    package static let refusedTerminalRequests: [UInt32] = [0x5412 /* TIOCSTI */, 0x541C /* TIOCLINUX */]

    /// The deny list. Numbers: arch/x86/entry/syscalls/syscall_{64,32}.tbl, asm-generic/unistd.h.
    package static let refusals: [Refusal] = [
        // Key rings have no namespace: keys of the host session would be in reach.
        Refusal("add_key", x86: 248, i386: 286, arm64: 217, "key rings are shared with the host"),
        Refusal("request_key", x86: 249, i386: 287, arm64: 218, "key rings are shared with the host"),
        Refusal("keyctl", x86: 250, i386: 288, arm64: 219, "key rings are shared with the host"),

        // Programs and tricks that run inside the kernel.
        Refusal("bpf", x86: 321, i386: 357, arm64: 280, "code in the kernel; tracing needs root anyway"),
        Refusal("userfaultfd", x86: 323, i386: 374, arm64: 282, "stalls the kernel at a chosen access"),
        Refusal("io_uring_setup", x86: 425, i386: 425, arm64: 425, "acts out of sight of this filter"),
        Refusal("io_uring_enter", x86: 426, i386: 426, arm64: 426, "acts out of sight of this filter"),
        Refusal("io_uring_register", x86: 427, i386: 427, arm64: 427, "acts out of sight of this filter"),
        Refusal("init_module", x86: 175, i386: nil, arm64: 105, "loads code into the kernel"),
        Refusal("finit_module", x86: 313, i386: nil, arm64: 273, "loads code into the kernel"),
        Refusal("delete_module", x86: 176, i386: nil, arm64: 106, "unloads code of the kernel"),
        Refusal("kexec_load", x86: 246, i386: nil, arm64: 104, "replaces the kernel"),
        Refusal("kexec_file_load", x86: 320, i386: nil, arm64: 294, "replaces the kernel"),

        // Files by number, past every path and mount.
        Refusal("open_by_handle_at", x86: 304, i386: 342, arm64: 265, "opens files outside the container's root"),

        // The machine as a whole.
        Refusal("swapon", x86: 167, i386: nil, arm64: 224, "the machine's swap"),
        Refusal("swapoff", x86: 168, i386: nil, arm64: 225, "the machine's swap"),
        Refusal("reboot", x86: 169, i386: nil, arm64: 142, "the machine's power"),
        Refusal("acct", x86: 163, i386: nil, arm64: 89, "the machine's accounting file"),
        Refusal("quotactl", x86: 179, i386: 131, arm64: 60, "quotas of file systems the container does not own"),
        Refusal("quotactl_fd", x86: 443, i386: 443, arm64: 443, "quotas of file systems the container does not own"),
        Refusal("iopl", x86: 172, i386: nil, arm64: nil, "ports of the hardware"),
        Refusal("ioperm", x86: 173, i386: nil, arm64: nil, "ports of the hardware"),
        Refusal("clock_settime", x86: 227, i386: nil, arm64: 112, "the machine's clock"),
        Refusal("settimeofday", x86: 164, i386: nil, arm64: 170, "the machine's clock"),
        Refusal("syslog", x86: 103, i386: 103, arm64: 116, "the kernel's messages tell addresses and other users"),
        Refusal("vhangup", x86: 153, i386: nil, arm64: 58, "hangs up the user's terminal"),

        // Remains: most kernels have dropped them.
        Refusal("create_module", x86: 174, i386: nil, arm64: nil, "gone from the kernel"),
        Refusal("query_module", x86: 178, i386: nil, arm64: nil, "gone from the kernel"),
        Refusal("get_kernel_syms", x86: 177, i386: nil, arm64: nil, "gone from the kernel"),
        Refusal("lookup_dcookie", x86: 212, i386: nil, arm64: 18, "gone from the kernel"),
        Refusal("nfsservctl", x86: 180, i386: nil, arm64: 42, "gone from the kernel"),
        Refusal("_sysctl", x86: 156, i386: nil, arm64: nil, "gone from the kernel"),
        Refusal("uselib", x86: 134, i386: 86, arm64: nil, "libraries of the libc 5 age"),
        Refusal("ustat", x86: 136, i386: nil, arm64: nil, "replaced by statfs; no library calls it"),
        Refusal("sysfs", x86: 139, i386: nil, arm64: nil, "replaced by /proc/filesystems"),
    ]
}
