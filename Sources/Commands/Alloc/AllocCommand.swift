import ArgumentParser
import Diagnostics
import Glibc
import JobModel
import ResourceManagers
import VirtualCluster

/// `trireme alloc …`: what the batch system gave us.
struct AllocCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "alloc", abstract: "The allocation this process stands in.", subcommands: [AllocShow.self])
}

/// `trireme alloc show`
struct AllocShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show the batch system, job id, nodes and slots, and the time left.",
        discussion: "Exits with 1 outside any allocation.")

    @Option(help: "table or json.") var format: ResultFormat = .table
    @Option(name: .customLong("rm"), help: "Ask only this batch system.") var resourceManager: String = "auto"
    @Option(help: "Read a host file instead.") var hostfile: String?

    func run() throws {
        var options = ParallelOptions()
        options.resourceManager = resourceManager
        options.hostfile = hostfile
        guard var allocation = try options.allocation(in: .current) else {
            if format == .json { Output.standard.line("null") }
            Output.standard.line("this process stands in no batch system's allocation", to: .progress)
            throw ArgumentParser.ExitCode(1)
        }
        allocation.endTime = Detection.endTime(of: allocation, in: .current)
        switch format {
        case .table: show(allocation)
        case .json: Output.standard.line(json(allocation).encoded)
        }
    }

    private func secondsLeft(_ allocation: Allocation) -> Int? { allocation.endTime.map { max(0, $0 - time(nil)) } }

    private func show(_ allocation: Allocation) {
        var facts = ["system  \(allocation.system)", "job     \(allocation.jobID)"]
        if let task = allocation.arrayTask { facts.append("task    \(task) of an array") }
        if let left = secondsLeft(allocation) { facts.append("left    \(Self.duration(left))") }
        facts.append("total   \(allocation.slots) slots on \(allocation.nodes.count) nodes")
        for fact in facts { Output.standard.line(fact) }
        Output.standard.line("")
        Output.standard.table([["NODE", "SLOTS"]] + allocation.nodes.map { [$0.name, "\($0.slots)"] })
    }

    /// `1-02:03:04`, as squeue writes it.
    static func duration(_ seconds: Int) -> String {
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let clock = "\(two(seconds % 86400 / 3600)):\(two(seconds % 3600 / 60)):\(two(seconds % 60))"
        return seconds >= 86400 ? "\(seconds / 86400)-\(clock)" : clock
    }

    private func json(_ allocation: Allocation) -> JSONText {
        let nodes = allocation.nodes.map {
            JSONText.record(["name": .string($0.name), "slots": .number(Int64($0.slots))])
        }
        return JSONText.record([
            "system": .string(allocation.system), "job_id": .string(allocation.jobID),
            // Empty outside arrays; -1 when the system does not say.
            "array_task": .string(allocation.arrayTask ?? ""),
            "seconds_left": .number(Int64(secondsLeft(allocation) ?? -1)),
            "slots": .number(Int64(allocation.slots)), "nodes": .array(nodes),
        ])
    }
}
