import CLinux
import Diagnostics
import Glibc
import JobModel
import LinuxSystem
import Orchestrator
import ResourceManagers

/// The process a shell waits for, when a job is started at a terminal: the job's leader is its child, so that it can
/// end and give the shell its prompt back while the job goes on. A leader that forked only when it is asked to would
/// leave its own children, the commands of the batch system, behind.
struct ForegroundProcess {
    private let pid: pid_t
    /// What would end the job's allocation when this process ends: `salloc trireme run …`.
    let holder: String?

    private static let holders: Set<String> = ["salloc", "slurmstepd", "qrsh_starter", "sge_shepherd", "flux-shell"]

    enum Side {
        case leader(ForegroundProcess?)
        case shell(status: Int32)
    }

    /// Splits this process where there is a terminal: returns in the leader at once, and in the process the shell
    /// waits for at the leader's end, or when it went into a session of its own.
    static func split() -> Side {
        guard isatty(0) == 1 else { return .leader(nil) }
        let own = ForegroundProcess(
            pid: getpid(), holder: name(of: getppid()).flatMap { holders.contains($0) ? $0 : nil })
        let child = linux_clone(0, nil)
        if child == 0 {
            // As if we were killed: what the job started ends with it.
            _ = linux_prctl(ProcessControl.setParentDeathSignal, UInt(SIGTERM), 0, 0, 0)
            if getppid() != own.pid { _exit(ExitCode.signal(SIGTERM)) }
            return .leader(own)
        }
        // Without room for one more process the job has one less; that is no reason not to start it.
        guard child > 0 else { return .leader(nil) }
        // The leader says what Ctrl-Z means.
        _ = linux_sigprocmask(SIG_BLOCK, 1 << UInt64(SIGTSTP - 1), nil)
        guard let signals = try? ForwardedSignals() else { return .shell(status: ExitCode.ownFailure) }
        let session = getsid(0)
        let isDetached = {
            if hasStopped(child) { kill(own.pid, SIGSTOP) }
            return getsid(child) != session
        }
        guard let status = signals.wait(for: child, unless: isDetached) else { return .shell(status: 0) }
        return .shell(
            status: linux_status_exited(status) != 0
                ? linux_status_exit_code(status) : ExitCode.signal(linux_status_signal(status)))
    }

    private static func name(of pid: pid_t) -> String? {
        Surroundings.current.file("/proc/\(pid)/comm").map { String($0.prefix { $0 != "\n" }) }
    }

    /// What Ctrl-Z does to other programs. The process the shell waits for sees it and stops after us, so that
    /// whoever continues the group continues both.
    func stop() { kill(getpid(), SIGSTOP) }

    private static func hasStopped(_ child: pid_t) -> Bool {
        var information = siginfo_t()
        return waitid(P_PID, id_t(child), &information, WSTOPPED | WNOHANG) == 0
            && information._sifields._sigchld.si_pid == child
    }

    /// In the leader: from now on it belongs to no terminal, and nobody waits for it.
    func leave() {
        _ = linux_prctl(ProcessControl.setParentDeathSignal, 0, 0, 0, 0)
        setsid()
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        for descriptor in Int32(0)...2 where isatty(descriptor) == 1 { dup2(null, descriptor) }
        if null > 2 { close(null) }
        // Any signal makes it look at our session; this is the one it passes on to nobody.
        kill(pid, SIGCHLD)
    }
}

extension JobLeader {
    /// Ctrl-Z. Right after Ctrl-C it means: let the job run, give me the shell.
    func stopOrDetach() {
        guard let foreground else { return }
        guard machine.mayDetach(now: MonotonicTime.now()) else { return foreground.stop() }
        if let holder = foreground.holder {
            return note("not detached: \(holder) would give the allocation back as soon as this command ends")
        }
        note("detached: 'trireme job attach \(job.id)' shows what goes on, 'trireme job cancel \(job.id)' ends it")
        streams.drain(milliseconds: 1000)
        streams.leaveInput()
        foreground.leave()
        self.foreground = nil
    }
}
