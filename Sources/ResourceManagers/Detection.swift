import Diagnostics
import JobModel

/// Which batch system's allocation this process stands in.
package enum Detection {
    /// In the order in which they are asked. Flux comes first: its instances are started inside other
    /// systems' jobs, whose variables are then still there. So are HTCondor's, whose job description is a file
    /// that only its own job has. A job of Grid Engine, PBS or LSF that was
    /// started from a Slurm allocation (a site in transition) likewise has the newer variables of its own.
    package static let all: [any ResourceManager.Type] = [
        Flux.self, HTCondor.self, Slurm.self, GridEngine.self, PBS.self, LSF.self,
    ]

    package static func manager(named name: String) -> (any ResourceManager.Type)? {
        let aliases = [
            "torque": "pbs", "openpbs": "pbs", "gridengine": "sge", "uge": "sge", "openlava": "lsf",
            "htcondor": "condor",
        ]
        return (all + [PlainHosts.self]).first { $0.name == aliases[name] ?? name }
    }

    /// Nil outside any allocation.
    ///
    /// - Parameter name: asks only this one; nil asks all.
    /// - Throws: a `Diagnostic` when the variables of an allocation contradict each other.
    package static func allocation(named name: String? = nil, in surroundings: Surroundings) throws(Diagnostic)
        -> Allocation?
    {
        for manager in name.map({ manager(named: $0).map { [$0] } ?? [] }) ?? all {
            if let allocation = try manager.allocation(in: surroundings) { return allocation }
        }
        return nil
    }

    /// When the allocation ends, in seconds since 1970; nil where it has no limit and where nobody says. May ask a
    /// command of the batch system, which takes its time: not on the way to a job's start.
    package static func endTime(of allocation: Allocation, in surroundings: Surroundings) -> Int? {
        allocation.endTime ?? manager(named: allocation.system)?.endTime(of: allocation, in: surroundings)
    }

    /// Whether commands of batch systems may see the variable `name` (see `ResourceManager.passesToCommands`).
    package static func passesToCommands(_ name: String) -> Bool { all.allSatisfy { $0.passesToCommands(name) } }

    /// Whether a batch system started this process or one above it, told by its variables alone.
    package static func isInsideJob(_ surroundings: Surroundings) -> Bool {
        if surroundings.environment("JOB_ID") != nil, surroundings.environment("SGE_ROOT") != nil { return true }
        let variables = ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "_CONDOR_JOB_AD", "FLUX_JOB_ID", "PE_HOSTFILE"]
        return variables.contains { surroundings.environment($0) != nil }
    }

    /// What to type for an allocation, by the systems whose programs `isInstalled` finds on this machine.
    package static func requests(
        nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings, isInstalled: (String) -> Bool
    ) -> [String] {
        all.compactMap { manager in
            guard let line = manager.request(nodes: nodes, tasks: tasks, command: command, in: surroundings),
                let program = line.split(separator: " ").first
            else { return nil }
            return isInstalled(String(program)) ? line : nil
        }
    }

    /// True in the processes that should leave the job to another one (see `ResourceManager.isFollower`).
    package static func isFollower(_ surroundings: Surroundings) -> Bool {
        all.contains { $0.isFollower(surroundings) }
    }

    /// Where this process, a follower, finds its summons.
    package static func post(in surroundings: Surroundings) -> FollowerPost? {
        all.lazy.compactMap { $0.post(in: surroundings) }.first
    }

    package static func dismissal(in surroundings: Surroundings) -> [FanOutCommand] {
        all.flatMap { $0.dismissal(in: surroundings) }
    }
}

extension Diagnostic {
    /// `allocation-unreadable`, with the variable or file that says it.
    static func unreadable(_ subject: String, _ reason: String, remedy: String) -> Diagnostic {
        Diagnostic(DiagnosticCode("allocation-unreadable"), subject, reasons: [reason], remedies: [remedy])
    }
}

/// Counts how often each name comes, keeping the order of first sight: machine files name a host once per slot.
struct HostCounts {
    private(set) var nodes: [Allocation.Node] = []
    private var places: [String: Int] = [:]

    /// - Parameter slots: 0 names the host without giving it a place yet.
    mutating func add(_ name: String, slots: Int = 1) {
        if let place = places[name] {
            nodes[place].slots += slots
        } else {
            places[name] = nodes.count
            nodes.append(Allocation.Node(name: name, slots: slots))
        }
    }
}
