import JobModel

/// The argument lists trireme gives Grid Engine's commands (qrsh(1)).
package enum GridEngineCommands {
    /// `command` inside a fresh job of the parallel environment `environment`, which fills node after node.
    ///
    /// Slots are all it asks for: a number of nodes is that many times what a node has. `-V`, as this command line
    /// is one on the caller's own machine; `-noshell`, as the words are not for a shell to read.
    package static func allocation(
        for request: ResourceRequest, slotsPerNode: Int, environment: String, hasTerminal: Bool = false,
        command: [String]
    ) -> [String] {
        let perTask = request.cpusPerTask ?? 1
        var slots = (request.tasks ?? 1) * perTask
        let nodes =
            request.nodes
            ?? request.tasksPerNode.map { perNode in ((request.tasks ?? perNode) + perNode - 1) / perNode }
        if let nodes { slots = max(slots, nodes * slotsPerNode) }
        // qrsh(1), -pty: without it the command has pipes, whatever the caller has.
        let terminal = hasTerminal ? ["-pty", "y"] : []
        return ["qrsh", "-V", "-cwd", "-now", "n", "-noshell"] + terminal + ["-pe", environment, "\(slots)"] + command
    }
}
