import CLinux
import Glibc

/// A listening socket in a loop over poll(2).
///
/// Where no descriptor is left, accept(2) fails and the connection stays in the kernel's queue: poll(2) says at
/// once that the socket is ready, and the loop turns for nothing. The listener then rests for a moment, in which
/// the loop does not ask for it. accept(2) is called nowhere else (`TidyTests`).
package struct RestingListener {
    package static let restMilliseconds = 50

    private let socket: Int32
    /// On the monotonic clock; 0: it does not rest.
    private var end = 0

    /// - Parameter socket: the caller's, and not closed here.
    package init(_ socket: Int32) { self.socket = socket }

    package var isResting: Bool { end != 0 && MonotonicTime.now() < end }

    /// For poll(2), which passes over a negative one.
    package var watched: Int32 { isResting ? -1 : socket }

    /// A timeout for poll(2), no longer than the rest; -1 is none, as there.
    package func timeout(_ milliseconds: Int32) -> Int32 {
        let left = end - MonotonicTime.now()
        if end == 0 || left <= 0 { return milliseconds }
        return milliseconds < 0 ? Int32(clamping: left) : min(milliseconds, Int32(clamping: left))
    }

    package mutating func rest(milliseconds: Int) { end = MonotonicTime.now() + max(1, milliseconds) }

    /// Something was freed.
    package mutating func wake() { end = 0 }

    /// The next connection, close-on-exec; -1 when none waits, or none can be taken and the listener rests.
    package mutating func accept(isBlocking: Bool = true) -> Int32 {
        let flags = Int32(SOCK_CLOEXEC.rawValue)
        let taken = linux_accept4(socket, isBlocking ? flags : flags | Int32(SOCK_NONBLOCK.rawValue))
        let reason = errno
        if taken < 0, reason == EMFILE || reason == ENFILE || reason == ENOBUFS || reason == ENOMEM {
            rest(milliseconds: RestingListener.restMilliseconds)
        }
        return taken
    }
}
