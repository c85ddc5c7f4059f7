import CLinux
import Glibc
import LinuxSystem

/// How an operation went that was really tried, in a process of its own.
package enum Attempt: Equatable, Sendable {
    case worked
    /// `step` is the system call and what it was about, in words: `unshare user namespace`.
    case failed(step: String, errno: Int32)
    case killed(signal: Int32)
    /// No answer in the time limit: a dead file server, most often.
    case noAnswer(seconds: Int)

    package var errno: Int32? { if case .failed(_, let code) = self { code } else { nil } }
    package var step: String? { if case .failed(let step, _) = self { step } else { nil } }

    /// The outcome in words; `worked` for success.
    package var sentence: String {
        switch self {
        case .worked: return "worked"
        case .failed(let step, let code):
            let words = String(cString: strerror(code))
            return "\(step): \(words.prefix(1).lowercased())\(words.dropFirst())"
        case .killed(let signal): return "ended by signal \(signal)"
        case .noAnswer(let seconds): return "no answer within \(seconds) s"
        }
    }

    /// Runs `body` in a forked child, so that namespaces, mounts and filters end with it and a call
    /// that hangs does not hang this process.
    ///
    /// The caller has one thread: the child goes on in Swift after fork(2).
    package static func inChild(limitSeconds: Int = 10, _ body: () throws(SyscallError) -> Void) -> Attempt {
        var ends: [Int32] = [-1, -1]
        guard linux_pipe2(&ends, O_CLOEXEC) == 0 else { return .failed(step: "pipe2", errno: Glibc.errno) }
        let child = linux_fork()
        if child == 0 {
            var report = "worked"
            do { try body() } catch { report = "\(error.errno) \(error.call.text) \(error.subject)" }
            report.withUTF8 { _ = Glibc.write(ends[1], $0.baseAddress, $0.count) }
            _exit(0)
        }
        let forkErrno = Glibc.errno
        Glibc.close(ends[1])
        defer { Glibc.close(ends[0]) }
        guard child > 0 else { return .failed(step: "fork", errno: forkErrno) }
        return outcome(of: child, report: ends[0], limitSeconds: limitSeconds)
    }

    private static func outcome(of child: pid_t, report: Int32, limitSeconds: Int) -> Attempt {
        var ready = pollfd(fd: report, events: Int16(POLLIN), revents: 0)
        var answered: Int32
        repeat { answered = poll(&ready, 1, Int32(limitSeconds * 1000)) } while answered < 0 && Glibc.errno == EINTR
        if answered == 0 {
            // A child in an uninterruptible sleep survives this; waiting for it would hang as well.
            kill(child, SIGKILL)
            waitpid(child, nil, WNOHANG)
            return .noAnswer(seconds: limitSeconds)
        }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(report, &bytes, bytes.count)
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 && Glibc.errno == EINTR {}
        if linux_status_signaled(status) != 0 { return .killed(signal: linux_status_signal(status)) }
        return decode(String(decoding: bytes[..<max(0, count)], as: UTF8.self))
    }

    private static func decode(_ report: String) -> Attempt {
        if report == "worked" { return .worked }
        let parts = report.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, let code = Int32(parts[0]) else { return .failed(step: "report", errno: EIO) }
        var step = String(parts[1])
        while step.hasSuffix(" ") { step.removeLast() }
        return .failed(step: step, errno: code)
    }
}
