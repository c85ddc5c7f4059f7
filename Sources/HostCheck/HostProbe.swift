import CLinux
import Glibc
import LinuxSystem
import SiteConfiguration

/// Measures this host. Everything that can be tried is tried, in child processes that end at once.
///
/// Call it from a program with one thread: the children go on in Swift after fork(2).
package struct HostProbe {
    let locations: Locations
    let environment: (String) -> String?
    /// The directory trireme's programs are installed in.
    let programDirectory: String

    package init(
        locations: Locations, programDirectory: String,
        environment: @escaping (String) -> String? = { getenv($0).map { String(cString: $0) } }
    ) {
        self.locations = locations
        self.programDirectory = programDirectory
        self.environment = environment
    }

    package func facts() -> HostFacts {
        var facts = HostFacts()
        measureSystem(&facts)
        measureNamespaces(&facts)
        measureFileSystems(&facts)
        measureParallelism(&facts)
        facts.cgroup = controlGroups()
        facts.schedulers = Self.schedulers(environment: environment)
        measurePrograms(&facts)
        return facts
    }

    private func measureSystem(_ facts: inout HostFacts) {
        var name = utsname()
        uname(&name)
        func text<T>(_ field: T) -> String {
            withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        }
        facts.kernel = "\(text(name.release)) \(text(name.machine))"
        facts.isRoot = geteuid() == 0
        facts.maxUserNamespaces = Self.number(in: "/proc/sys/user/max_user_namespaces")
        facts.unprivilegedUserNamespaces = Self.number(in: "/proc/sys/kernel/unprivileged_userns_clone")
        facts.appArmorRestrictsUserNamespaces = Self.number(
            in: "/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
        facts.ptraceScope = Self.number(in: "/proc/sys/kernel/yama/ptrace_scope")
        facts.congestionControl = Self.firstLine(of: "/proc/sys/net/ipv4/tcp_congestion_control")
        let status = Self.lines(of: "/proc/self/status")
        facts.seccompMode =
            status.first { $0.hasPrefix("Seccomp:") }.flatMap { Int($0.dropFirst(8).filter(\.isNumber)) } ?? 0
        let mounts = Self.lines(of: "/proc/self/mountinfo").map { $0.split(separator: " ") }
        facts.isChrooted = !mounts.isEmpty && !mounts.contains { $0.count > 4 && $0[4] == "/" }
        facts.subordinateUsers = subordinateIDs(in: "/etc/subuid")
        facts.subordinateGroups = subordinateIDs(in: "/etc/subgid")
    }

    /// The number of ids that subuid(5) or subgid(5) lists for the caller, by name or number.
    private func subordinateIDs(in file: String) -> Int {
        // Not getpwuid(3): in a static program it loads the site's name service modules.
        let user = environment("USER") ?? environment("LOGNAME")
        return Self.lines(of: file).reduce(0) { sum, line in
            let fields = line.split(separator: ":")
            guard fields.count == 3, String(fields[0]) == user || String(fields[0]) == "\(getuid())" else { return sum }
            return sum + (Int(fields[2]) ?? 0)
        }
    }

    private func measureParallelism(_ facts: inout HostFacts) {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(8 /* RLIMIT_MEMLOCK */), &limit)
        facts.lockedMemoryBytes = limit.rlim_cur == .max ? nil : UInt64(limit.rlim_cur)
        facts.verbsDevices = Self.names(in: "/sys/class/infiniband")
        facts.siblingMemory = Self.trySiblingMemory()
    }

    private func measurePrograms(_ facts: inout HostFacts) {
        facts.clock = Int64(time(nil))
        for name in ["trireme", "trireme-cli", "trireme-agent"] {
            let path = programDirectory + "/" + name
            facts.programs.append(.init(path: path, isExecutable: access(path, X_OK) == 0))
            var status = stat()
            if stat(path, &status) == 0 {
                facts.programsWritten = max(facts.programsWritten, Int64(status.st_mtim.tv_sec))
            }
        }
    }

    /// Batch systems by their commands in PATH and their mark in the environment.
    static func schedulers(environment: (String) -> String?) -> [HostFacts.Scheduler] {
        let path = (environment("PATH") ?? "").split(separator: ":").map(String.init)
        func find(_ name: String) -> String? {
            path.lazy.map { $0 + "/" + name }.first { access($0, X_OK) == 0 }
        }
        // Name, command that submits or starts, command that starts tasks in an allocation, variable with its id.
        let known: [(String, [String], String, String)] = [
            ("Slurm", ["srun", "sbatch"], "srun", "SLURM_JOB_ID"),
            ("PBS", ["pbsnodes", "pbsdsh"], "pbsdsh", "PBS_JOBID"),
            ("LSF", ["bsub"], "blaunch", "LSB_JOBID"),
            ("Grid Engine", ["qrsh"], "qrsh", "SGE_TASK_ID"),
            ("HTCondor", ["condor_submit"], "condor_submit", "_CONDOR_JOB_AD"),
            ("Flux", ["flux"], "flux", "FLUX_JOB_ID"),
        ]
        return known.compactMap { name, commands, launcher, variable in
            let command = commands.lazy.compactMap(find).first
            // Grid Engine says "undefined" for the task of a job that is no array; the job's id is JOB_ID.
            let job = environment(variable).map { name == "Grid Engine" ? environment("JOB_ID") ?? $0 : $0 }
            if command == nil && job == nil { return nil }
            return .init(
                name: name, command: command, launcher: launcher, launcherFound: find(launcher) != nil, job: job)
        }
    }

    // Small files of proc and sys; nil or empty when unreadable, which here means "not on this kernel".
    static func lines(of path: String) -> [String] {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY), let bytes = try? file.readAll(limit: 4 << 20) else {
            return []
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }
    static func firstLine(of path: String) -> String? { lines(of: path).first }
    static func number(in path: String) -> Int? { firstLine(of: path).flatMap { Int($0) } }
    static func names(in path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}
