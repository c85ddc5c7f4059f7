import Diagnostics
import JobModel

/// What an adapter may look at: pure values in tests, this process in `Surroundings.current`.
package struct Surroundings {
    /// A variable's value; set to nothing is as good as not set.
    package var environment: (String) -> String?
    /// A small file's text, nil when it cannot be read.
    package var file: (String) -> String?
    /// What a command prints, nil when it fails. Only for systems that put nothing in the environment.
    package var output: ([String]) -> String?
    /// Seconds since 1970; nil where nothing may depend on it.
    package var now: () -> Int?
    /// How many parallel `trireme run` the script around us has come to, this one included; asked only where
    /// the system runs that script on every node.
    package var runNumber: () -> Int

    package init(
        environment: @escaping (String) -> String?, file: @escaping (String) -> String? = { _ in nil },
        output: @escaping ([String]) -> String? = { _ in nil }, now: @escaping () -> Int? = { nil },
        runNumber: @escaping () -> Int = { 1 }
    ) {
        self.runNumber = runNumber
        self.now = now
        self.environment = { name in environment(name).flatMap { $0.isEmpty ? nil : $0 } }
        self.file = file
        self.output = output
    }
}

/// A batch system: how it describes the allocation a process stands in, and how it starts one process
/// on each of its nodes. Adapters are pure; whoever calls them runs the commands.
package protocol ResourceManager: Sendable {
    /// Its spelling after `--rm`.
    static var name: String { get }

    /// Nil when this process does not stand in one of its allocations.
    ///
    /// - Throws: `allocation-unreadable` when what it says contradicts itself.
    static func allocation(in surroundings: Surroundings) throws(Diagnostic) -> Allocation?

    /// The commands which together start `agent` once on every node of it.
    static func fanOut(_ agent: AgentStart, in surroundings: Surroundings) -> [FanOutCommand]

    /// What to type when nodes do not answer.
    static func advice(for allocation: Allocation) -> SystemAdvice

    /// What to type for an allocation of `nodes` nodes, or of `tasks` places where nodes are nil, that runs `command`.
    /// Its first word is a program of the system's, by which its presence on a machine is told.
    static func request(nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings) -> String?

    /// The command that puts `text` where the system shows it with the job; nil where it has no such place.
    static func comment(_ text: String, on allocation: Allocation) -> [String]?

    /// True in every process but one when the system starts the user's command more than once:
    /// one job is meant, not many.
    static func isFollower(_ surroundings: Surroundings) -> Bool

    /// Where a follower finds its `Summons`; nil where followers have nothing to do.
    static func post(in surroundings: Surroundings) -> FollowerPost?

    /// The commands that let waiting followers go when there will be no job.
    static func dismissal(in surroundings: Surroundings) -> [FanOutCommand]

    /// Whether its commands may see the variable `name`: not where it stands for an option of theirs, which would
    /// decide how we start a job.
    static func passesToCommands(_ name: String) -> Bool

    /// When the system ends `allocation`, asked of its commands because no variable says it; nil: it does not say.
    static func endTime(of allocation: Allocation, in surroundings: Surroundings) -> Int?
}

extension ResourceManager {
    package static func advice(for allocation: Allocation) -> SystemAdvice { SystemAdvice() }
    package static func request(nodes: Int?, tasks: Int?, command: String, in surroundings: Surroundings) -> String? {
        nil
    }
    package static func comment(_ text: String, on allocation: Allocation) -> [String]? { nil }
    package static func isFollower(_ surroundings: Surroundings) -> Bool { false }
    package static func post(in surroundings: Surroundings) -> FollowerPost? { nil }
    package static func dismissal(in surroundings: Surroundings) -> [FanOutCommand] { [] }
    package static func passesToCommands(_ name: String) -> Bool { true }
    package static func endTime(of allocation: Allocation, in surroundings: Surroundings) -> Int? { nil }
}

/// What is to be started on every node.
package struct AgentStart {
    /// In the order of the job's node numbers.
    package var nodes: [String]
    package var jobID: String
    /// The agent's program and first arguments; the node's number (-1: it knows by name) and the leader's
    /// addresses follow.
    package var command: [String]
    package var addresses: String
    /// This machine's own name, as the kernel has it.
    package var here: String

    package init(nodes: [String], jobID: String, command: [String], addresses: String, here: String) {
        self.nodes = nodes
        self.jobID = jobID
        self.command = command
        self.addresses = addresses
        self.here = here
    }

    /// The whole command for node number `index`.
    package func words(for index: Int) -> [String] { command + ["\(index)", addresses] }

    /// Whether `node` is this machine: batch systems write names with or without the domain.
    package func isHere(_ node: String) -> Bool { Self.host(node) == Self.host(here) }

    /// The same for commands that hand their words to a shell on the node: one word, quoted for it.
    package func eachNode(
        through reach: (String) -> [String], secret: FanOutCommand.SecretChannel
    ) -> [FanOutCommand] {
        nodes.enumerated().map { index, node in
            isHere(node)
                ? FanOutCommand(words: words(for: index), node: node, secret: .environment)
                : FanOutCommand(words: reach(node) + [shellText(for: index)], node: node, secret: secret)
        }
    }

    /// The command for node number `index` as sh(1) reads it; the shell becomes it.
    package func shellText(for index: Int) -> String {
        "exec " + words(for: index).map(Self.quoted).joined(separator: " ")
    }

    private static func quoted(_ word: String) -> String {
        "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }

    private static func host(_ name: String) -> Substring { name.prefix { $0 != "." } }

    /// The node this machine is gets its agent by a plain fork, every other one by `reach(node)`.
    package func eachNode(_ reach: (String) -> [String], secret: FanOutCommand.SecretChannel) -> [FanOutCommand] {
        nodes.enumerated().map { index, node in
            isHere(node)
                ? FanOutCommand(words: words(for: index), node: node, secret: .environment)
                : FanOutCommand(words: reach(node) + words(for: index), node: node, secret: secret)
        }
    }
}

/// One command of the batch system, and how the job's secret reaches the agents it starts: never as an
/// argument, which everybody on the node can read.
package struct FanOutCommand: Equatable, Sendable {
    package enum SecretChannel: Sendable {
        /// The system carries the caller's environment to the node.
        case environment
        /// It carries standard input.
        case input
        /// It carries neither: a file of mode 0600 in the job's shared directory.
        case file
    }

    package var words: [String]
    /// The only node it starts an agent on; nil for several.
    package var node: String?
    package var secret: SecretChannel
    /// What follows the secret on standard input. Then the command starts nothing: it lays a `Summons` where a
    /// process waits for it, and its success says no more than that.
    package var note: String?

    package init(words: [String], node: String? = nil, secret: SecretChannel, note: String? = nil) {
        self.words = words
        self.node = node
        self.secret = secret
        self.note = note
    }
}
