import CLinux
import Glibc
import JobModel
import LinuxSystem
import Processes

/// What processes used: at their end from wait4(2), before it from /proc (proc(5)).
enum UsageMeter {
    /// A child that ended, with what it and those it waited for used.
    struct Ended {
        var pid: pid_t
        /// As wait4(2) gives it.
        var status: Int32
        var usage: ResourceUsage
    }

    /// Collects one ended child: `pid`, or any for -1. Nil with `errno` ECHILD when there are none, and
    /// with `errno` 0 when none has ended.
    ///
    /// - Parameter transfers: says what the ended process transferred, asked before it is waited for:
    ///   afterwards the kernel has forgotten.
    static func collect(_ pid: pid_t, transfers: (pid_t) -> ResourceUsage) -> Ended? {
        while true {
            var information = siginfo_t()
            errno = 0
            let kind = pid > 0 ? P_PID : P_ALL
            if waitid(kind, id_t(max(0, pid)), &information, WEXITED | WNOHANG | WNOWAIT) != 0 {
                if errno == EINTR { continue }
                return nil
            }
            let found = information._sifields._sigchld.si_pid
            if found == 0 {
                errno = 0
                return nil
            }
            var usage = transfers(found)
            var status: Int32 = 0
            var resources = rusage()
            guard wait4(found, &status, WNOHANG, &resources) == found else { continue }
            usage.cpuMicroseconds = microseconds(resources.ru_utime) + microseconds(resources.ru_stime)
            usage.peakMemory = UInt64(max(0, resources.ru_maxrss)) << 10
            return Ended(pid: found, status: status, usage: usage)
        }
    }

    private static func microseconds(_ time: timeval) -> UInt64 {
        UInt64(max(0, time.tv_sec)) * 1_000_000 + UInt64(max(0, time.tv_usec))
    }

    /// What `pid` and all below it used so far.
    static func usage(of pid: pid_t, among children: [pid_t: [pid_t]]) -> ResourceUsage {
        var sum = ResourceUsage()
        for process in [pid] + ProcessTree.descendants(of: pid, among: children) {
            let own = transfers(of: process)
            sum.readBytes += own.readBytes
            sum.writtenBytes += own.writtenBytes
            sum.cpuMicroseconds += processorTime(of: process)
            sum.peakMemory = max(sum.peakMemory, largestResidentSet(of: process))
        }
        return sum
    }

    private static func transfers(of pid: pid_t) -> ResourceUsage { TransferMeter(pid).read() }

    /// Its own and that of children it waited for: fields 14 to 17 of `stat`, in ticks.
    private static func processorTime(of pid: pid_t) -> UInt64 {
        let stat = text("/proc/\(pid)/stat")
        guard let close = stat.lastIndex(of: ")") else { return 0 }
        let fields = stat[stat.index(after: close)...].split(separator: " ")
        guard fields.count > 14 else { return 0 }
        let ticks = fields[11...14].reduce(UInt64(0)) { $0 + (UInt64($1) ?? 0) }
        return ticks * 1_000_000 / UInt64(max(1, sysconf(Int32(_SC_CLK_TCK))))
    }

    private static func largestResidentSet(of pid: pid_t) -> UInt64 {
        for line in text("/proc/\(pid)/status").split(separator: "\n") where line.hasPrefix("VmHWM:") {
            return (UInt64(line.dropFirst(6).filter { ("0"..."9").contains($0) }) ?? 0) << 10
        }
        return 0
    }

    private static func text(_ path: String) -> String {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY),
            let bytes = try? file.readAll(limit: 64 << 10)
        else { return "" }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// What one process has read and written (proc(5), `/proc/PID/io`).
///
/// Opened while the process lives: of one that ended the file belongs to root, but who has it open may
/// read it until the process is waited for.
final class TransferMeter {
    private let descriptor: Int32

    init(_ pid: pid_t) { descriptor = open("/proc/\(pid)/io", O_RDONLY | O_CLOEXEC) }
    deinit { if descriptor >= 0 { close(descriptor) } }

    func read() -> ResourceUsage {
        var usage = ResourceUsage()
        var buffer = [UInt8](repeating: 0, count: 512)
        let n = pread(descriptor, &buffer, buffer.count, 0)
        for line in String(decoding: buffer[..<max(0, n)], as: UTF8.self).split(separator: "\n") {
            if line.hasPrefix("rchar: ") { usage.readBytes = UInt64(line.dropFirst(7)) ?? 0 }
            if line.hasPrefix("wchar: ") { usage.writtenBytes = UInt64(line.dropFirst(7)) ?? 0 }
        }
        return usage
    }
}

extension ProcessTree {
    /// Collects every child that has ended. False when this process has no children at all.
    package static func reap(
        transfers: (pid_t) -> ResourceUsage = { _ in ResourceUsage() }, _ body: (pid_t, Int32, ResourceUsage) -> Void
    ) -> Bool {
        while let ended = UsageMeter.collect(-1, transfers: transfers) { body(ended.pid, ended.status, ended.usage) }
        return errno == 0
    }
}
