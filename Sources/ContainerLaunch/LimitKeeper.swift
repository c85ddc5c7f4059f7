import CLinux
import Glibc
import LinuxSystem

/// The process that outlives a container with a control group of its own, and removes the group.
///
/// It waits as a transparent parent: signals sent to it go on to the container, a stop stops it too,
/// and it ends with the container's status. A container with a pid namespace has a keeper anyway (Init),
/// which then keeps the group, too.
enum LimitKeeper {
    /// Forks; returns in the process that becomes the container, inside the group.
    static func stand(_ group: ControlGroup, image: CString) throws(LaunchFailure) {
        var before: UInt64 = 0
        _ = linux_sigprocmask(SIG_BLOCK, UInt64.max, &before)
        let kept = try KeptGroup(group, image: image)
        let container = linux_fork()
        if container < 0 { throw KeptGroup.failed(group, "fork") }
        if container == 0 {
            kept.letGo()
            _ = linux_sigprocmask(SIG_SETMASK, before, nil)
            return try kept.enter()
        }
        let status = wait(for: container)
        kept.end(status)
        _exit(linux_status_exited(status) != 0 ? linux_status_exit_code(status) : 128 + linux_status_signal(status))
    }

    private static func wait(for container: pid_t) -> Int32 {
        let signals = linux_signalfd(UInt64.max, O_CLOEXEC)
        // struct signalfd_siginfo, signalfd(2): the number at 0, the code at 8.
        let record = UnsafeMutableRawBufferPointer.allocate(byteCount: 128, alignment: 8)
        while true {
            var status: Int32 = 0
            while waitpid(container, &status, WNOHANG | WUNTRACED) == container {
                if linux_status_stopped(status) == 0 { return status }
                // The shell that started us must see a stopped job.
                raise(SIGSTOP)
            }
            guard read(signals, record.baseAddress, 128) == 128 else { continue }
            let number = record.loadUnaligned(as: Int32.self)
            let code = record.loadUnaligned(fromByteOffset: 8, as: Int32.self)
            // The terminal's signals (code above 0) reach the whole foreground group by themselves.
            if number != SIGCHLD, code <= 0 || number == SIGCONT { kill(container, number) }
        }
    }
}

/// A control group in the hands of the process that outlives its container.
///
/// A second process only waits for the keeper's end: it makes the group go when the keeper was killed. Only
/// both killed at once leave the (then ownerless) directory to the next container started beside it.
struct KeptGroup {
    private let group: ControlGroup
    private let image: CString
    private let second: pid_t
    /// The keeper's end of a pipe, which the kernel closes when it ends.
    let hold: Int32

    /// Forks the second process. Call it with every signal blocked that could end the caller.
    init(_ group: ControlGroup, image: CString) throws(LaunchFailure) {
        let ends = UnsafeMutablePointer<Int32>.allocate(capacity: 2)
        guard linux_pipe2(ends, O_CLOEXEC) == 0 else { throw Self.failed(group, "pipe2") }
        let (life, hold) = (ends[0], ends[1])
        second = linux_fork()
        if second < 0 { throw Self.failed(group, "fork") }
        if second == 0 { Self.waitForEnd(group, life) }
        close(life)
        (self.group, self.image, self.hold) = (group, image, hold)
    }

    /// In the container's process: what it starts from now on is in the group.
    func enter() throws(LaunchFailure) {
        do throws(SyscallError) { try group.enter() } catch {
            throw LaunchFailure(
                .applyLimits, "cgroup.procs", detail: c("the group cannot be entered"), errno: error.errno)
        }
    }

    /// In every process but the keeper.
    func letGo() { close(hold) }

    /// In the keeper, once the container has ended with the wait status `status`.
    func end(_ status: Int32) {
        report(status)
        group.remove()
        close(hold)
        var ignored: Int32 = 0
        waitpid(second, &ignored, 0)
    }

    static func failed(_ group: ControlGroup, _ call: StaticString) -> LaunchFailure {
        let code = errno
        group.remove()
        return LaunchFailure(.applyLimits, call, detail: c("no process to keep the limits"), errno: code)
    }

    /// The second process: away from the terminal and every descriptor but the pipe.
    private static func waitForEnd(_ group: ControlGroup, _ life: Int32) -> Never {
        setsid()
        _ = linux_sigprocmask(SIG_BLOCK, UInt64.max, nil)
        dup2(life, 0)
        _ = linux_close_range(1, UInt32.max, 0)
        chdir(c("/"))
        var byte: UInt8 = 0
        while read(0, &byte, 1) < 0, errno == EINTR {}
        group.remove()
        _exit(0)
    }

    private func report(_ status: Int32) {
        let kills = group.outOfMemoryKills()
        guard kills > 0, let limit = group.memoryLimit else { return }
        let isWhole = linux_status_signaled(status) != 0 && linux_status_signal(status) == SIGKILL
        LaunchDiagnosis.say(
            "trireme: \(String(cString: image)): "
                + memoryLimitSentence(limit, kills: kills, isWhole: isWhole)
                + " [memory-limit]\n  hint: give it more with --memory, or start fewer processes in it\n")
    }
}

/// `killed by the memory limit 2 GiB (oom_kill 1)`: what the kernel's count says.
package func memoryLimitSentence(_ limit: UInt64, kills: UInt64, isWhole: Bool) -> String {
    let what =
        isWhole ? "killed" : kills == 1 ? "one process inside was killed" : "\(kills) processes inside were killed"
    return "\(what) by the memory limit \(byteText(limit)) (oom_kill \(kills))"
}

/// `2 GiB`, `1536 MiB`, `6291457 bytes`: in the largest unit that is exact.
package func byteText(_ bytes: UInt64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
    where bytes > 0 && bytes & (1 << UInt64(shift) - 1) == 0 {
        return "\(bytes >> UInt64(shift)) \(unit)"
    }
    return "\(bytes) bytes"
}
