import CLinux
import Glibc

/// The system call filter of a container: everything is allowed except what an HPC program never
/// needs and what enlarges the part of the kernel an unprivileged process can attack.
///
/// The list with reasons is `SeccompProfile.refusals`; Documentation/Reference/seccomp.md explains
/// what was left open and why. The filter is a constant in the program's read-only data, so that
/// installing it costs one system call and no memory.
package enum SeccompProfile {
    /// Installs the filter for this thread and everything it will start. seccomp(2)
    ///
    /// It cannot be taken off again; a second installation is allowed and changes nothing. The caller
    /// has set no_new_privs (else EACCES) and is single-threaded (other threads would stay free).
    /// - Returns: 0, or the errno: EACCES without no_new_privs, EINVAL on a kernel without seccomp filters.
    package static func install() -> Int32 {
        // SECCOMP_FILTER_FLAG_SPEC_ALLOW. Without it kernels before 5.16 switch the processor's
        // speculative store bypass off for a filtered process, which costs HPC codes up to tens of
        // percent; the switch protects sandboxes inside one process (browsers), which this is not.
        let allowSpeculation: UInt32 = 1 << 2
        #if arch(x86_64)
            let result = x86Program.span.withUnsafeBytes {
                linux_seccomp_filter_flags($0.baseAddress, UInt16(x86Program.count), allowSpeculation)
            }
        #elseif arch(arm64)
            let result = arm64Program.span.withUnsafeBytes {
                linux_seccomp_filter_flags($0.baseAddress, UInt16(arm64Program.count), allowSpeculation)
            }
        #else
            #error("no system call table for this architecture")
        #endif
        return result == 0 ? 0 : errno
    }
}
