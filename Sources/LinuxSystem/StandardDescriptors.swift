import CLinux
import Glibc

/// Descriptors 0 to 2, which a program may be started without (`trireme … >&-`).
package enum StandardDescriptors {
    /// Puts something in each place that is empty, before anything else is opened: the next socket would become
    /// standard output otherwise, and be written to. Reading finds the end; writing fails, as it would have.
    package static func occupy() {
        for number in Int32(0)...2 where fcntl(number, F_GETFD) < 0 {
            // The lowest free number is the one that is asked for: all below it are open by now.
            _ = open("/dev/null", O_RDONLY)
        }
    }
}
