import Glibc

/// A system call that failed: which, with what errno, on what.
package struct SyscallError: Error, Equatable, Sendable {
    package var call: StaticStringName
    package var errno: Int32
    /// The path, name or number the call was about; may be empty.
    package var subject: String

    package init(_ call: StaticString, _ subject: String = "", errno: Int32 = Glibc.errno) {
        self.call = StaticStringName(call)
        self.errno = errno
        self.subject = subject
    }

    /// `no such file or directory`, in the words of strerror(3), lower case.
    package var reason: String {
        let cause = String(cString: strerror(errno))
        return cause.prefix(1).lowercased() + cause.dropFirst()
    }

    /// `open /a/b: no such file or directory`, in the words of strerror(3), lower case.
    package var sentence: String {
        let cause = String(cString: strerror(errno))
        let lower = cause.prefix(1).lowercased() + cause.dropFirst()
        return subject.isEmpty ? "\(call.text): \(lower)" : "\(call.text) \(subject): \(lower)"
    }
}

/// A `StaticString` that can be compared and sent.
package struct StaticStringName: Equatable, Sendable {
    private let name: StaticString
    package init(_ name: StaticString) { self.name = name }
    package var text: String { "\(name)" }
    package static func == (a: Self, b: Self) -> Bool { a.text == b.text }
}

/// Repeats a call that returns -1 while it was interrupted, and throws its errno otherwise.
@discardableResult
package func checked<R: FixedWidthInteger & SignedInteger>(
    _ call: StaticString, _ subject: @autoclosure () -> String = "", _ body: () -> R
) throws(SyscallError) -> R {
    while true {
        let result = body()
        if result >= 0 { return result }
        let code = errno
        if code == EINTR { continue }
        throw SyscallError(call, subject(), errno: code)
    }
}
