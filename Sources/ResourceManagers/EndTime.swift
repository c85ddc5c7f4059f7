import JobModel
import Quantities

/// When an allocation ends, for the systems that put it in no variable: what their commands say.
extension Surroundings {
    func endTime(secondsLeft: Int?) -> Int? {
        guard let secondsLeft, (0..<Int(Int32.max)).contains(secondsLeft) else { return nil }
        return now().map { $0 + secondsLeft }
    }

    /// The value of a line `NAME = VALUE` or `NAME: VALUE`.
    static func value(of name: String, in text: String, separator: Character) -> String? {
        for line in text.split(whereSeparator: \.isNewline) {
            guard let sign = line.firstIndex(of: separator) else { continue }
            if line[..<sign].filter({ !$0.isWhitespace }) == name {
                return String(line[line.index(after: sign)...].drop { $0.isWhitespace })
            }
        }
        return nil
    }
}

extension Slurm {
    /// Before 23.02 no variable says it; `squeue` does (squeue(1), %L), as `UNLIMITED` where there is no limit.
    package static func endTime(of allocation: Allocation, in surroundings: Surroundings) -> Int? {
        let words = ["squeue", "--noheader", "--jobs=\(allocation.jobID)", "--format=%L"]
        guard let said = surroundings.output(words)?.split(whereSeparator: \.isWhitespace).first else { return nil }
        return surroundings.endTime(secondsLeft: TypedDuration.clockSeconds(String(said)))
    }
}

extension PBS {
    /// Torque counts down itself (`Walltime.Remaining`, in seconds). OpenPBS says when the job began, in the
    /// words of ctime(3) and this machine's time zone, and for how long it may run (pbs_job_attributes(7B)).
    package static func endTime(of allocation: Allocation, in surroundings: Surroundings) -> Int? {
        guard let text = surroundings.output(["qstat", "-f", allocation.jobID]) else { return nil }
        func value(_ name: String) -> String? { Surroundings.value(of: name, in: text, separator: "=") }
        if let left = value("Walltime.Remaining").flatMap({ Int($0) }) {
            return surroundings.endTime(secondsLeft: left)
        }
        guard let limit = value("Resource_List.walltime").flatMap(TypedDuration.clockSeconds), let began = value("stime"),
            let start = surroundings.output(["date", "--date=\(began)", "+%s"])?.filter({ !$0.isWhitespace })
        else { return nil }
        return Int(start).map { $0 + limit }
    }
}

extension LSF {
    /// `0:29 L`: hours and minutes until the run limit. With another letter it is an estimate, which ends
    /// nothing (bjobs(1), -WL).
    package static func endTime(of allocation: Allocation, in surroundings: Surroundings) -> Int? {
        let job = allocation.arrayTask.map { "\(allocation.jobID)[\($0)]" } ?? allocation.jobID
        guard let said = surroundings.output(["bjobs", "-noheader", "-o", "time_left", job]) else { return nil }
        let words = said.split(whereSeparator: \.isWhitespace)
        guard words.count == 2, words[1] == "L" else { return nil }
        return surroundings.endTime(secondsLeft: TypedDuration.clockSeconds(words[0] + ":0"))
    }
}

extension Flux {
    /// Whole seconds; the largest number there is without a limit (flux-job(1), timeleft).
    package static func endTime(of allocation: Allocation, in surroundings: Surroundings) -> Int? {
        let said = surroundings.output(["flux", "job", "timeleft"])?.filter { !$0.isWhitespace }
        return surroundings.endTime(secondsLeft: said.flatMap { Int($0) })
    }
}

extension GridEngine {
    /// When the job began and its `h_rt`, in the words of `qstat -r` (qstat(1)): a line per job, `ID PRIORITY NAME
    /// USER STATE DATE TIME QUEUE SLOTS [TASK]`, and lines about it. The time is this machine's.
    package static func endTime(of allocation: Allocation, in surroundings: Surroundings) -> Int? {
        guard let text = surroundings.output(["qstat", "-r", "-s", "r"]) else { return nil }
        var began: String?
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
            if words.count >= 9, Double(words[1]) != nil, Int(words[0]) != nil {
                let isOurs =
                    words[0] == allocation.jobID && (allocation.arrayTask == nil || allocation.arrayTask == words.last)
                began = isOurs ? "\(words[5]) \(words[6])" : nil
            } else if let began, let word = words.first(where: { $0.hasPrefix("h_rt=") }) {
                let start = surroundings.output(["date", "--date=\(began)", "+%s"])?.filter { !$0.isWhitespace }
                guard let start = start.flatMap({ Int($0) }),
                    let limit = TypedDuration.clockSeconds(String(word.dropFirst(5)))
                else { return nil }
                return start + limit
            }
        }
        return nil
    }
}
