import ArgumentParser
import ContainerRuntime
import Diagnostics
import JobModel
import LaunchPlan
import LinuxSystem

/// Isolation and identity: what the container shares with its host, and who it says its user is.
struct IsolationOptions: ContainerOptionGroup {
    static let longNames = [
        "--user", "--profile", "--unshare", "--share", "--hostname", "--dev", "--seccomp", "--security-opt",
        "--fakeroot", "--fakeroot-single", "--preserve-fds", "--network",
    ]

    @Option(help: "'image' shows the image's USER inside.") var user: String?
    @Option(help: "hpc (default) or isolated: own processes, names and memory, nothing of the host's files.")
    var profile: String = "hpc"
    @Option(help: ArgumentHelp("Own namespaces: pid, ipc, uts, net, cgroup.", valueName: "ns,…"))
    var unshare: [String] = []
    @Option(help: ArgumentHelp("The host's namespaces, where the profile has own ones.", valueName: "ns,…"))
    var share: [String] = []
    @Option(help: "The container's host name.") var hostname: String?
    @Option(help: "/dev: host (hpc) or minimal (isolated).") var dev: String?
    @Option(help: "default, or off: no filter of system calls.") var seccomp: String?
    @Option(help: "seccomp=unconfined, as docker spells --seccomp off.") var securityOpt: [String] = []
    @Option(help: "host (default), none (a loopback device), or job (a private network of a parallel job's nodes).")
    var network: String = "host"
    @Flag(exclusivity: .chooseLast) var fakeroot: FakeRoot?
    @Option(help: ArgumentHelp("Descriptors 3 to 2+N pass, and no others.", valueName: "n")) var preserveFds: UInt32?

    enum FakeRoot: String, EnumerableFlag {
        case fakeroot, fakerootSingle
        static func help(for value: FakeRoot) -> ArgumentHelp? {
            value == .fakeroot ? "Show uid 0; with subordinate ids every id." : "Show uid 0 and no other id."
        }
    }

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        if try networkChoice() == .job, !context.isJob {
            throw Diagnostic(
                DiagnosticCode("option-value"), "--network job", reasons: ["one container alone has nobody to reach"],
                remedies: ["-n 1 makes it a job", "--network none gives it a loopback device and nothing else"])
        }
        if user == "image" { plan.options.insert(.imageUser) }
        try applyProfile(to: &plan, context)
        try applyDevices(to: &plan)
        try applyHostName(to: &plan)
        try applyFilter(to: &plan)
        try applyFakeRoot(to: &plan, context)
        if let preserveFds {
            guard !context.isJob else {
                throw refused(
                    "--preserve-fds \(preserveFds)",
                    "a job's ranks are started by agents, which have none of the "
                        + "caller's descriptors; a container alone (without -n and -N) can have them")
            }
            guard preserveFds <= 1 << 20 else { throw refused("--preserve-fds \(preserveFds)", "is too large") }
            plan.keptDescriptors = preserveFds
        }
        if context.isJob { try fitJob(&plan, context) }
    }

    private static let namespaces: [(name: String, flag: Int32)] = [
        ("pid", CloneFlags.newPID), ("ipc", CloneFlags.newIPC), ("uts", CloneFlags.newUTS),
        ("net", CloneFlags.newNetwork), ("cgroup", CloneFlags.newCgroup),
    ]

    private func applyProfile(to plan: inout LaunchPlan, _ context: LaunchContext) throws(Diagnostic) {
        var flags: Int32 = 0
        switch profile {
        case "hpc": break
        case "isolated":
            flags = CloneFlags.newPID | CloneFlags.newIPC | CloneFlags.newUTS | CloneFlags.newCgroup
            plan.options.formUnion([.isolated, .noHome, .privateTemporary, .minimalDevices])
            if !context.isJob { plan.keptDescriptors = 0 }
        case let other: throw refused("--profile \(other)", "is neither hpc nor isolated")
        }
        for name in unshare.flatMap({ $0.split(separator: ",") }) {
            if name == "user" || name == "mnt" || name == "mount" { continue }  // always own
            flags |= try Self.flag("--unshare", String(name))
        }
        for name in share.flatMap({ $0.split(separator: ",") }) {
            if name == "user" || name == "mnt" || name == "mount" {
                throw Diagnostic(
                    DiagnosticCode("isolation-unsupported"), "--share \(name)",
                    reasons: ["without root a container is made by its own user and mount namespaces"])
            }
            flags &= ~(try Self.flag("--share", String(name)))
        }
        // A default says nothing, so '--unshare net' keeps its meaning beside it.
        if try networkChoice() != .host { flags |= CloneFlags.newNetwork }
        plan.unshare = UInt32(bitPattern: flags)
    }

    func networkChoice() throws(Diagnostic) -> NetworkChoice {
        if let choice = NetworkChoice(rawValue: network) { return choice }
        throw Diagnostic(
            DiagnosticCode("option-value"), "--network \(network)", reasons: ["unknown network"],
            remedies: ["one of: " + NetworkChoice.allCases.map(\.rawValue).joined(separator: ", ")])
    }

    private static func flag(_ option: String, _ name: String) throws(Diagnostic) -> Int32 {
        if let known = namespaces.first(where: { $0.name == name || $0.name + "ns" == name }) { return known.flag }
        throw Diagnostic(
            DiagnosticCode("option-value"), "\(option) \(name)", reasons: ["unknown namespace"],
            remedies: ["one or more of: " + namespaces.map(\.name).joined(separator: ",")])
    }

    private func applyDevices(to plan: inout LaunchPlan) throws(Diagnostic) {
        switch dev {
        case nil: break
        case "host": plan.options.remove(.minimalDevices)
        case "minimal": plan.options.insert(.minimalDevices)
        case let other?: throw refused("--dev \(other)", "is neither host nor minimal")
        }
    }

    private func applyHostName(to plan: inout LaunchPlan) throws(Diagnostic) {
        guard let hostname else { return }
        let isName =
            (1...64).contains(hostname.utf8.count)
            && hostname.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || $0 == 0x2D
                    || $0 == 0x2E || $0 == 0x5F
            } && !hostname.hasPrefix("-") && !hostname.hasPrefix(".")
        guard isName else {
            throw refused(
                "--hostname \(hostname)", "is no host name: letters, digits, - and ., at most 64 (hostname(7))")
        }
        guard !share.flatMap({ $0.split(separator: ",") }).contains("uts") else {
            throw refused("--hostname \(hostname) --share uts", "would rename the host")
        }
        plan.unshare |= UInt32(bitPattern: CloneFlags.newUTS)
        plan.hostName = Array(hostname.utf8)
        plan.files += HostNameFiles.files(hostname)
    }

    private func applyFilter(to plan: inout LaunchPlan) throws(Diagnostic) {
        var isOff = false
        switch seccomp {
        case nil, "default": break
        case "off", "unconfined": isOff = true
        case let other?: throw refused("--seccomp \(other)", "is neither default nor off")
        }
        for option in securityOpt {
            switch option {
            case "seccomp=unconfined", "seccomp:unconfined": isOff = true
            case "no-new-privileges", "no-new-privileges:true", "no-new-privileges=true": break  // always
            default:
                throw refused(
                    "--security-opt \(option)", "is not known: seccomp=unconfined is (no-new-privileges always holds)")
            }
        }
        if isOff { plan.options.insert(.withoutFilter) }
    }

    private func applyFakeRoot(to plan: inout LaunchPlan, _ context: LaunchContext) throws(Diagnostic) {
        guard let fakeroot else { return }
        plan.options.insert(.fakeRoot)
        // A job's nodes may know other ranges than this one; one id is the same everywhere.
        guard fakeroot == .fakeroot, !context.isJob, let ids = SubordinateIDs.ofCaller() else { return }
        plan.uidMap = Array(ids.uidMap.utf8)
        plan.gidMap = Array(ids.gidMap.utf8)
    }

    /// The agent stays outside of a pid namespace it makes, so that stays the node's. A network of the
    /// container's own is the agent's, too, and made by it ('--network').
    private func fitJob(_ plan: inout LaunchPlan, _ context: LaunchContext) throws(Diagnostic) {
        let typed = Set(unshare.flatMap { $0.split(separator: ",") })
        for name in context.hasOwnContainers ? ["net"] : ["pid", "net"] where typed.contains(Substring(name)) {
            throw Diagnostic(
                DiagnosticCode("isolation-unsupported"), "--unshare \(name)",
                reasons: ["the ranks of a parallel job share their node's \(name) namespace: MPI needs it"],
                remedies: name == "net"
                    ? ["--network none or --network job: one for all ranks of a node"]
                    : ["leave out --unshare \(name); '--profile isolated' works in jobs without it"])
        }
        // A container for one rank has a keeper outside, which stands for it.
        if !context.hasOwnContainers { plan.unshare &= ~UInt32(bitPattern: CloneFlags.newPID) }
    }

    private func refused(_ subject: String, _ reason: String) -> Diagnostic {
        Diagnostic(DiagnosticCode("option-value"), subject, reasons: [reason])
    }
}
