import CLinux
import Glibc

/// A clock that nobody sets: clock_gettime(2), CLOCK_MONOTONIC. Its zero is the machine's start.
package enum MonotonicTime {
    package static func nanoseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    /// In milliseconds, as poll(2) takes them.
    package static func now() -> Int { Int(nanoseconds() / 1_000_000) }
}
