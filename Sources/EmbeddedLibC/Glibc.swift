@_exported import CLibC

// The module `Glibc` of the launcher, which is built as Embedded Swift (Scripts/build-launcher): the
// toolchain has its own only for programs with Swift's runtime. It has the C library's declarations, and what
// C says as macros or with a variable number of arguments under the names and types that the toolchain's
// module gives it, so that the same sources are built with either.

/// errno(3)
public var errno: Int32 {
    get { __errno_location().pointee }
    set { __errno_location().pointee = newValue }
}

/// open(2)
public func open(_ path: UnsafePointer<CChar>, _ flags: Int32, _ mode: mode_t = 0) -> Int32 {
    libc_openat(AT_FDCWD, path, flags, mode)
}
/// openat(2)
public func openat(_ directory: Int32, _ path: UnsafePointer<CChar>, _ flags: Int32, _ mode: mode_t = 0) -> Int32 {
    libc_openat(directory, path, flags, mode)
}
/// fcntl(2)
public func fcntl(_ descriptor: Int32, _ command: Int32, _ value: Int32 = 0) -> Int32 {
    libc_fcntl(descriptor, command, value)
}
