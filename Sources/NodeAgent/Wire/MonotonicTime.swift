import CLinux
import Glibc

/// Milliseconds on a clock nobody sets (clock_gettime(2), CLOCK_MONOTONIC).
package enum MonotonicTime {
    package static func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int(time.tv_sec) * 1000 + Int(time.tv_nsec) / 1_000_000
    }
}
