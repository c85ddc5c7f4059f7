// What parallel programs and virtual clusters need.
extension HostReport {
    static func lockedMemory(_ facts: HostFacts) -> Finding {
        guard let limit = facts.lockedMemoryBytes else { return .ok("memlock", "unlimited") }
        let fact = "limited to \(inWords(bytes: limit))"
        if facts.verbsDevices.isEmpty { return .ok("memlock", fact + "; no verbs device here needs more") }
        if limit >= 1 << 30 { return .ok("memlock", fact) }
        return .warn(
            "memlock", "\(fact), devices: \(facts.verbsDevices.joined(separator: ","))",
            cause: "InfiniBand and RoCE lock the memory they send from; MPI falls back to TCP or fails",
            fix: "as administrator: '* - memlock unlimited' in /etc/security/limits.d and "
                + "LimitMEMLOCK=infinity for the batch system's daemon")
    }

    static func siblingMemory(_ facts: HostFacts) -> Finding {
        let setting = facts.ptraceScope.map { "kernel.yama.ptrace_scope is \($0)" } ?? "no Yama"
        if facts.siblingMemory == .worked {
            return .ok("ptrace-scope", "\(setting); a process read its sibling's memory")
        }
        if let scope = facts.ptraceScope, scope > 0 {
            return .warn(
                "ptrace-scope", "\(setting); \(facts.siblingMemory.sentence)",
                cause: "ranks of a node cannot copy large messages directly (CMA) and copy twice",
                fix: "as administrator: sysctl -w kernel.yama.ptrace_scope=0")
        }
        return .warn(
            "ptrace-scope", "\(setting); \(facts.siblingMemory.sentence)",
            cause: "a filter or security module forbids process_vm_readv; ranks of a node copy large messages twice",
            fix: "allow process_vm_readv(2) in the profile of the outer container (docker: --cap-add SYS_PTRACE)")
    }

    static func virtualNetwork(_ facts: HostFacts) -> Finding {
        let name = "virtual-network"
        guard facts.userNamespace == .worked else { return needsUserNamespaces(name) }
        if facts.virtualNetwork == .worked { return .ok(name, "made a bridge and a veth pair in a network namespace") }
        let step = facts.virtualNetwork.step ?? ""
        let isLink = step.hasPrefix("netlink")
        return .warn(
            name, facts.virtualNetwork.sentence,
            cause: isLink
                ? "clusters connect their nodes with it, and the kernel has no such link type loaded"
                : "clusters need a network namespace, which is refused",
            fix: isLink
                ? "as administrator: modprobe -a bridge veth"
                : facts.virtualNetwork.errno == 28
                    ? "as administrator: sysctl -w user.max_net_namespaces=65536"
                    : "allow network namespaces in the profile of the outer container or service")
    }

    static func congestionControl(_ facts: HostFacts) -> Finding {
        let name = "tcp-congestion-control"
        let host = facts.congestionControl ?? "unknown"
        guard facts.userNamespace == .worked else { return needsUserNamespaces(name) }
        if facts.renoSelectable == .worked {
            return .ok(name, "\(host) on the host; nodes of clusters can choose reno")
        }
        if host == "reno" || host == "cubic" { return .ok(name, "\(host), which nodes of clusters inherit") }
        return .warn(
            name, "\(host); choosing reno in a network namespace: \(facts.renoSelectable.sentence)",
            cause: "nodes of clusters inherit \(host), which made for wide networks slows MPI on one machine down",
            fix: "as administrator: sysctl -w net.ipv4.tcp_congestion_control=cubic")
    }

    static func scheduler(_ facts: HostFacts) -> Finding {
        let name = "scheduler"
        if let inside = facts.schedulers.first(where: { $0.job != nil }) {
            let fact = "\(inside.name), inside allocation \(inside.job ?? "")"
            if inside.launcherFound { return .ok(name, "\(fact), \(inside.launcher) found") }
            return .warn(
                name, "\(fact), no \(inside.launcher) in PATH",
                cause: "trireme starts tasks on the other nodes with \(inside.launcher)",
                fix: "add the directory of \(inside.launcher) to PATH (often: module load \(moduleName(inside.name)))")
        }
        if facts.schedulers.isEmpty {
            return .skip(name, "none in PATH", cause: "trireme runs parallel jobs on this machine alone")
        }
        let found = facts.schedulers.map { "\($0.name) (\($0.command ?? ""))" }
        return .ok(name, found.joined(separator: ", ") + ", outside an allocation")
    }

    private static func moduleName(_ scheduler: String) -> String {
        switch scheduler {
        case "Grid Engine": "sge"
        case "HTCondor": "condor"
        default: scheduler.lowercased()
        }
    }

    static func clock(_ facts: HostFacts) -> Finding {
        let fact = timestamp(facts.clock)
        if facts.clock < facts.programsWritten {
            return .warn(
                "clock", fact,
                cause:
                    "trireme's programs were written later (\(timestamp(facts.programsWritten))): the clock is behind, "
                    + "and batch systems refuse credentials from the wrong time",
                fix: "as administrator: switch time synchronisation on (timedatectl set-ntp true)")
        }
        return .ok("clock", fact)
    }

    /// RFC 3339 in UTC of seconds since 1970.
    static func timestamp(_ seconds: Int64) -> String {
        // Civil date from days since 1970, in eras of 400 years that begin with March.
        let days = seconds >= 0 ? seconds / 86400 : (seconds - 86399) / 86400
        let rest = seconds - days * 86400
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let day = shifted - era * 146_097
        let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365
        let dayOfYear = day - (365 * year + year / 4 - year / 100)
        let month = (5 * dayOfYear + 2) / 153
        func two(_ n: Int64) -> String { n < 10 ? "0\(n)" : "\(n)" }
        let civilMonth = month < 10 ? month + 3 : month - 9
        return "\(year + era * 400 + (civilMonth <= 2 ? 1 : 0))-\(two(civilMonth))-"
            + "\(two(dayOfYear - (153 * month + 2) / 5 + 1))T"
            + "\(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60))Z"
    }
}
