import Glibc
import JobModel
import JobWire
import NodeAgent

/// Commands that processes of the job have run on its other nodes: launchers their daemons, everybody else by `ssh`.
extension JobLeader {
    func takeOfShell(_ message: WireMessage, from node: Int) {
        switch message {
        case .remote(let request, let command): run(command, for: request, of: node)
        case .input(let request, let bytes): pass(node, request) { .input(channel: $0, bytes: bytes) }
        case .taken(let request, let count): pass(node, request) { .taken(channel: $0, count: count) }
        case .hangUp(let request): pass(node, request) { .hangUp(channel: $0) }
        case .launched(let channel, let pid):
            guard let origin = channels[channel]?.origin else { return }
            agents[origin.node]?.connection.send(.launched(channel: origin.request, pid: pid))
        default: break
        }
    }

    /// Input that reached a process: the job's own, or that of somebody on another node.
    func consumed(_ channel: UInt32, _ count: Int) {
        guard let origin = channels[channel]?.origin else { return streams.inputTaken(count) }
        agents[origin.node]?.connection.send(.consumed(channel: origin.request, count: count))
    }

    private func run(_ command: RemoteCommand, for request: UInt32, of node: Int) {
        guard let target = self.node(meantBy: command, saidOn: node) else {
            let nodes = HostList(job.map.nodes.map(\.name))
            agents[node]?.connection.send(
                .refused(channel: request, errno: Int(EHOSTUNREACH), subject: "not a node of this job (\(nodes))"))
            return
        }
        let shell = [Array("/bin/sh".utf8), Array("-c".utf8), command.line]
        var launch = Launch(arguments: shell, takesInput: command.takesInput)
        launch.hasWindow = true
        launch.terminal = command.terminal
        self.launch(launch, on: target, origin: (node, request))
    }

    /// By the name that was said, else by what the asker's own node knows that name to mean.
    private func node(meantBy command: RemoteCommand, saidOn node: Int) -> Int? {
        if ShellNames.isLocal(command.host) { return node }
        for name in [command.host] + command.others {
            let found = job.map.nodes.indices.first { index in
                ([job.map.nodes[index].name, agents[index]?.address ?? "", address(of: index)]
                    + (agents[index]?.names ?? []))
                    .contains { ShellNames.isSame($0, name) }
            }
            if let found { return found }
        }
        return nil
    }

    private func pass(_ node: Int, _ request: UInt32, _ message: (UInt32) -> WireMessage) {
        let known = channels.first { $0.value.origin.map { $0.node == node && $0.request == request } ?? false }
        if let known { agents[known.value.node]?.connection.send(message(known.key)) }
    }
}
