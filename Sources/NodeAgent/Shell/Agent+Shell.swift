import Glibc
import JobModel
import JobWire

extension Agent {
    /// Puts `ssh` into the container, first in the PATH of all that runs there, and tells the leader by what other
    /// names the node may be asked for.
    func offerShell(_ job: JobAssignment, _ names: [String]) throws(AgentFailure) {
        // Without the node's container it would be the host's ssh that is covered.
        guard job.offersShell, job.hasNodeContainer else { return }
        try ShellPlace.make(key: job.key)
        environment = ShellPlace.environment(environment)
        leader.send(.names(names))
    }

    /// Who asked for a process is gone: it gets TERM, the end of its input, and nobody to write to.
    func hangUp(_ channel: UInt32) {
        guard let process = processes[channel] else { return }
        process.output = []
        guard process.status == nil else { return }
        process.input.add([])
        _ = process.input.flush()
        kill(-process.pid, SIGTERM)
    }
}
