import CLinux
import Glibc
import LinuxSystem
import Processes

/// The agent's parent: it does nothing but outlive the worker and then kill what is left.
///
/// The worker can be killed, can crash, can be stopped; its descendants then
/// fall to this process (prctl(2), PR_SET_CHILD_SUBREAPER) wherever they were in
/// the tree, and none survives. If this process is killed instead, the worker
/// dies by its parent-death signal, and so, one by one, do the processes it started.
///
/// It also removes the container's control group, which only a process outside of it can.
enum Guard {
    /// Where the worker writes `ControlGroup.note`; -1 in any other process.
    nonisolated(unsafe) private static var notes: Int32 = -1

    /// Where the worker writes the paths of directories; -1 in any other process.
    nonisolated(unsafe) private static var directories: Int32 = -1

    /// In the worker: `path` is removed when it has ended.
    static func keep(directory path: String) { RemoteShell.writeAll(directories, Array(path.utf8) + [0]) }

    /// In the worker, before it enters the group.
    static func keep(_ group: ControlGroup) {
        group.note.withUnsafeBytes { _ = write(notes, $0.baseAddress, $0.count) }
    }

    /// Forks; returns in the worker only.
    static func stand() throws(SyscallError) {
        _ = linux_prctl(ProcessControl.setChildSubreaper, 1, 0, 0, 0)
        let parent = getpid()
        var ends: [Int32] = [-1, -1]
        var paths: [Int32] = [-1, -1]
        try checked("pipe2") { linux_pipe2(&ends, O_CLOEXEC) }
        try checked("pipe2") { linux_pipe2(&paths, O_CLOEXEC) }
        let worker = try checked("fork") { linux_fork() }
        if worker == 0 {
            _ = linux_prctl(ProcessControl.setParentDeathSignal, UInt(SIGKILL), 0, 0, 0)
            if getppid() != parent { _exit(1) }
            close(ends[0])
            close(paths[0])
            notes = ends[1]
            directories = paths[1]
            return
        }
        close(ends[1])
        close(paths[1])
        watch(worker, ends[0], directories: paths[0])
    }

    private static func watch(_ worker: pid_t, _ notes: Int32, directories: Int32) -> Never {
        // The batch system signals the whole step, worker included, so nothing is passed on.
        for number in [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2] { signal(number, SIG_IGN) }
        var outcome: Int32 = 1
        while true {
            var status: Int32 = 0
            let pid = waitpid(-1, &status, 0)
            if pid == worker {
                outcome = linux_status_exited(status) != 0 ? linux_status_exit_code(status) : 1
                break
            }
            if pid < 0, errno != EINTR { break }
        }
        killRemaining(below: getpid(), milliseconds: 10_000)
        removeControlGroup(notes)
        for path in noted(directories).split(separator: 0) { RankMemory.remove(String(decoding: path, as: UTF8.self)) }
        exit(outcome)
    }

    private static func removeControlGroup(_ notes: Int32) {
        let note = noted(notes)
        if !note.isEmpty { ControlGroup(keeping: note)?.remove() }
    }

    private static func noted(_ notes: Int32) -> [UInt8] {
        // A descendant that could not be killed may still hold the other end.
        _ = linux_fcntl_int(notes, F_SETFL, Int(O_NONBLOCK))
        var note = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(notes, &note, note.count)
        return Array(note[..<max(0, count)])
    }

    /// Kills every descendant of `root` (this process) until none is left or time is over; returns how many are.
    @discardableResult
    static func killRemaining(below root: pid_t, milliseconds: Int) -> Int {
        let deadline = MonotonicTime.now() + milliseconds
        while true {
            if !ProcessTree.reap({ _, _, _ in }) { return 0 }
            let left = ProcessTree.signal(SIGKILL, below: root)
            if MonotonicTime.now() >= deadline { return left }
            usleep(2000)
        }
    }
}
