import CLinux
import Glibc

/// Stream sockets with a name in the file system (unix(7)): who may reach them is who may enter the directory.
package enum UnixSocket {
    /// A socket for `connect` or `bind`, closed at execve(2); -1 with errno set.
    package static func make(isBlocking: Bool = true) -> Int32 {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        return socket(AF_UNIX, isBlocking ? type : type | Int32(SOCK_NONBLOCK.rawValue), 0)
    }

    /// False with errno set: ENOENT and ECONNREFUSED when nobody listens, EAGAIN when the queue of a socket
    /// that must not block is full.
    package static func connect(_ socket: Int32, to path: UnsafePointer<CChar>) -> Bool {
        var address = address(path)
        return withUnsafePointer(to: &address) {
            Glibc.connect(
                socket, UnsafeRawPointer($0).assumingMemoryBound(to: sockaddr.self),
                socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
        }
    }

    /// False with errno set: EADDRINUSE while the file is there, listened to or not.
    package static func bind(_ socket: Int32, to path: UnsafePointer<CChar>) -> Bool {
        var address = address(path)
        return withUnsafePointer(to: &address) {
            Glibc.bind(
                socket, UnsafeRawPointer($0).assumingMemoryBound(to: sockaddr.self),
                socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
        }
    }

    /// A path too long for sun_path is cut, and then names nothing.
    private static func address(_ path: UnsafePointer<CChar>) -> sockaddr_un {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) {
            _ = memcpy($0.baseAddress!, path, min(strlen(path), $0.count - 1))
        }
        return address
    }
}
