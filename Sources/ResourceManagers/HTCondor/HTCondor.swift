import Diagnostics
import JobModel

/// HTCondor. Every job has its description in the file _CONDOR_JOB_AD, a line `NAME = VALUE` per attribute
/// ("Services for Running Jobs" in the user's manual). In the parallel universe the system itself starts
/// the user's command on every machine of the job and numbers it in _CONDOR_PROCNO: there is no command that
/// starts another one there. So number 0 leads, and each other process waits until the leader has laid a
/// `Summons` for it into the job's spool directory on the access point and becomes that node's agent.
/// `condor_chirp` carries it: through the job's own starters and shadow, which know the job's user.
package enum HTCondor: ResourceManager {
    package static let name = "condor"

    package static func allocation(in surroundings: Surroundings) throws(Diagnostic) -> Allocation? {
        guard let path = surroundings.environment("_CONDOR_JOB_AD"), let text = surroundings.file(path) else {
            return nil
        }
        let description = JobDescription(text)
        guard let cluster = description.number("ClusterId") else { return nil }
        let id = "\(cluster).\(description.number("ProcId") ?? 0)"
        let hosts = hosts(of: description, surroundings)
        guard !hosts.isEmpty else {
            throw .unreadable(
                "_CONDOR_JOB_AD=\(path)", "it names no machine of the job", remedy: "condor_q -long \(id)")
        }
        let perSlot = max(1, description.number("RequestCpus") ?? 1)
        guard perSlot <= 1_000_000 else {
            throw .unreadable(
                "_CONDOR_JOB_AD=\(path)", "RequestCpus = \(perSlot)", remedy: "condor_q -long \(id)")
        }
        var counts = HostCounts()
        for host in hosts { counts.add(host, slots: perSlot) }
        return Allocation(system: name, jobID: id, nodes: counts.nodes, endTime: endTime(description))
    }

    /// The job's machines in the order of their numbers, one of several places as often as it has places.
    private static func hosts(of description: JobDescription, _ surroundings: Surroundings) -> [String] {
        // The scheduler writes AllRemoteHosts when the job is placed; RemoteHost is what other universes have.
        let list =
            description.string("AllRemoteHosts")
            ?? (surroundings.environment("_CONDOR_PROCNO") == nil ? nil : chirp("AllRemoteHosts", surroundings))
            ?? description.string("RemoteHost") ?? surroundings.environment("_CONDOR_SLOT_NAME")
        return (list ?? "").split(separator: ",").map { slot in
            // slot1_2@n1.cluster
            let name = slot.split(separator: "@").last ?? slot
            return String(name.filter { !$0.isWhitespace })
        }
    }

    private static func chirp(_ attribute: String, _ surroundings: Surroundings) -> String? {
        guard let program = chirpProgram(surroundings),
            let answer = surroundings.output([program, "get_job_attr", attribute])
        else { return nil }
        let text = answer.filter { $0 != "\"" && !$0.isWhitespace }
        return text == "UNDEFINED" ? nil : text
    }

    /// `allowed_job_duration` and `allowed_execute_duration` of the submit description, in seconds.
    private static func endTime(_ description: JobDescription) -> Int? {
        guard let start = description.number("JobCurrentStartDate") else { return nil }
        let limits = ["AllowedJobDuration", "AllowedExecuteDuration"].compactMap { description.number($0) }
        return limits.min().flatMap { $0 < Int(Int32.max) ? start + $0 : nil }
    }

    package static func request(nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings) -> String? {
        "condor_submit FILE, with universe = parallel, machine_count = \(nodes ?? tasks ?? 1) and '\(command)' "
            + "in its executable"
    }

    package static func advice(for allocation: Allocation) -> SystemAdvice {
        SystemAdvice(
            whenUnreached: [
                "universe = parallel: every machine's script must come to the same 'trireme run' line",
                "condor_q -long \(allocation.jobID) shows WantIOProxy, which condor_chirp needs",
            ],
            whenLost: [
                "condor_q -long \(allocation.jobID) and condor_status show whether the node or the job was taken away"
            ])
    }

    // MARK: Leader

    /// A word for every process but ours: to be the agent of its machine, or that it is not needed.
    package static func fanOut(_ agent: AgentStart, in surroundings: Surroundings) -> [FanOutCommand] {
        var commands: [FanOutCommand] = []
        var summoned: Set<Int> = []
        if let index = agent.nodes.firstIndex(where: agent.isHere) {
            summoned.insert(index)
            commands.append(
                FanOutCommand(words: agent.words(for: index), node: agent.nodes[index], secret: .environment))
        }
        for (number, index) in places(agent.nodes, surroundings) {
            // One agent per machine, whatever number of its places the job has.
            let isNeeded = index.map { summoned.insert($0).inserted } ?? false
            commands.append(
                summoning(
                    number, Summons(index: isNeeded ? index : nil, addresses: agent.addresses),
                    node: isNeeded ? index.map { agent.nodes[$0] } : nil, surroundings))
        }
        return commands
    }

    /// Lets the other processes go on when the job ended before it needed them.
    package static func dismissal(in surroundings: Surroundings) -> [FanOutCommand] {
        places([], surroundings).map {
            summoning($0.number, Summons(index: nil, addresses: ""), node: nil, surroundings)
        }
    }

    /// The numbers of the other processes, and which of `nodes` each stands on.
    private static func places(_ nodes: [String], _ surroundings: Surroundings) -> [(number: Int, index: Int?)] {
        guard surroundings.environment("_CONDOR_PROCNO") == "0",
            let text = surroundings.environment("_CONDOR_JOB_AD").flatMap({ surroundings.file($0) })
        else { return [] }
        let hosts = hosts(of: JobDescription(text), surroundings)
        return hosts.enumerated().dropFirst().map { ($0.offset, nodes.firstIndex(of: $0.element)) }
    }

    private static func summoning(
        _ number: Int, _ summons: Summons, node: String?, _ surroundings: Surroundings
    ) -> FanOutCommand {
        let program = chirpProgram(surroundings) ?? "condor_chirp"
        // c, w, t: created, written, what was there before gone. 0600: the secret is in it.
        let words = [program, "put", "-mode", "cwt", "-perm", "0600", "-", place(number, surroundings)]
        return FanOutCommand(words: words, node: node, secret: .input, note: summons.note)
    }

    private static func place(_ number: Int, _ surroundings: Surroundings) -> String {
        // A file per run: a word not yet taken is not the next run's.
        let directory = surroundings.environment("_CONDOR_REMOTE_SPOOL_DIR") ?? "."
        return "\(directory)/trireme.\(number).\(surroundings.runNumber())"
    }

    /// It is in no PATH: condor_config_val(1) tells where.
    private static func chirpProgram(_ surroundings: Surroundings) -> String? {
        let directory = surroundings.output(["condor_config_val", "LIBEXEC"])?.filter { !$0.isWhitespace }
        return directory.flatMap { $0.hasPrefix("/") ? $0 + "/condor_chirp" : nil }
    }

    // MARK: Follower

    package static func isFollower(_ surroundings: Surroundings) -> Bool {
        guard surroundings.environment("_CONDOR_JOB_AD") != nil,
            let number = surroundings.environment("_CONDOR_PROCNO").flatMap({ Int($0) })
        else { return false }
        return number > 0
    }

    package static func post(in surroundings: Surroundings) -> FollowerPost? {
        guard isFollower(surroundings), let program = chirpProgram(surroundings),
            let number = surroundings.environment("_CONDOR_PROCNO").flatMap({ Int($0) })
        else { return nil }
        let place = place(number, surroundings)
        return FollowerPost(look: [program, "fetch", place, "-"], take: [program, "remove", place])
    }
}

/// A ClassAd in its plain form: `NAME = VALUE` lines, names in any case, strings in double quotes.
struct JobDescription {
    private var values: [String: Substring] = [:]

    init(_ text: String) {
        for line in text.split(whereSeparator: \.isNewline) {
            guard let sign = line.firstIndex(of: "=") else { continue }
            let name = line[..<sign].filter { !$0.isWhitespace }.lowercased()
            values[name] = line[line.index(after: sign)...].drop { $0.isWhitespace }
        }
    }

    /// Nil for what is not there and for expressions.
    func number(_ name: String) -> Int? {
        values[name.lowercased()].flatMap { Int($0.filter { !$0.isWhitespace }) }
    }

    func string(_ name: String) -> String? {
        guard let value = values[name.lowercased()], value.hasPrefix("\""),
            let end = value.dropFirst().firstIndex(of: "\"")
        else { return nil }
        let text = value[value.index(after: value.startIndex)..<end]
        return text.isEmpty ? nil : String(text)
    }
}
