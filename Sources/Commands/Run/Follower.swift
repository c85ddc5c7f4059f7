import Diagnostics
import Glibc
import LinuxSystem
import NodeAgent
import Processes
import ResourceManagers

/// `trireme run` in a process that the batch system started beside the leader's, with the same words. Where
/// the system has no way to start an agent, this process becomes it.
enum Follower {
    private static let firstPauseMicroseconds: UInt32 = 100_000
    private static let longestPauseMicroseconds: UInt32 = 1_000_000

    /// Returns when the job does not need this process; else becomes its node's agent. How long the leader
    /// may take to come is the batch system's business: its end ends us too.
    ///
    /// - Throws: `agents-not-started` when the agent's program cannot be started.
    static func serve(_ surroundings: Surroundings) throws(Diagnostic) -> Int32 {
        guard let post = Detection.post(in: surroundings) else { return 0 }
        var pause = firstPauseMicroseconds
        while true {
            if let (secret, summons) = surroundings.output(post.look).flatMap({ Summons.parse($0) }) {
                _ = surroundings.output(post.take)
                guard let index = summons.index else { return 0 }
                throw become(index, summons.addresses, secret)
            }
            usleep(pause)
            pause = min(longestPauseMicroseconds, pause + pause / 4)
        }
    }

    /// Returns only when it fails.
    private static func become(_ index: Int, _ addresses: String, _ secret: String) -> Diagnostic {
        var failure: SyscallError
        do throws(SyscallError) {
            let program = try SiteProgram.path("trireme-agent")
            setenv(AgentProgram.secretVariable, secret, 1)
            let words = [program, "--serve", "-", "\(index)", addresses]
            var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
            execv(program, &arguments)
            failure = SyscallError("execve", program)
        } catch { failure = error }
        return Diagnostic(
            DiagnosticCode("agents-not-started"), HostName.current, reasons: [failure.sentence])
    }

    /// Tells the other processes that this one ends without a job.
    static func dismiss(_ surroundings: Surroundings) {
        let commands = Detection.dismissal(in: surroundings)
        if commands.isEmpty { return }
        // No job, no secret: the line is there for the form.
        try? FanOut(commands, secret: "-", secretFile: "").awaitEnd(milliseconds: 10_000)
    }
}
