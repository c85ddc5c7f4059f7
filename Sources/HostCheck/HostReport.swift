/// Judges the facts: pure, one function per line, in the order they are printed.
package struct HostReport: Sendable {
    package let findings: [Finding]

    package init(_ facts: HostFacts) {
        let general = [
            Self.kernel(facts), Self.programs(facts), Self.userNamespaces(facts), Self.userNamespaceLimit(facts),
            Self.subordinateIDs(facts), Self.pidNamespaces(facts), Self.overlay(facts), Self.overlayUpper(facts),
            Self.fuse(facts), Self.seccomp(facts), Self.noNewPrivileges(facts), Self.controlGroups(facts),
            Self.store(facts), Self.storeSpace(facts), Self.storeXattr(facts), Self.storeWhiteout(facts),
            Self.storeOverlay(facts), Self.temporary(facts), Self.sharedMemory(facts), Self.lockedMemory(facts),
            Self.siblingMemory(facts), Self.virtualNetwork(facts), Self.congestionControl(facts),
            Self.scheduler(facts), Self.clock(facts),
        ]
        let devices = facts.devices.map { devices in
            [Self.gpu(devices), Self.deviceSpecifications(devices), Self.fabric(devices), Self.mpi(devices)]
        }
        findings = general + (devices ?? [])
    }

    package func count(_ level: Finding.Level) -> Int { findings.count { $0.level == level } }

    /// 1 when something fails, else 0.
    package var exitStatus: Int32 { count(.fail) > 0 ? 1 : 0 }

    /// `21 ok, 2 warn, 0 fail, 2 skip`
    package var summary: String {
        Finding.Level.allCases.map { "\(count($0)) \($0.rawValue)" }.joined(separator: ", ")
    }

    /// Lines for people: level, check and fact; below what is not well, cause and fix.
    package var table: String {
        let width = findings.map(\.check.count).max() ?? 0
        var text = ""
        for finding in findings {
            text += Self.padded(finding.level.rawValue, 6) + Self.padded(finding.check, width + 2) + finding.fact + "\n"
            if let cause = finding.cause { text += "      cause: \(cause)\n" }
            if let fix = finding.fix { text += "      fix: \(fix)\n" }
        }
        return text + summary + "\n"
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(1, width - text.count))
    }
}

// The start of a container: kernel, programs, namespaces.
extension HostReport {
    static func kernel(_ facts: HostFacts) -> Finding {
        let numbers = facts.kernel.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        // mount_setattr(2) is of 5.12, overlays in user namespaces of 5.11.
        if numbers.count == 2, (numbers[0], numbers[1]) < (5, 12), facts.userNamespace != .worked {
            return .warn(
                "kernel", facts.kernel, cause: "trireme uses system calls of Linux 5.12",
                fix: "boot a kernel of 5.12 or later (RHEL 9, Debian 12, Ubuntu 22.04, SLES 15 SP4)")
        }
        return .ok("kernel", facts.kernel)
    }

    static func programs(_ facts: HostFacts) -> Finding {
        let missing = facts.programs.filter { !$0.isExecutable }.map(\.path)
        if missing.isEmpty {
            let paths = facts.programs.map(\.path)
            return .ok("programs", paths.isEmpty ? "none looked for" : paths.joined(separator: ", "))
        }
        let names = missing.map { String($0[($0.lastIndex(of: "/").map($0.index(after:)) ?? $0.startIndex)...]) }
        return .fail(
            "programs", "missing or not executable: " + missing.joined(separator: ", "),
            cause: "trireme's programs call each other and lie side by side in one directory",
            fix: "install \(names.joined(separator: " and ")) of the same version next to the others")
    }

    static func userNamespaces(_ facts: HostFacts) -> Finding {
        let name = "user-namespaces"
        guard facts.userNamespace != .worked else {
            return .ok(name, "made one, mapped the caller, mounted in it")
        }
        let fact = facts.userNamespace.sentence
        let (cause, fix) = userNamespaceCause(facts)
        return .fail(name, fact, cause: cause, fix: fix)
    }

    /// The settings are looked at from the surest to the least sure.
    private static func userNamespaceCause(_ facts: HostFacts) -> (String, String) {
        let step = facts.userNamespace.step ?? ""
        let isUnshare = step.hasPrefix("unshare")
        switch facts.userNamespace.errno {
        case 28 where isUnshare, 87 where isUnshare:  // ENOSPC; EUSERS of older kernels
            if facts.maxUserNamespaces == 0 {
                return (
                    "user.max_user_namespaces is 0: user namespaces are switched off",
                    "as administrator: sysctl -w user.max_user_namespaces=65536 (and keep it in /etc/sysctl.d)"
                )
            }
            return (
                "the limit user.max_user_namespaces=\(facts.maxUserNamespaces.map(String.init) ?? "?") is used up, "
                    + "or namespaces are nested more than 32 deep",
                "end containers left behind (lsns -t user), or as administrator raise user.max_user_namespaces"
            )
        case 22 where isUnshare:
            return (
                "this kernel is built without user namespaces (CONFIG_USER_NS)",
                "boot a kernel with CONFIG_USER_NS=y"
            )
        default: break
        }
        if step.hasPrefix("mount_setattr"), facts.userNamespace.errno == 38 {
            return ("the kernel has no mount_setattr, which is of Linux 5.12", "boot a kernel of 5.12 or later")
        }
        if facts.unprivilegedUserNamespaces == 0 {
            return (
                "kernel.unprivileged_userns_clone is 0: only root may make user namespaces",
                "as administrator: sysctl -w kernel.unprivileged_userns_clone=1 (and keep it in /etc/sysctl.d)"
            )
        }
        if let restricts = facts.appArmorRestrictsUserNamespaces, restricts > 0 {
            return (
                "AppArmor takes every capability away in user namespaces of programs without a profile "
                    + "(kernel.apparmor_restrict_unprivileged_userns is \(restricts))",
                "as administrator: give trireme a profile with 'userns,' in /etc/apparmor.d, "
                    + "for each of its programs (Documentation/Reference/doctor.md shows it)"
            )
        }
        if facts.isChrooted {
            return (
                "this process runs in a chroot, where the kernel refuses user namespaces",
                "run trireme outside the chroot, or enter it with pivot_root(2) (unshare, bwrap) instead of chroot"
            )
        }
        if facts.seccompMode != 0 {
            return (
                "a system call filter from outside forbids it: this process runs in a container or a confined service",
                "start the outer container with a profile that allows unshare and mount "
                    + "(docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined)"
            )
        }
        return (
            "no setting that trireme knows forbids it; a security module (SELinux, Landlock) or a chroot can",
            "look for the refusal in the kernel's log (as administrator: dmesg, ausearch -m avc)"
        )
    }

    static func userNamespaceLimit(_ facts: HostFacts) -> Finding {
        let name = "user-namespace-limit"
        guard let limit = facts.maxUserNamespaces else {
            return .skip(name, "not set on this kernel", cause: "there is no user.max_user_namespaces to read")
        }
        if limit == 0 {
            return .fail(
                name, "user.max_user_namespaces is 0", cause: "user namespaces are switched off",
                fix: "as administrator: sysctl -w user.max_user_namespaces=65536 (and keep it in /etc/sysctl.d)")
        }
        if limit < 256 {
            return .warn(
                name, "user.max_user_namespaces is \(limit)",
                cause: "each container holds one namespace; many ranks or clusters use the limit up",
                fix: "as administrator: sysctl -w user.max_user_namespaces=65536 (and keep it in /etc/sysctl.d)")
        }
        return .ok(name, "user.max_user_namespaces is \(limit)")
    }

    static func subordinateIDs(_ facts: HostFacts) -> Finding {
        .ok(
            "subordinate-ids",
            "\(facts.subordinateUsers) user and \(facts.subordinateGroups) group ids listed; trireme needs none")
    }

    static func pidNamespaces(_ facts: HostFacts) -> Finding {
        let name = "pid-namespaces"
        guard facts.userNamespace == .worked else { return needsUserNamespaces(name) }
        if facts.pidNamespace == .worked { return .ok(name, "made one with its own /proc") }
        return .warn(
            name, facts.pidNamespace.sentence,
            cause: "the host's /proc is partly covered (an outer container masks it) or pid namespaces are forbidden, "
                + "so that --profile isolated and clusters cannot have their own",
            fix: "start the outer container with an unmasked /proc (podman: --security-opt unmask=ALL, "
                + "docker: --security-opt systempaths=unconfined)")
    }

    static func needsUserNamespaces(_ name: String) -> Finding {
        .skip(name, "not tried", cause: "needs user-namespaces, which failed")
    }

    static func seccomp(_ facts: HostFacts) -> Finding {
        if facts.seccomp == .worked { return .ok("seccomp", "installed trireme's filter in a child process") }
        return .fail(
            "seccomp", facts.seccomp.sentence,
            cause: "the kernel has no system call filters, or an outer filter forbids them; "
                + "containers start with one by default",
            fix: "boot a kernel with CONFIG_SECCOMP_FILTER=y, or allow seccomp(2) in the outer container's profile")
    }

    static func noNewPrivileges(_ facts: HostFacts) -> Finding {
        if facts.noNewPrivileges == .worked {
            return .ok("no-new-privs", "set in a child process: setuid programs gain nothing in containers")
        }
        return .fail(
            "no-new-privs", facts.noNewPrivileges.sentence,
            cause: "without it a setuid program of an image could gain privileges; trireme refuses to start",
            fix: "allow prctl(2) in the profile of the outer container or service")
    }

    static func controlGroups(_ facts: HostFacts) -> Finding {
        let groups = facts.cgroup
        let name = "cgroup"
        let limits = "--memory, --cpus and --pids-limit cannot be enforced with control groups"
        switch groups.mode {
        case .none:
            return .warn(
                name, "no control groups mounted", cause: limits,
                fix: "as administrator: mount -t cgroup2 none /sys/fs/cgroup, or let systemd do it")
        case .v2 where groups.isDelegated:
            let missing = ["memory", "cpu", "pids"].filter { !groups.controllers.contains($0) }
            if missing.isEmpty { return .ok(name, "v2, delegated: \(groups.ownDirectory ?? "")") }
            return .warn(
                name, "v2, delegated without \(missing.joined(separator: ", ")): \(groups.ownDirectory ?? "")",
                cause: "a controller that is not passed down cannot limit anything: " + limits,
                fix:
                    "as administrator: Delegate=cpu cpuset io memory pids in user@.service.d (systemctl edit user@.service)"
            )
        case .v1 where !groups.writableControllers.isEmpty, .hybrid where !groups.writableControllers.isEmpty:
            return .ok(name, "\(groups.mode.rawValue), writable: " + groups.writableControllers.joined(separator: ","))
        case .v2 where groups.hasUserManager:
            return .warn(
                name, "v2, not delegated: \(groups.ownDirectory ?? "no directory visible")", cause: limits,
                fix: "systemd-run --user --scope -p Delegate=yes trireme run …")
        case .v2, .v1, .hybrid:
            return .warn(
                name, "\(groups.mode.rawValue), not delegated to this user", cause: limits,
                fix: "ask the batch system for the limit (srun --mem, -c), or the administrator for a delegated "
                    + "group (systemd: Delegate=yes)")
        }
    }
}
